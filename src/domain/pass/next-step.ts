import { objectClaimedTwice } from "../claims.ts";
import { failure, type Failure } from "../failure.ts";
import { revisionKeys, type Pin } from "../pins.ts";
import { deepEqual } from "../../lib/equal.ts";
import type { StageSetSpec } from "../../api/stage-set.ts";
import { orderedStages, readyCondition, stageEntry, withReady } from "../status.ts";
import { actedStep, outlivingStep } from "./action-step.ts";
import { backoffLeftMs, connectFailure, runningRun, sourcesMoved } from "./failures.ts";
import { end, endFailed, endSuspended, finishPass, isStalledReason } from "./finish.ts";
import { budgetStep } from "./budget-step.ts";
import { failingStep } from "./failing-step.ts";
import { unhaltRecord } from "./failure-count.ts";
import { forceRecord } from "./force-record.ts";
import { gateStep, tickStep } from "./gate-step.ts";
import { planGoals, type Goals } from "./goals.ts";
import {
  factOf,
  goalInput,
  releasing,
  renderKey,
  settledPhase,
  stageIdentity,
  stageSetIdentity,
  statusContext,
  unread,
  type Plan,
} from "./plan.ts";
import { skipRecord } from "./image-skip.ts";
import { adoptionRecord, ledgerStep } from "./ledger-step.ts";
import { promoteRecord } from "./promote-record.ts";
import { isHalted } from "../holds/dirty-halt.ts";
import { leaveTarget } from "./leave-target.ts";
import { hasExpressions } from "../validation/expressions.ts";
import { refusedAhead } from "./refused-ahead.ts";
import { resetRecord } from "./reset-record.ts";
import { stageStep } from "./stage-step.ts";
import type { FactKey, PassState, RenderFact } from "./state.ts";
import type { Step } from "./step.ts";
import { isLost, teardownStep } from "./teardown.ts";
import { versionStep } from "./version-step.ts";
import { windowRecord, windowsNow } from "./window-step.ts";

/**
 * The next thing to do for one StageSet, given everything known about it: spec 20 §2, in its order. Pure: the same state
 * gives the same step, so a wake, a restart and a new leader need nothing but to ask again.
 */
export function nextStep(state: PassState): Step {
  const step = joined(state, decide(state));
  const { recordFailure } = state.results;
  // Asked for again at once, it would fail again.
  const again = step.kind === "record" && isTold.has(step.write.kind) && state.snapshot.deletedAt === undefined;
  if (again && recordFailure !== undefined) return withoutEndedAction(state, endFailed(state, recordFailure));
  return withoutTick(step.kind === "end" ? withoutEndedAction(state, endOfRun(state, step)) : step);
}

/** Records whose failure Ready tells of. */
const isTold: ReadonlySet<string> = new Set(["inventory", "ledgerCreation", "ledger"]);

/**
 * What an action came to is told by the pass that sees its end; nothing later takes it for its own. But a completion that
 * could not be recorded is kept until it can.
 */
function withoutEndedAction({ memory, results }: PassState, step: Step): Step {
  if (step.kind !== "end") return step;
  const { outcome } = memory.action ?? {};
  const unrecorded = outcome?.kind === "completed" && results.recordFailure !== undefined;
  const ended = outcome === undefined || unrecorded ? {} : { action: undefined };
  const remember = { failing: undefined, failureCounted: false, ...step.outcome.remember, ...ended };
  return { ...step, outcome: { ...step.outcome, remember } };
}

/** Ticks come only after a full pass that ends at a gate, or after another tick. */
function withoutTick(step: Step): Step {
  if (step.kind === "park") return { ...step, remember: { tick: undefined, ...step.remember } };
  if (step.kind !== "end") return step;
  return { ...step, outcome: { ...step.outcome, remember: { tick: undefined, ...step.outcome.remember } } };
}

/**
 * Sends a record together with the one that follows it, when nothing else has to be done in between: what follows is
 * decided as if the record were acknowledged, so the one write says all that the two would have said. A record that may
 * wait lets go first what only prepares the next: facts to read and ids to put on record.
 */
function joined(state: PassState, step: Step): Step {
  if (step.kind !== "record" || step.write.kind !== "status" || step.joinsNext === undefined) return step;
  const next = decide({
    ...state,
    stored: { ...state.stored, status: step.write.status },
    memory: { ...state.memory, ...step.remember },
  });
  const prepares = next.kind === "need" || (next.kind === "record" && next.write.kind === "inventory");
  if (prepares && step.joinsNext === "once prepared") return next;
  if (next.kind !== "record" || next.write.kind !== "status") return step;
  return {
    kind: "record",
    write: next.write,
    remember: { ...step.remember, ...next.remember },
    events: [...(step.events ?? []), ...(next.events ?? [])],
    ...(step.completes === undefined ? {} : { completes: step.completes }),
  };
}

function decide(state: PassState): Step {
  const { snapshot, stored } = state;
  if (snapshot.deletedAt !== undefined)
    return outlivingStep(state, snapshot.deletedAt) ?? teardownStep(state, snapshot.deletedAt);
  if (!stored.hasFinalizer) return { kind: "record", write: { kind: "finalizer", change: "add" } };
  const acted = actedStep(state);
  if (acted !== undefined) return acted;
  if (snapshot.spec?.suspend === true) return endSuspended(state);
  const failing = failingStep(state);
  if (failing !== undefined) return failing;
  if (snapshot.spec === undefined || snapshot.invalid !== undefined)
    return endFailed(state, { ...failure("InvalidSpec", snapshot.invalid ?? "spec is missing"), terminal: true });
  return tickStep(state) ?? specStep(state, snapshot.spec);
}

function specStep(state: PassState, spec: StageSetSpec): Step {
  const adopted = adoptionRecord(state, spec);
  if (adopted !== undefined) return adopted;
  const refused = withoutServiceAccount(state, spec);
  if (refused !== undefined) return endFailed(state, refused);
  const early: FactKey[] = [];
  if (hasExpressions(spec)) early.push({ kind: "expressions" });
  if ((spec.dependsOn ?? []).length > 0) early.push({ kind: "dependencies" });
  const missing = unread(state, early);
  if (missing.length > 0) return { kind: "need", facts: missing };
  const invalid = factOf(state, { kind: "expressions" });
  if (invalid?.kind === "failed") return endFailed(state, invalid.failure);
  if (invalid?.kind === "expressions" && invalid.invalid !== undefined)
    return endFailed(state, { ...failure("InvalidSpec", invalid.invalid), terminal: true });
  const dependencies = factOf(state, { kind: "dependencies" });
  if (dependencies?.kind === "dependencies" && dependencies.unmet !== undefined)
    return endFailed(state, dependencies.unmet);

  const pinned = pinsOf(state);
  if ("step" in pinned) return pinned.step;
  return pinnedStep(state, spec, pinned.pins);
}

/**
 * Pins do not move under a run; what the sources offer by its end is taken by a pass that follows at once, also when
 * the event that announced it came while the run was waiting (spec 20 §2, new revision during a run).
 */
function endOfRun(state: PassState, step: Extract<Step, { kind: "end" }>): Step {
  const run = runningRun(state);
  if (run === undefined || state.snapshot.deletedAt !== undefined || step.outcome.next === undefined) return step;
  const key: FactKey = { kind: "pins" };
  if (factOf(state, key) === undefined) return { kind: "need", facts: [key] };
  if (!sourcesMoved(state, run.pins)) return step;
  return { ...step, outcome: { ...step.outcome, next: { afterMs: 0, jitter: 0 } } };
}

function pinnedStep(state: PassState, spec: StageSetSpec, pins: readonly Pin[]): Step {
  const backoffMs = backoffLeftMs(state);
  if (backoffMs > 0) return end({ ready: undefined, next: { afterMs: backoffMs, jitter: 0 } });
  const { status } = state.stored;
  const unhalted = unhaltRecord(state);
  if (unhalted !== undefined) return unhalted;
  const promotion = promoteRecord(state, { spec, pins });
  if (promotion !== undefined) return promotion;
  const forced = forceRecord(state, spec);
  if (forced !== undefined) return forced;
  const reset = resetRecord(state, spec);
  if (reset !== undefined) return reset;
  const ledger = ledgerStep(state, spec);
  if (ledger !== undefined) return ledger;
  const asked = windowsNow(state, { spec, status, pins });
  if ("kind" in asked) return asked;
  const input = goalInput(state, { spec, pins, windows: asked.windows });
  const unbudgeted = planGoals(input);
  const heldBack = windowRecord(state, { input, goals: unbudgeted });
  if (heldBack !== undefined) return heldBack;
  const budgeted = budgetStep(state, input, unbudgeted);
  if (budgeted.kind !== "budgets") return budgeted;
  const { goals: unversioned } = budgeted;
  const refusal = refusedOutright(unversioned);
  if (refusal !== undefined) return endFailed(state, refusal);
  const run = runningRun(state);
  if (unversioned.standstill) {
    const revisions = effectiveRevisions(state, unversioned, pins);
    const still = { version: undefined, renders: new Map<string, RenderFact>() };
    return finishPass(state, { spec, pins, goals: unversioned, revisions, run, ...still });
  }
  const connection = connect(state, spec);
  if (connection !== undefined) return connection;
  const moved = leaveTarget(state);
  if (moved !== undefined) return moved;
  const recovery = recover(state, spec);
  if (recovery !== undefined) return recovery;
  const versioned = versionStep(state, budgeted.input, unversioned);
  if (versioned.kind !== "version") return versioned;
  const { goals, version } = versioned;
  const notGoneTo = refusedOutright(goals);
  if (notGoneTo !== undefined) return endFailed(state, notGoneTo);
  const revisions = effectiveRevisions(state, goals, pins);

  const renders = preflight(state, goals);
  if (renders.kind !== "renders") return renders;
  const plan: Plan = { spec, pins, goals, version, revisions, run, renders: renders.byStage };
  const claimed = objectClaimedTwice(
    goals.stages.flatMap((goal) => {
      const render = renders.byStage.get(goal.stage);
      return render?.kind === "rendered" ? [{ stage: goal.stage, objects: render.objects }] : [];
    }),
  );
  if (claimed !== undefined) return endFailed(state, { ...claimed, terminal: true });

  const skip = skipRecord(state, plan);
  if (skip !== undefined) return skip;
  const refused = refusedAhead(state, plan);
  if (refused !== undefined) return refused;
  const started = startRun(state, plan);
  if (started !== undefined) return started;
  let denied: Failure | undefined;
  for (const goal of goals.stages) {
    const step = stageStep(state, plan, goal);
    if (step.kind !== "passed") return step;
    const gate = gateStep(state, plan, goal);
    if (gate.kind !== "passed") return gate;
    denied ??= gate.denied;
  }
  return denied === undefined ? finishPass(state, plan) : endFailed(state, denied);
}

/** A refused release of which nothing runs yet: there is nothing to correct meanwhile. */
function refusedOutright({ hold, stages }: Goals): Failure | undefined {
  if (hold?.kind !== "refusal" || stages.some((goal) => goal.mode !== "untouched")) return undefined;
  return { ...failure(hold.reason, hold.message), terminal: isStalledReason(hold.reason) };
}

/** Spec 50 §1.3: decided before any source is read. */
function withoutServiceAccount(state: PassState, spec: StageSetSpec): Failure | undefined {
  if (!state.options.requireServiceAccount) return undefined;
  const bare = spec.stages.find(
    (stage) => stageIdentity(spec, stage, state.options.defaultServiceAccount).kind === "controller",
  );
  if (bare === undefined) return undefined;
  return failure(
    "RBACDenied",
    `stage "${bare.name}" would act as the controller, which --require-service-account forbids: set spec.serviceAccountName`,
  );
}

/** Pins of the run under way, else of what the sources offer now. */
function pinsOf(state: PassState): { readonly pins: readonly Pin[] } | { readonly step: Step } {
  const run = runningRun(state);
  if (run !== undefined) return { pins: run.pins };
  const fact = factOf(state, { kind: "pins" });
  if (fact === undefined) return { step: { kind: "need", facts: [{ kind: "pins" }] } };
  if (fact.kind === "failed") return { step: endFailed(state, fact.failure) };
  if (fact.kind !== "pins") throw new TypeError("the pins fact is of another kind");
  return { pins: fact.pins };
}

/** The StageSet identity must be usable before anything is built (spec 20 step 10); it is the first stage's trouble. */
function connect(state: PassState, spec: StageSetSpec): Step | undefined {
  const { defaultServiceAccount } = state.options;
  const key: FactKey = {
    kind: "connection",
    identity: stageSetIdentity(spec, defaultServiceAccount),
    turn: undefined,
  };
  const fact = factOf(state, key);
  if (fact === undefined) return { kind: "need", facts: [key] };
  return fact.kind === "failed"
    ? endFailed(state, connectFailure(spec.stages[0]?.name ?? "", fact.failure))
    : undefined;
}

/** Shards that status says exist and that cannot be had are rebuilt before anything is pruned (spec 20 §8.4). */
function recover(state: PassState, spec: StageSetSpec): Step | undefined {
  const lost = spec.stages.map((stage) => stage.name).filter((name) => isLost(state, name));
  if (lost.length === 0) return undefined;
  const key: FactKey = { kind: "recovery", stages: lost };
  const fact = factOf(state, key);
  if (fact === undefined) return { kind: "need", facts: [key] };
  if (fact.kind === "failed") return endFailed(state, fact.failure);
  return undefined;
}

type Preflight = { readonly kind: "renders"; readonly byStage: ReadonlyMap<string, RenderFact> } | Step;

/** Every stage's artifact is fetched and built before any stage is touched (spec 20 step 15). */
function preflight(state: PassState, goals: Goals): Preflight {
  const keys = goals.stages.flatMap((goal) => renderKey(goal) ?? []);
  const missing = unread(state, keys);
  if (missing.length > 0) return { kind: "need", facts: missing };
  const byStage = new Map<string, RenderFact>();
  for (const goal of goals.stages) {
    const key = renderKey(goal);
    if (key === undefined) continue;
    const fact = factOf(state, key);
    if (fact?.kind === "failed") return endFailed(state, fact.failure);
    if (fact?.kind !== "render") throw new TypeError("the render fact is of another kind");
    if (fact.render.kind === "failed") return endFailed(state, fact.render.failure);
    byStage.set(goal.stage, fact.render);
  }
  return { kind: "renders", byStage };
}

/** Step 17: pins and phases, before anything is applied. A retry of the same target writes nothing. */
function startRun(state: PassState, plan: Plan): Step | undefined {
  // It has nothing to begin, and its stages keep telling what halted them.
  if (plan.goals.onlyKeeps) return undefined;
  const { status } = state.stored;
  const newGeneration = status.observedGeneration !== state.snapshot.generation;
  const entering = new Set(
    plan.goals.stages
      .filter((goal) => goal.mode === "enter")
      .map((goal) => goal.stage)
      .filter((name) => {
        const phase = stageEntry(status, name)?.phase;
        return phase !== "Pending" && phase !== "Failed";
      }),
  );
  const newTarget = !deepEqual(status.lastAttemptedRevisions, plan.revisions);
  if (!newGeneration && !newTarget && entering.size === 0 && !isLetGo(state, plan)) return undefined;
  const moved = new Set(
    plan.goals.stages
      .filter((goal) => goal.mode === "enter" || settledPhase(plan, goal) === "Pending")
      .map((goal) => goal.stage),
  );
  const stages = orderedStages(plan.spec, status).map((entry) => {
    if (!newGeneration && !moved.has(entry.name)) return entry;
    // It says what led to the halt.
    if (plan.goals.halt !== undefined && isHalted(entry)) return entry;
    const { message: _message, waitingFor: _waitingFor, ...rest } = entry;
    return { ...rest, phase: "Pending" as const };
  });
  const attempted = { ...status, stages, lastAttemptedRevisions: plan.revisions };
  const next = withReady(attempted, releasing(plan), statusContext(state));
  return {
    kind: "record",
    write: { kind: "status", status: next },
    remember: {
      run: { generation: state.snapshot.generation, pins: plan.pins, turn: 0, begun: false, news: false },
      verifyStarted: new Map(),
      standstills: new Map(),
      waveStarted: new Map(),
    },
    joinsNext: "once prepared",
  };
}

/** A spec edit that a closed window kept from being applied: Ready has told of no run towards it yet. */
function isLetGo(state: PassState, { goals }: Plan): boolean {
  const { status } = state.stored;
  if (readyCondition(status)?.status !== "True") return false;
  return goals.stages.some(
    ({ stage, mode, content }) =>
      mode === "continue" && content === "pin" && stageEntry(status, stage)?.phase === "Pending",
  );
}

/** `lastAttemptedRevisions`: pins, but for held stages what they stay at (a held update does not change it). */
function effectiveRevisions(state: PassState, goals: Goals, pins: readonly Pin[]): Readonly<Record<string, string>> {
  const keys = revisionKeys(pins);
  const revisions: Record<string, string> = {};
  for (const goal of goals.stages) {
    const key = keys[goal.index];
    if (key === undefined) continue;
    if (goal.content === "pin") revisions[key] = goal.pin.revision;
    else if (!(key in revisions)) {
      const before = state.stored.status.lastAttemptedRevisions?.[key] ?? goal.identity?.revision;
      if (before !== undefined) revisions[key] = before;
    }
  }
  return revisions;
}
