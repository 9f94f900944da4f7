import type { Stage, StageStatus } from "../../api/stage-set.ts";
import { timestamp } from "../status.ts";
import { positiveMs } from "../timing.ts";

export type Promotion = NonNullable<Stage["promotion"]>;
/** `status.stages[].promotionState`: keyed to what the stage last began, and absent without a gate (spec 10 §5.3). */
export type PromotionState = NonNullable<StageStatus["promotionState"]>;

/** The phases in which the soak is over for good at this identity, whatever becomes of the stage or the spec. */
const soaked: ReadonlySet<string> = new Set(["Analyzing", "AwaitingManual", "Promoted"]);

/** What a gate starts from when its stage begins another identity: `now`, epoch ms, is when its first apply begins. */
export function newGate(
  promotion: Promotion | undefined,
  before: PromotionState | undefined,
  now: number,
): PromotionState | undefined {
  if (promotion === undefined) return undefined;
  // Restarts are counted over revisions, from the last promotion on.
  const restartBaseline = before?.restartBaseline;
  return { windowStart: timestamp(now), ...(restartBaseline === undefined ? {} : { restartBaseline }) };
}

/** The state with its soak clock as the spec has it now; the clock starts once the stage is ready (spec 40 §5). */
export function withSoakClock(
  promotion: Promotion,
  { state, ready, now }: { readonly state: PromotionState; readonly ready: boolean; readonly now: number },
): PromotionState {
  const { soakUntil: before, ...rest } = state;
  const since = state.since ?? (ready ? roundedUp(now) : undefined);
  if (since === undefined) return rest;
  const soakMs = positiveMs(promotion.soak);
  const soakUntil = isSoaked(state) ? before : soakMs === undefined ? undefined : roundedUp(Date.parse(since) + soakMs);
  return { ...rest, since, ...(soakUntil === undefined ? {} : { soakUntil }) };
}

/** Whether the soak of this state, whose clock is as the spec has it, still runs or has yet to begin. */
export function isSoaking(promotion: Promotion, state: PromotionState, now: number): boolean {
  if (positiveMs(promotion.soak) === undefined || isSoaked(state)) return false;
  return state.soakUntil === undefined || now < Date.parse(state.soakUntil);
}

/**
 * What is left of the state when its stage fails, or is not ready for longer than verifying may take: a soak that still
 * runs starts again when the stage is ready.
 */
export function withoutSoak(state: PromotionState | undefined, now: number): PromotionState | undefined {
  if (state?.phase === undefined || isSoaked(state)) return state;
  const blockedAfterwards =
    state.phase === "Blocked" && (state.soakUntil === undefined || Date.parse(state.soakUntil) <= now);
  if (blockedAfterwards) return state;
  const { phase: _phase, since: _since, soakUntil: _until, ...rest } = state;
  return rest;
}

function isSoaked({ phase }: PromotionState): boolean {
  return phase !== undefined && soaked.has(phase);
}

/** As status spells an instant, never an earlier one: a wait is not shortened by its precision (spec 40). */
export function roundedUp(epochMs: number): string {
  return timestamp(Math.ceil(epochMs / 1_000) * 1_000);
}
