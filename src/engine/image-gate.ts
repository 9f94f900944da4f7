import type { RenderedObject } from "../domain/rendered.ts";
import { quote } from "../domain/validation/finding.ts";
import { skipUnusable, type BreakGlass } from "../domain/images/break-glass.ts";
import { planImages, type GovernedImage } from "../domain/images/plan-images.ts";
import { pullerOf } from "../domain/images/pod-spec.ts";
import { mostPins } from "../domain/images/pins.ts";
import { parseImageReference, pinnedImage } from "../domain/images/reference.ts";
import type { JudgingPolicy } from "../domain/images/governing.ts";
import type { Credential } from "../images/registry-client.ts";
import type { ImageVerdict, ImageVerifier } from "../images/image-verifier.ts";
import type { Access } from "../identity/access.ts";
import { deadline } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";
import { readPullCredential, type Pulls } from "./pull-secrets.ts";

/** The policies of this moment; without their kind there are none, and where they cannot be read nothing may pass. */
export type PolicyView =
  | { readonly kind: "known"; readonly policies: readonly JudgingPolicy[] }
  | { readonly kind: "denied" | "unknown"; readonly why: string };

/** What images are judged with. */
export interface ImageGate {
  readonly clock: Clock;
  readonly policies: () => PolicyView;
  readonly verifier: ImageVerifier;
  /** `--require-image-verification`. */
  readonly unmatched: "allowed" | "refused";
  readonly breakGlass: BreakGlass;
  /** From the controller's own docker config. */
  readonly ownCredential: (image: {
    readonly registry: string;
    readonly repository: string;
  }) => Promise<Credential | undefined>;
}

export type GateVerdict =
  | {
      readonly kind: "passed";
      /** What images that are governed are replaced by. */
      readonly replaced: ReadonlyMap<string, string>;
      /** Digest of each governed image. */
      readonly digests: ReadonlyMap<string, string>;
      readonly exempted: readonly { readonly image: string; readonly policies: readonly string[] }[];
    }
  | { readonly kind: "refused" | "unknown" | "denied"; readonly why: string };

export interface GateRequest {
  readonly images: readonly string[];
  /** Objects that hold them: who pulls them. */
  readonly objects: readonly Pick<RenderedObject, "group" | "kind" | "namespace" | "body" | "images">[];
  /** Digests that count for tags, by image. */
  readonly pinned: ReadonlyMap<string, string>;
  /** The identity that pulls, in the controller's own cluster. */
  readonly access: (signal: AbortSignal) => Promise<Access>;
  readonly accessKey: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly queue: string;
}

/** Images of one stage or action that are asked for at once. */
const inFlight = 4;
/** For all images of one stage or action: a pass that waits for them hears of nothing else. */
const gateTimeoutMs = 120_000;
/** Who pulls one image: more are of no use. */
const mostPullers = 8;

/** Whether any image could be refused: where that cannot be told, it could. */
export function isGateActive(gate: ImageGate): boolean {
  const view = gate.policies();
  return view.kind !== "known" || view.policies.length > 0 || gate.unmatched === "refused";
}

/** Whether any registry may be asked for these. */
export function mayAskRegistry(gate: ImageGate): boolean {
  const view = gate.policies();
  return view.kind === "known" && view.policies.length > 0;
}

/**
 * Whether all of these images may be applied (spec 50 §4.2): each that policies govern is judged at one digest.
 *
 * @throws the signal's reason, when aborted
 */
export async function passGate(gate: ImageGate, request: GateRequest, signal: AbortSignal): Promise<GateVerdict> {
  if (request.images.length === 0) return { kind: "passed", replaced: new Map(), digests: new Map(), exempted: [] };
  const view = gate.policies();
  if (view.kind !== "known") return view;
  const plan = planImages(request.images, { policies: view.policies, unmatched: gate.unmatched });
  const note = skipUnusable(request.annotations, gate.breakGlass);
  const told = (why: string): string => (note === undefined ? why : `${why} (${note})`);
  if (plan.refused !== undefined) return { kind: "refused", why: told(plan.refused) };
  if (plan.governed.length > mostPins) {
    const why = `${plan.governed.length} images are governed by policies, of which ${mostPins} can be verified at once`;
    return { kind: "refused", why: told(why) };
  }
  const pullers = plan.governed.length === 0 ? new Map<string, readonly Pulls[]>() : pullersOf(request);
  const judged: {
    readonly image: GovernedImage;
    readonly verdict: ImageVerdict;
    readonly unread: readonly string[];
  }[] = [];
  const waiting = [...plan.governed];
  using limit = deadline(gate.clock, { timeoutMs: gateTimeoutMs, what: "verifying images", parent: signal });
  const judgeNext = async (): Promise<void> => {
    for (let image = waiting.shift(); image !== undefined; image = waiting.shift()) {
      const unread: string[] = [];
      const pulls = pullers.get(image.image) ?? [];
      const { reference } = image;
      const verdict = await gate.verifier.verify(
        {
          image,
          pinned: request.pinned.get(image.image),
          credential: async (aborted) =>
            (await readPullCredential(
              { pulls, reference, access: request.access },
              { unread: (what) => void unread.push(what), signal: aborted },
            )) ?? (await gate.ownCredential(reference)),
          puller: JSON.stringify([request.accessKey, pulls]),
          queue: request.queue,
        },
        limit.signal,
      );
      judged.push({ image, verdict, unread });
      // Nothing is applied any more, whatever becomes of the rest.
      if (verdict.kind !== "accepted") waiting.length = 0;
    }
  };
  try {
    await Promise.all(Array.from({ length: inFlight }, judgeNext));
  } catch (error) {
    signal.throwIfAborted();
    if (!limit.signal.aborted) throw error;
    const why = `cannot verify ${plan.governed.length} images: it takes longer than ${gateTimeoutMs / 1_000} s`;
    return { kind: "unknown", why: told(why) };
  }
  const byImage = new Map(judged.map((each) => [each.image.image, each]));
  const inOrder = plan.governed.flatMap(({ image }) => byImage.get(image) ?? []);
  const failed =
    inOrder.find(({ verdict }) => verdict.kind === "refused") ??
    inOrder.find(({ verdict }) => verdict.kind === "unknown");
  if (failed !== undefined && failed.verdict.kind !== "accepted") {
    const { verdict, image, unread } = failed;
    const secrets = unread.length === 0 ? "" : `; without ${[...new Set(unread)].sort().join(", ")}`;
    const policies = image.policies.map(({ name }) => name).join(", ");
    const why =
      verdict.kind === "unknown"
        ? `cannot verify image ${quote(image.image)} for ImageVerificationPolicy ${policies}: ${verdict.why}${secrets}`
        : `image ${quote(image.image)} (ImageVerificationPolicy ${policies}): ${verdict.why}${secrets}`;
    return { kind: verdict.kind, why: told(why) };
  }
  const digests = new Map(
    inOrder.flatMap(({ image, verdict }) =>
      verdict.kind === "accepted" ? [[image.image, verdict.digest] as const] : [],
    ),
  );
  // Nothing governed passes without a digest of its own.
  const missing = plan.governed.find(({ image }) => !digests.has(image));
  if (missing !== undefined) return { kind: "refused", why: `image ${quote(missing.image)} was not judged` };
  return {
    kind: "passed",
    replaced: replacements(digests),
    digests,
    exempted: plan.exempted,
  };
}

/** What images are replaced by where their digests are known. */
export function replacements(digests: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  return new Map(
    [...digests].flatMap(([image, digest]) => {
      const reference = parseImageReference(image);
      return reference === undefined ? [] : [[image, pinnedImage(reference, digest)] as const];
    }),
  );
}

function pullersOf({ objects, images }: GateRequest): ReadonlyMap<string, readonly Pulls[]> {
  const wanted = new Set(images);
  const found = new Map<string, Pulls[]>();
  for (const object of objects) {
    const own = (object.images ?? []).filter((image) => wanted.has(image));
    if (own.length === 0) continue;
    const parsed: unknown = JSON.parse(Buffer.from(object.body).toString("utf8"));
    const pulls: Pulls = { ...pullerOf(parsed, object), namespace: object.namespace };
    for (const image of own) {
      const known = found.get(image) ?? [];
      if (known.length < mostPullers) known.push(pulls);
      found.set(image, known);
    }
  }
  return found;
}
