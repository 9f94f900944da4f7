import type { Stage, StageSetSpec } from "../../api/stage-set.ts";
import { deepEqual } from "../../lib/equal.ts";
import type { Failure } from "../failure.ts";
import { heldGate } from "../holds/promotion-gate.ts";
import { identityOf, sameIdentity, type ArtifactIdentity } from "../pins.ts";
import { boundTo } from "../promotion/bound.ts";
import { fastTrackTimes, nextAnalysisAt, type GateMetrics } from "../promotion/analysis.ts";
import { judgeGate } from "../promotion/gate.ts";
import { isPromoted } from "../promotion/passed.ts";
import { readsPods } from "../promotion/pod-checks.ts";
import type { PromotionState } from "../promotion/soak.ts";
import { appliedIdentity, enteredIdentity, orderedStages, stageEntry, withReady, withStage } from "../status.ts";
import { retryMs } from "../timing.ts";
import type { StageGoal } from "./goals.ts";
import { factOf, goalInput, releasing, statusContext, unread, type Plan } from "./plan.ts";
import type { Fact, FactKey, PassState, ReadinessFact } from "./state.ts";
import type { Step } from "./step.ts";

/** The gate asks for nothing more in this pass, be it open or not: what it holds is in the goals. */
export interface Judged {
  readonly kind: "passed";
  /** What the gate must know may not be read: the pass ends with this once every stage had its turn. */
  readonly denied?: Failure | undefined;
}
const judged: Judged = { kind: "passed" };

/** The promotion gate of a stage that had its turn: where it stands goes on record before a later stage begins (E3). */
export function gateStep(state: PassState, plan: Plan, goal: StageGoal): Step | Judged {
  const stage = plan.spec.stages[goal.index];
  const { status } = state.stored;
  if (stage === undefined || goal.identity === undefined || goal.content !== "pin") return judged;
  // It is not done at its pin.
  if (goal.halted === true) return judged;
  const entry = stageEntry(status, goal.stage);
  if (stage.promotion === undefined)
    return entry?.promotionState === undefined ? judged : recordGate(state, plan, { stage, next: undefined });
  if (isPromoted(status, stage, goal.identity)) return judged;
  const keys: readonly FactKey[] = [
    { kind: "readiness", stage: goal.stage, identity: goal.identity },
    ...readingKeys(state, plan.spec, stage),
  ];
  const missing = unread(state, keys);
  if (missing.length > 0) return { kind: "need", facts: missing };
  const [readiness, ...read] = keys.map((key) => factOf(state, key));
  const denied = read.find((fact) => fact?.kind === "failed");
  const ready = readiness?.kind === "readiness" && readiness.readiness.kind === "ready";
  const next = judgeNow(state, { spec: plan.spec, stage, identity: goal.identity, ready, read });
  if (!deepEqual(next, entry?.promotionState)) return recordGate(state, plan, { stage, next });
  return denied?.kind === "failed" ? { kind: "passed", denied: denied.failure } : judged;
}

/** What the checks of the gate are judged by: pods, and metrics as far as they are due. */
function readingKeys(state: PassState, spec: StageSetSpec, { name, promotion }: Stage): readonly FactKey[] {
  if (promotion === undefined) return [];
  const gate = stageEntry(state.stored.status, name)?.promotionState;
  const retry = retryMs(spec, state.options.defaultIntervalMs);
  const analysisAt = nextAnalysisAt(promotion, { state: gate, retryMs: retry });
  const analysis = analysisAt !== undefined && state.now >= analysisAt;
  const fastTrackFrom = gate?.phase === "Soaking" ? fastTrackTimes(promotion, gate)?.from : undefined;
  const fastTrack = fastTrackFrom !== undefined && state.now >= fastTrackFrom;
  return [
    ...(readsPods(promotion) ? [{ kind: "pods", stage: name, since: gate?.windowStart } as const] : []),
    ...(analysis || fastTrack ? [{ kind: "gateMetrics", stage: name, analysis, fastTrack } as const] : []),
  ];
}

const unasked: GateMetrics = { analysis: undefined, fastTrack: undefined };

function judgeNow(
  { stored, now, options }: PassState,
  gate: {
    readonly stage: Stage;
    readonly identity: ArtifactIdentity;
    readonly ready: boolean;
    readonly spec: StageSetSpec;
    readonly read: readonly (Fact | undefined)[];
  },
): PromotionState {
  const { stage, identity, ready } = gate;
  const entry = stageEntry(stored.status, stage.name);
  const { promotion = {} } = stage;
  const pending = entry?.pendingPromotion;
  const token = pending !== undefined && sameIdentity(boundTo(pending), identity);
  const pods = gate.read.flatMap((fact) => (fact?.kind === "pods" ? [fact.readings] : []))[0];
  const metrics = gate.read.flatMap((fact) => (fact?.kind === "gateMetrics" ? [fact.metrics] : []))[0] ?? unasked;
  const retry = retryMs(gate.spec, options.defaultIntervalMs);
  return judgeGate({ promotion, state: entry?.promotionState, token, ready, pods, metrics, now, retryMs: retry });
}

/** The state of the gate; a token that opened it is used up by the same write (spec 40 §5). */
function recordGate(
  state: PassState,
  plan: Plan,
  { stage, next }: { readonly stage: Stage; readonly next: PromotionState | undefined },
): Step {
  const { status: stored } = state.stored;
  const token = stageEntry(stored, stage.name)?.pendingPromotion?.token;
  const used = next?.phase === "Promoted" && token !== undefined;
  const base = { ...stored, stages: orderedStages(plan.spec, stored) };
  const status = withStage(base, stage.name, {
    promotionState: next,
    ...(used ? { lastHandledPromotion: token, pendingPromotion: undefined } : {}),
  });
  const { gate, hold } = plan.goals;
  const opens = gate !== undefined && hold === gate.hold && next?.phase === "Promoted";
  const goesOn = opens && gate.index < plan.spec.stages.length - 1;
  return {
    kind: "record",
    write: { kind: "status", status: goesOn ? withReady(status, releasing(plan), statusContext(state)) : status },
    joinsNext: "at once",
  };
}

/**
 * A tick: while nothing but time has passed since a full pass found a gate closed, only the health of the stage it holds
 * is looked at (spec 40 §5). Nothing is applied and nothing is written; what would change is left to a full pass, which
 * this one then goes on as. Undefined: this pass is none.
 */
export function tickStep(state: PassState): Step | undefined {
  const tick = dueTick(state);
  if (tick === undefined) return undefined;
  const { spec, gate, stage, identity } = tick;
  const entry = stageEntry(state.stored.status, stage.name);
  const keys: readonly FactKey[] = [
    { kind: "health", stage: stage.name, identity },
    ...readingKeys(state, spec, stage),
  ];
  const missing = unread(state, keys);
  if (missing.length > 0) return { kind: "need", facts: missing };
  const [health, ...read] = keys.map((key) => factOf(state, key));
  if (health?.kind !== "health" || !isExpected(state, stage.name, health.readiness)) return undefined;
  if (read.some((fact) => fact?.kind === "failed")) return undefined;
  const next = judgeNow(state, { spec, stage, identity, ready: health.readiness?.kind === "ready", read });
  if (!deepEqual(next, entry?.promotionState)) return undefined;
  const lookMs = Math.max(
    1_000,
    (gate.hold.until ?? state.now + retryMs(spec, state.options.defaultIntervalMs)) - state.now,
  );
  const at = Math.min(state.elapsed + lookMs, tick.fullAt);
  return { kind: "park", wakes: [{ kind: "at", elapsed: at }], remember: { tick: state.memory.tick }, watches: "kept" };
}

/** What a full pass finds out about a stage that is not ready, such as for how long, is not for a tick to say. */
function isExpected({ memory }: PassState, stage: string, readiness: ReadinessFact | undefined): boolean {
  return readiness?.kind === (memory.notReadySince.has(stage) ? "waiting" : "ready");
}

const tickFacts: ReadonlySet<Fact["kind"]> = new Set(["health", "pods", "gateMetrics", "failed"]);

function dueTick(state: PassState) {
  const { memory, snapshot, stored, causes, elapsed, facts } = state;
  const { tick } = memory;
  const { spec, generation } = snapshot;
  if (tick === undefined || spec === undefined || elapsed >= tick.fullAt || tick.generation !== generation)
    return undefined;
  if ([...causes].some((cause) => cause !== "time" && cause !== "metric")) return undefined;
  // Else a full pass has begun.
  if ([...facts.values()].some((fact) => !tickFacts.has(fact.kind))) return undefined;
  const { status } = stored;
  const gate = heldGate(goalInput(state, { spec, pins: tick.pins, windows: undefined }));
  const stage = spec.stages[gate?.index ?? -1];
  const pin = tick.pins[gate?.index ?? -1];
  if (gate === undefined || stage === undefined || pin === undefined) return undefined;
  const entry = stageEntry(status, stage.name);
  const identity = identityOf(pin);
  const settled =
    entry?.phase === "Ready" &&
    status.observedGeneration === generation &&
    sameIdentity(appliedIdentity(entry), identity) &&
    sameIdentity(enteredIdentity(entry), identity);
  return settled ? { spec, gate, stage, identity, fullAt: tick.fullAt } : undefined;
}
