import { ActionError } from "../actions/action-error.ts";
import type { PatchedObject } from "../actions/context.ts";
import { pinImages } from "../build/pin-images.ts";
import type { ActionCall } from "../domain/actions/action-run.ts";
import { imagesOf } from "../domain/images/pod-spec.ts";
import { skipsArtifact } from "../domain/images/break-glass.ts";
import { parseImageReference } from "../domain/images/reference.ts";
import { identityKey } from "../domain/pass/state.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import { quote } from "../domain/validation/finding.ts";
import type { Engine } from "./engine.ts";
import { localAccessOf } from "./facts/connection.ts";
import { passGate, type GateVerdict } from "./image-gate.ts";
import type { Pass } from "./pass.ts";

type Acting = Pick<Pass, "key" | "snapshot">;

/**
 * The objects of a job or apply action with their images verified and pinned (spec 50 §4.2, gated).
 *
 * @throws {ActionError} `image`, `unknownImage`
 */
export async function pinActionImages(
  engine: Engine,
  pass: Acting,
  of: {
    readonly call: ActionCall;
    readonly objects: readonly RenderedObject[];
    /** Of the artifact that they are from. */
    readonly digest: string | undefined;
  },
  signal: AbortSignal,
): Promise<readonly RenderedObject[]> {
  const { call, objects, digest } = of;
  const images = [...new Set(objects.flatMap((object) => object.images ?? []))];
  if (images.length === 0 || skipsArtifact(call, digest)) return objects;
  const { replaced } = await judged(engine, pass, { call, images, objects }, signal);
  return objects.map((object) => pinImages(object, replaced));
}

/**
 * Whether a patch may bring its target the images that are new to it: those that policies govern have to be named by
 * digest, since a patch is sent as it is written.
 *
 * @throws {ActionError} `image`, `unknownImage`
 */
export async function judgePatch(
  engine: Engine,
  pass: Acting,
  of: { readonly call: ActionCall; readonly patched: PatchedObject },
  signal: AbortSignal,
): Promise<void> {
  const { call, patched } = of;
  const { group, kind, before, after, namespace } = patched;
  if (call.skipsImages !== undefined) return;
  const had = new Set(imagesOf(before, { group, kind }));
  const images = imagesOf(after, { group, kind }).filter((image) => !had.has(image));
  if (images.length === 0) return;
  const object = { group, kind, namespace, images, body: Buffer.from(JSON.stringify(after)) };
  const { digests } = await judged(engine, pass, { call, images, objects: [object] }, signal);
  const tagged = [...digests.keys()].find((image) => parseImageReference(image)?.digest === undefined);
  if (tagged !== undefined)
    throw new ActionError(
      `image ${quote(tagged)} of a patch must be named by its digest, ${digests.get(tagged) ?? ""}`,
      {
        class: "image",
      },
    );
}

async function judged(
  engine: Engine,
  pass: Acting,
  of: {
    readonly call: ActionCall;
    readonly images: readonly string[];
    readonly objects: Parameters<typeof passGate>[1]["objects"];
  },
  signal: AbortSignal,
): Promise<Extract<GateVerdict, { kind: "passed" }>> {
  const { call, images, objects } = of;
  const verdict = await passGate(
    engine.images,
    {
      images,
      objects,
      pinned: new Map(),
      access: (aborted) => localAccessOf(engine, pass.key.namespace, call.as, aborted),
      accessKey: identityKey(call.as),
      annotations: pass.snapshot.annotations,
      queue: pass.key.namespace,
    },
    signal,
  );
  if (verdict.kind === "passed") return verdict;
  const classes = { refused: "image", unknown: "unknownImage", denied: "permanent" } as const;
  throw new ActionError(verdict.why, { class: classes[verdict.kind] });
}
