import { createHash } from "node:crypto";
import { pinImages } from "../../build/pin-images.ts";
import { failure, imageFailure } from "../../domain/failure.ts";
import { mostPins, type PinnedImage } from "../../domain/images/pins.ts";
import { identityKey, type Fact, type FactKey, type RenderFact } from "../../domain/pass/state.ts";
import type { RenderedObject } from "../../domain/rendered.ts";
import type { Engine } from "../engine.ts";
import { passGate, replacements, type GateVerdict } from "../image-gate.ts";
import type { Pass } from "../pass.ts";
import { localAccessOf } from "./connection.ts";

type ImagesKey = Extract<FactKey, { kind: "images" }>;
type Rendered = Extract<RenderFact, { kind: "rendered" }>;

/**
 * Judges the images of the render a stage is about to be applied from. The render with its images pinned takes that one's
 * place among the facts, and with that everywhere.
 */
export async function readImages(engine: Engine, pass: Pass, key: ImagesKey, signal: AbortSignal): Promise<Fact> {
  const name = ` ${key.stage} ${key.identity.revision} ${key.identity.digest ?? ""}`;
  const render = renderOf(pass, name);
  const images = [...new Set(render.objects.flatMap((object) => object.images ?? []))];
  const recorded = new Map(key.pinned.map(({ image, digest }) => [image, digest]));
  pass.session.images.set(key.stage, images);
  const verdict: GateVerdict =
    key.skip === undefined
      ? await passGate(
          engine.images,
          {
            images,
            objects: render.objects,
            pinned: recorded,
            access: (aborted) => localAccessOf(engine, pass.key.namespace, key.as, aborted),
            accessKey: identityKey(key.as),
            annotations: pass.snapshot.annotations,
            queue: pass.key.namespace,
          },
          signal,
        )
      : { kind: "passed", replaced: new Map(), digests: new Map(), exempted: [] };
  if (verdict.kind !== "passed") return refusal(key, verdict);
  // What is pinned stays so while the revision does, whether or not a policy still asks for it.
  const kept = new Map([...recorded].filter(([image]) => images.includes(image)));
  const pinned = pinsOf(new Map([...kept, ...verdict.digests]));
  if (pinned.length > mostPins)
    return refusal(key, {
      kind: "refused",
      why: `the stage has ${pinned.length} images with tags, of which ${mostPins} can be pinned: name digests`,
    });
  say(pass, key, verdict.exempted);
  const replaced = new Map([...replacements(kept), ...verdict.replaced]);
  const judged = withPins(pass, { key, render, replaced });
  for (const object of judged.objects) if (object.images !== undefined) pass.judged.add(object.hash);
  pass.facts.set(`render stage${name}`, { kind: "render", render: judged });
  return { kind: "images", renderHash: judged.hash, pins: pinned };
}

function renderOf(pass: Pass, name: string): Rendered {
  const fact = pass.facts.get(`render stage${name}`) ?? pass.facts.get(`render preflight${name}`);
  if (fact?.kind !== "render" || fact.render.kind !== "rendered") throw new Error("images of a stage without a render");
  return fact.render;
}

function refusal({ stage }: ImagesKey, { kind, why }: Exclude<GateVerdict, { kind: "passed" }>): Fact {
  if (kind === "denied") return { kind: "failed", failure: failure("RBACDenied", why) };
  const cause = { name: stage, operation: "image verification", cause: why } as const;
  return { kind: "failed", failure: imageFailure(cause, kind) };
}

/** Only tags move. */
function pinsOf(digests: ReadonlyMap<string, string>): readonly PinnedImage[] {
  return [...digests]
    .filter(([image]) => !image.includes("@"))
    .map(([image, digest]) => ({ image, digest }))
    .sort((a, b) => (a.image < b.image ? -1 : 1));
}

/** Rewritten once for what it is made from: passes come again and again. */
function withPins(
  pass: Pass,
  from: { readonly key: ImagesKey; readonly render: Rendered; readonly replaced: ReadonlyMap<string, string> },
): Rendered {
  const { key, render, replaced } = from;
  const of = JSON.stringify([render.hash, [...replaced].sort()]);
  const known = pass.session.pinned.get(key.stage);
  if (known?.of === of && known.source === render.objects) return known.render;
  const objects = render.objects.map((object) => pinImages(object, replaced));
  const changed = objects.some((object, index) => object !== render.objects[index]);
  const pinned = changed ? { ...render, objects, hash: hashOf(objects) } : render;
  pass.session.pinned.set(key.stage, { of, source: render.objects, render: pinned });
  return pinned;
}

function hashOf(objects: readonly RenderedObject[]): string {
  return createHash("sha256")
    .update(JSON.stringify(objects.map((object) => [object.id, object.version, object.hash])))
    .digest("hex");
}

function say(
  pass: Pass,
  { stage, identity, entering }: ImagesKey,
  exempted: Extract<GateVerdict, { kind: "passed" }>["exempted"],
): void {
  if (exempted.length === 0 || !entering) return;
  const named = exempted.slice(0, 20).map(({ image, policies }) => `"${image}" (${policies.join(", ")})`);
  const more = exempted.length > named.length ? ` and ${exempted.length - named.length} more` : "";
  pass.report.event({
    type: "Normal",
    reason: "ImageVerificationExempted",
    note: `stage "${stage}" of revision "${identity.revision}": exempt by policy: ${named.join(", ")}${more}`,
    once: `exempted ${stage} ${identity.revision} ${identity.digest ?? ""}`,
  });
}
