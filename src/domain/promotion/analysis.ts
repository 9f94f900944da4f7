import { parseDecimal } from "../formats/decimal.ts";
import type { MetricAnswer } from "../metrics/metric-answer.ts";
import { positiveMs } from "../timing.ts";
import { roundedUp, type Promotion, type PromotionState } from "./soak.ts";

type Analysis = NonNullable<Promotion["analysis"]>;
type LastAnalysis = NonNullable<PromotionState["lastAnalysis"]>;

/** What the metric sources of a gate answered; undefined: they were not asked, or have not answered yet. */
export interface GateMetrics {
  /** One per check of the analysis, in its order. */
  readonly analysis: readonly MetricAnswer[] | undefined;
  readonly fastTrack: MetricAnswer | undefined;
}

/** Longest and shortest time between two queries of a fast track (spec 40 §5). */
const rarestFastTrackMs = 30_000;
const soonestFastTrackMs = 5_000;
const soonestAnalysisMs = 1_000;

/** Time between two evaluations; `retryMs` is R of spec 10 §6. */
export function analysisIntervalMs(analysis: Analysis, retryMs: number): number {
  return Math.max(soonestAnalysisMs, positiveMs(analysis.interval) ?? retryMs);
}

/** When the next evaluation is due, epoch ms: at once when there was none; undefined without an analysis. */
export function nextAnalysisAt(
  { analysis }: Promotion,
  { state, retryMs }: { readonly state: PromotionState | undefined; readonly retryMs: number },
): number | undefined {
  if (analysis === undefined) return undefined;
  const last = state?.lastAnalysis?.time;
  return last === undefined ? -Infinity : Date.parse(last) + analysisIntervalMs(analysis, retryMs);
}

/** The state after a due evaluation, which alone changes the count of failures; as it was when none is due or answered. */
export function withAnalysis(
  promotion: Promotion,
  o: {
    readonly state: PromotionState;
    readonly answers: readonly MetricAnswer[] | undefined;
    readonly now: number;
    readonly retryMs: number;
  },
): PromotionState {
  const { analysis } = promotion;
  const { state, answers, now } = o;
  const dueAt = nextAnalysisAt(promotion, o);
  if (analysis === undefined || answers === undefined || dueAt === undefined || now < dueAt) return state;
  const checks = analysis.checks.map((check, index) => checkResult(analysis, check, answers[index]));
  const passed = checks.every(({ ok }) => ok === true);
  const failures = passed ? 0 : Math.min(2 ** 31 - 1, (state.analysisFailures ?? 0) + 1);
  const lastAnalysis: LastAnalysis = { time: roundedUp(now), passed, checks };
  return { ...state, analysisFailures: failures, lastAnalysis };
}

function checkResult(
  { onSourceError }: Analysis,
  { name, threshold }: Analysis["checks"][number],
  answer: MetricAnswer | undefined,
): NonNullable<LastAnalysis["checks"]>[number] {
  if (answer?.kind !== "value")
    return { name, ok: onSourceError === "Allow", error: answer?.problem ?? "the metric was not read" };
  const { value } = answer;
  const min = parseDecimal(threshold.min ?? "") ?? -Infinity;
  const max = parseDecimal(threshold.max ?? "") ?? Infinity;
  return { name, value: String(value), ok: value >= min && value <= max };
}

/** More evaluations in a row have failed than are tolerated. */
export function isAnalysisOver({ analysis }: Promotion, { analysisFailures = 0 }: PromotionState): boolean {
  return analysis !== undefined && analysis.dryRun !== true && analysisFailures > (analysis.failureLimit ?? 0);
}

/** The stage has no evaluation yet, or the last one failed within what is tolerated. */
export function isAnalyzing({ analysis }: Promotion, { lastAnalysis }: PromotionState): boolean {
  if (analysis === undefined) return false;
  return lastAnalysis === undefined || (lastAnalysis.passed !== true && analysis.dryRun !== true);
}

/** From when on the fast track may end the soak, epoch ms, and how often it is asked; undefined: there is none. */
export function fastTrackTimes(
  { fastTrack, soak }: Promotion,
  { since }: Pick<PromotionState, "since">,
): { readonly from: number; readonly everyMs: number } | undefined {
  const soakMs = positiveMs(soak);
  if (fastTrack === undefined || soakMs === undefined || since === undefined) return undefined;
  const everyMs = Math.min(rarestFastTrackMs, Math.max(soonestFastTrackMs, soakMs / 10));
  return { from: Date.parse(since) + (positiveMs(fastTrack.after) ?? 0), everyMs };
}

/** A good metric ends the soak; one that is not, or cannot be read, means to soak on. */
export function isFastTracked(
  promotion: Promotion,
  {
    state,
    answer,
    now,
  }: { readonly state: PromotionState; readonly answer: MetricAnswer | undefined; readonly now: number },
): boolean {
  const times = fastTrackTimes(promotion, state);
  if (times === undefined || now < times.from || answer?.kind !== "value") return false;
  return answer.value <= (parseDecimal(promotion.fastTrack?.max ?? "") ?? -Infinity);
}
