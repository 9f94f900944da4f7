import type { StageSetStatus } from "../../api/stage-set.ts";
import { bindSkip, isSkipped, skipToken } from "../images/break-glass.ts";
import { identityOf, type ArtifactIdentity } from "../pins.ts";
import type { Plan } from "./plan.ts";
import type { PassState } from "./state.ts";
import type { PassEvent, Step } from "./step.ts";

/**
 * What a call is told of images that are not verified: nothing once the spec was changed since the value was first seen,
 * and of patches that come from an artifact, which nobody broke the glass for.
 */
export function actionSkip(
  state: Pick<PassState, "snapshot" | "stored" | "options">,
  of: {
    readonly stage: string;
    readonly identity: ArtifactIdentity;
    /** The action itself is read from an artifact. */
    readonly isSourced?: boolean;
  },
): { readonly skipsImages?: string } {
  const { digest } = of.identity;
  if (digest === undefined || of.isSourced === true || skipReason(state, of) === undefined) return {};
  const isOfSpec = state.stored.status.imageVerificationSkip?.generation === state.snapshot.generation;
  return isOfSpec ? { skipsImages: digest } : {};
}

/** The annotated reason, where it counts for a stage at this identity. */
export function skipReason(
  { snapshot, stored, options }: Pick<PassState, "snapshot" | "stored" | "options">,
  of: { readonly stage: string; readonly identity: ArtifactIdentity },
): string | undefined {
  if (options.breakGlass !== "counts") return undefined;
  const token = skipToken(snapshot.annotations);
  return isSkipped(stored.status, token, of) ? token : undefined;
}

/** Binds a value of `skip-image-verification` that was not seen before to what stages are pinned to now (spec 50 §4.6). */
export function skipRecord(state: PassState, plan: Plan): Extract<Step, { kind: "record" }> | undefined {
  if (state.options.breakGlass !== "counts") return undefined;
  const token = skipToken(state.snapshot.annotations);
  if (token === undefined) return undefined;
  const pinned = plan.goals.stages.map(({ stage, pin }) => ({ stage, identity: identityOf(pin) }));
  const skip = bindSkip(state.stored.status, { token, generation: state.snapshot.generation }, pinned);
  if (skip === undefined) return undefined;
  const status: StageSetStatus = { ...state.stored.status, imageVerificationSkip: skip };
  const events = pinned
    .filter(({ stage }) => mayHaveImages(plan, stage))
    .map(({ stage, identity }): PassEvent => ({
      type: "Warning",
      reason: "ImageVerificationSkipped",
      note: `stage "${stage}": images of revision "${identity.revision}" are not verified: ${token.slice(0, 512)}`,
      once: undefined,
    }));
  return { kind: "record", write: { kind: "status", status }, events, joinsNext: "once prepared" };
}

function mayHaveImages({ spec, renders }: Plan, name: string): boolean {
  const render = renders.get(name);
  if (render?.kind === "postponed" || (render?.kind === "rendered" && render.hasImages === true)) return true;
  const { pre = [], post = [], onFailure = [] } = spec.stages.find((stage) => stage.name === name)?.actions ?? {};
  return [...pre, ...post, ...onFailure].some(({ job, apply, patch }) => (job ?? apply ?? patch) !== undefined);
}
