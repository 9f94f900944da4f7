import type { Stage } from "../../api/stage-set.ts";
import { identityOf } from "../pins.ts";
import { fastTrackTimes, nextAnalysisAt } from "../promotion/analysis.ts";
import { isHeldAtGate } from "../promotion/passed.ts";
import { readsPods } from "../promotion/pod-checks.ts";
import type { Promotion, PromotionState } from "../promotion/soak.ts";
import { stageEntry } from "../status.ts";
import type { EntryHold, GoalInput, Hold } from "./hold.ts";

/** Bounds of a tick, and how often one comes while a stage soaks or pods are checked (spec 40 §5). */
const soonestTickMs = 1_000;
const latestTickMs = 60 * 60_000;
const oftenMs = 30_000;

/** The first stage whose gate was reached at its pin and lets nothing pass. */
export interface HeldGate {
  readonly index: number;
  readonly hold: Hold;
}

export function heldGate(input: GoalInput): HeldGate | undefined {
  const { spec, status, pins } = input;
  for (const [index, stage] of spec.stages.entries()) {
    const pin = pins[index];
    if (stage.promotion === undefined || pin === undefined || !isHeldAtGate(status, stage, identityOf(pin))) continue;
    const state = stageEntry(status, stage.name)?.promotionState ?? {};
    return { index, hold: gateHold(input, stage, state) };
  }
  return undefined;
}

/** Holds every stage behind the gate: what runs there is still corrected. */
export const closedGate: EntryHold = (input) => {
  const gate = heldGate(input);
  return (index) => (gate !== undefined && index > gate.index ? gate.hold : undefined);
};

function gateHold(input: GoalInput, stage: Stage, state: PromotionState): Hold {
  const { now, retryMs, key } = input;
  const { promotion = {} } = stage;
  const looksMs = [...(readsPods(promotion) ? [oftenMs] : []), ...metricLooks(promotion, state, { now, retryMs })];
  const tickMs = (ms: number): number => now + Math.max(soonestTickMs, Math.min(latestTickMs, ms, ...looksMs));
  if (state.phase === "Blocked") {
    const message = `stage "${stage.name}" is blocked: ${breachText(stage, state)}`;
    return { kind: "gate", reason: "PromotionBlocked", message, until: tickMs(oftenMs) };
  }
  if (state.phase === "AwaitingManual") {
    const command = `stagesetctl promote ${key.name} --namespace ${key.namespace} --stage ${stage.name}`;
    const message = `stage "${stage.name}" awaits its promotion: ${command}`;
    return { kind: "gate", reason: "AwaitingPromotion", message, until: tickMs(retryMs) };
  }
  if (state.phase === "Analyzing") {
    const message = `stage "${stage.name}" is analyzed: ${analysisText(state)}`;
    return { kind: "gate", reason: "Soaking", message, until: tickMs(oftenMs) };
  }
  const { soakUntil } = state;
  const leftMs = soakUntil === undefined ? Infinity : Date.parse(soakUntil) - now;
  const message =
    leftMs > 0
      ? `stage "${stage.name}" soaks${soakUntil === undefined ? "" : ` until ${soakUntil}`}`
      : `stage "${stage.name}" has soaked, and is promoted once it is ready`;
  return {
    kind: "gate",
    reason: "Soaking",
    message,
    until: tickMs(leftMs > 0 ? Math.min(leftMs, oftenMs) : oftenMs),
  };
}

/** How long until the metrics of a gate are asked next, each at least as soon as an answer may be there. */
function metricLooks(
  promotion: Promotion,
  state: PromotionState,
  { now, retryMs }: Pick<GoalInput, "now" | "retryMs">,
): readonly number[] {
  const analysisAt = nextAnalysisAt(promotion, { state, retryMs });
  const fastTrack = state.phase === "Soaking" ? fastTrackTimes(promotion, state) : undefined;
  return [
    // One that is due waits for answers, which wake it.
    ...(analysisAt === undefined ? [] : [analysisAt > now ? analysisAt - now : oftenMs]),
    ...(fastTrack === undefined ? [] : [fastTrack.from > now ? fastTrack.from - now : fastTrack.everyMs]),
  ];
}

function breachText({ promotion }: Stage, state: PromotionState): string {
  const { restartCheck, observedRestarts = 0, eventCheck, observedEvents = 0 } = state;
  if (restartCheck !== undefined) {
    const { maxRestarts = 0 } = promotion?.restartGate?.checks.find(({ name }) => name === restartCheck) ?? {};
    return `restart check "${restartCheck}" counts ${observedRestarts} restart(s), more than ${maxRestarts}`;
  }
  if (eventCheck === undefined) return analysisText(state);
  const { maxEvents = 0 } = promotion?.eventGate?.checks.find(({ name }) => name === eventCheck) ?? {};
  return `event check "${eventCheck}" counts ${observedEvents} event(s), more than ${maxEvents}`;
}

/** Failures in a row with the checks that failed last, up to ten. */
function analysisText({ analysisFailures = 0, lastAnalysis }: PromotionState): string {
  if (lastAnalysis === undefined) return "no evaluation yet";
  const failing = (lastAnalysis.checks ?? []).filter(({ ok }) => ok !== true);
  const named = failing.slice(0, 10).map(({ name, value, error }) => `"${name}" ${value ?? error ?? ""}`.slice(0, 80));
  return `${analysisFailures} analysis failure(s) in a row${named.length === 0 ? "" : `: ${named.join("; ")}`}`;
}
