import type { StageSetStatus } from "../../api/stage-set.ts";
import { skipImageVerificationAnnotation } from "../../api/keys.ts";
import { sameIdentity, type ArtifactIdentity } from "../pins.ts";

/**
 * Whether `skip-image-verification` counts in this process: `unchecked` when nobody asks at admission who wrote it
 * (spec 50 §4.6).
 */
export type BreakGlass = "counts" | "off" | "unchecked";

/** The reason that is annotated; undefined when nothing is, or blank. */
export function skipToken(annotations: Readonly<Record<string, string>>): string | undefined {
  const value = Object.hasOwn(annotations, skipImageVerificationAnnotation)
    ? annotations[skipImageVerificationAnnotation]
    : undefined;
  return value === undefined || value.trim() === "" ? undefined : value;
}

/** Why the annotation does not count, to be told where images are held; undefined when it does, or there is none. */
export function skipUnusable(annotations: Readonly<Record<string, string>>, mode: BreakGlass): string | undefined {
  if (skipToken(annotations) === undefined || mode === "counts") return undefined;
  return mode === "off"
    ? `${skipImageVerificationAnnotation} is ignored: --image-verification-break-glass is off`
    : `${skipImageVerificationAnnotation} is ignored: without the webhook nobody checks who wrote it`;
}

/**
 * Binds a value that was not seen before to what stages are pinned to now: nothing they are pinned to later is skipped by
 * it. Undefined when nothing has to be recorded.
 */
export function bindSkip(
  status: StageSetStatus,
  { token, generation }: { readonly token: string; readonly generation: number },
  pinned: readonly { readonly stage: string; readonly identity: ArtifactIdentity }[],
): NonNullable<StageSetStatus["imageVerificationSkip"]> | undefined {
  if (status.imageVerificationSkip?.token === token) return undefined;
  return {
    token,
    generation,
    revisions: Object.fromEntries(pinned.map(({ stage, identity }) => [stage, identity.revision])),
    digests: Object.fromEntries(pinned.map(({ stage, identity }) => [stage, identity.digest ?? ""])),
  };
}

/** Whether it is on record that the images of a stage are not verified at this identity, by the value annotated now. */
export function isSkipped(
  status: StageSetStatus,
  token: string | undefined,
  { stage, identity }: { readonly stage: string; readonly identity: ArtifactIdentity },
): boolean {
  const skip = status.imageVerificationSkip;
  if (token === undefined || skip?.token !== token) return false;
  const { revisions = {}, digests = {} } = skip;
  if (!Object.hasOwn(revisions, stage)) return false;
  const digest = Object.hasOwn(digests, stage) ? digests[stage] : undefined;
  const bound = { revision: revisions[stage] ?? "", digest: digest === "" ? undefined : digest };
  return sameIdentity(bound, identity);
}

/** The glass was broken for a revision of the stage: for an artifact of an action's own only where it is that one. */
export function skipsArtifact({ skipsImages }: { readonly skipsImages?: string }, digest: string | undefined): boolean {
  return skipsImages !== undefined && skipsImages === digest;
}
