import { isAnalysisOver, isAnalyzing, isFastTracked, withAnalysis, type GateMetrics } from "./analysis.ts";
import { baselineOf, eventBreach, readsPods, restartBreach, withFirstCounts, type PodReadings } from "./pod-checks.ts";
import { isSoaking, withSoakClock, type Promotion, type PromotionState } from "./soak.ts";

/** What a promotion gate is decided from, at a stage that is applied, verified and past its post actions. */
export interface GateInput {
  readonly promotion: Promotion;
  /** As it is on record; undefined: the stage reached no gate at this identity yet. */
  readonly state: PromotionState | undefined;
  /** A promote token is bound to this stage and identity. */
  readonly token: boolean;
  /** The stage is ready at this instant. */
  readonly ready: boolean;
  /** Undefined: they cannot be read now, or the gate has no check of pods. */
  readonly pods: PodReadings | undefined;
  readonly metrics: GateMetrics;
  /** Epoch ms. */
  readonly now: number;
  /** R of spec 10 §6. */
  readonly retryMs: number;
}

/** Where the gate stands now: it lets the next stage begin when the phase is `Promoted` (decision table of spec 40 §5). */
export function judgeGate(input: GateInput): PromotionState {
  const { promotion, pods, now } = input;
  const before = input.state ?? {};
  if (before.phase === "Promoted") return before;
  const clocked = withSoakClock(promotion, { state: before, ready: input.ready, now });
  const { analysis, fastTrack } = input.metrics;
  const timed = withAnalysis(promotion, { state: clocked, answers: analysis, now, retryMs: input.retryMs });
  const state = pods === undefined ? timed : withFirstCounts(promotion, { state: timed, readings: pods, now });
  if (input.token) return promoted(input, state);
  // Unreadable pods neither advance nor block the stage.
  if (readsPods(promotion) && pods === undefined) return { ...state, phase: state.phase ?? "Soaking" };
  const rest = withoutBreach(state);
  const restarts = pods && restartBreach(promotion, { state, readings: pods });
  if (restarts !== undefined)
    return { ...rest, phase: "Blocked", restartCheck: restarts.check, observedRestarts: restarts.observed };
  const events = pods && eventBreach(promotion, pods);
  if (events !== undefined)
    return { ...rest, phase: "Blocked", eventCheck: events.check, observedEvents: events.observed };
  if (isAnalysisOver(promotion, state)) return { ...rest, phase: "Blocked" };
  const soaking = isSoaking(promotion, state, now) && !isFastTracked(promotion, { state, answer: fastTrack, now });
  if (soaking) return { ...rest, phase: "Soaking" };
  if (isAnalyzing(promotion, state)) return { ...rest, phase: "Analyzing" };
  if (promotion.requireManualPromotion === true) return { ...rest, phase: "AwaitingManual" };
  // A block is never kept: it is derived anew each time.
  const kept = state.phase === "Blocked" ? "Soaking" : state.phase;
  if (!input.ready) return { ...rest, phase: kept ?? "Soaking" };
  return promoted(input, state);
}

/** What later revisions are counted from is what there is now. */
function promoted({ promotion, pods, now }: GateInput, state: PromotionState): PromotionState {
  const { restartBaseline: _before, ...rest } = withoutBreach(state);
  const counted =
    promotion.restartGate === undefined || pods === undefined ? undefined : baselineOf(promotion, pods, now);
  return { ...rest, phase: "Promoted", ...(counted === undefined ? {} : { restartBaseline: counted }) };
}

function withoutBreach(state: PromotionState): PromotionState {
  const {
    restartCheck: _check,
    observedRestarts: _restarts,
    eventCheck: _event,
    observedEvents: _events,
    ...rest
  } = state;
  return rest;
}
