import { promoteAnnotation } from "../../api/keys.ts";
import type { Stage, StageSetSpec, StageStatus } from "../../api/stage-set.ts";
import { stageTokenOf } from "../ignored-annotations.ts";
import { identityOf, sameIdentity, type ArtifactIdentity, type Pin } from "../pins.ts";
import { boundTo } from "../promotion/bound.ts";
import { isPromoted } from "../promotion/passed.ts";
import { enteredIdentity, orderedStages, stageEntry, withStage } from "../status.ts";
import type { PassState } from "./state.ts";
import type { PassEvent, Step } from "./step.ts";

type Token = { readonly token: string } & ArtifactIdentity;

/**
 * A fresh promote token is bound to what its stage is pinned to when the pass that sees it first begins, so that it never
 * opens the gate of another identity; one that can open nothing is handled at once (spec 40 §5). Undefined when nothing
 * has to be recorded.
 */
export function promoteRecord(
  state: PassState,
  { spec, pins }: { readonly spec: StageSetSpec; readonly pins: readonly Pin[] },
): Extract<Step, { kind: "record" }> | undefined {
  const { status } = state.stored;
  const asked = stageTokenOf(state.snapshot.annotations[promoteAnnotation]);
  if (asked === undefined && status.stages?.some((entry) => entry.pendingPromotion !== undefined) !== true)
    return undefined;
  let next = { ...status, stages: orderedStages(spec, status) };
  let changed = false;
  const events: PassEvent[] = [];
  for (const [index, stage] of spec.stages.entries()) {
    const pin = pins[index];
    const entry = stageEntry(status, stage.name);
    const pending = pendingOf(entry);
    const fresh = asked?.stage === stage.name && asked.token !== entry?.lastHandledPromotion ? asked.token : undefined;
    const token = pin === undefined ? undefined : tokenOf(pending, fresh, identityOf(pin));
    if (pin === undefined || token === undefined) continue;
    const unused = whyUnused(state, { stage, token, pinned: identityOf(pin) });
    if (unused === undefined && token === pending) continue;
    changed = true;
    const { token: text, revision, digest = "" } = token;
    next = withStage(
      next,
      stage.name,
      unused === undefined
        ? { pendingPromotion: { token: text, revision, digest } }
        : { pendingPromotion: undefined, lastHandledPromotion: text },
    ) as typeof next;
    if (unused !== undefined) events.push(unused);
  }
  if (!changed) return undefined;
  return { kind: "record", write: { kind: "status", status: next }, events, joinsNext: "once prepared" };
}

function pendingOf(entry: StageStatus | undefined): Token | undefined {
  const pending = entry?.pendingPromotion;
  return pending?.token === undefined ? undefined : { token: pending.token, ...boundTo(pending) };
}

/** The token that counts: a fresh one takes the place of one that still waits. */
function tokenOf(pending: Token | undefined, fresh: string | undefined, pinned: ArtifactIdentity): Token | undefined {
  return fresh === undefined || fresh === pending?.token ? pending : { token: fresh, ...pinned };
}

/** The Event that says why a token opens nothing; undefined while it may. */
function whyUnused(
  { stored: { status } }: PassState,
  { stage, token, pinned }: { readonly stage: Stage; readonly token: Token; readonly pinned: ArtifactIdentity },
): PassEvent | undefined {
  const told = { reason: "PromotionUnused", once: undefined } as const;
  if (!sameIdentity(token, pinned))
    return {
      ...told,
      type: "Warning",
      note:
        `The promotion of stage "${stage.name}" at "${token.revision}" is discarded: the stage is pinned to ` +
        `"${pinned.revision}" now; promote it again if that is to pass`,
    };
  const nothing = { ...told, type: "Normal" } as const;
  if (stage.promotion === undefined)
    return { ...nothing, note: `Nothing to promote: stage "${stage.name}" has no promotion gate` };
  const there = sameIdentity(enteredIdentity(stageEntry(status, stage.name)), pinned);
  if (!there || !isPromoted(status, stage, pinned)) return undefined;
  return { ...nothing, note: `Nothing to promote: stage "${stage.name}" is past its gate at "${pinned.revision}"` };
}
