import { reconcileStageAnnotation, resetScopeAnnotation } from "../../api/keys.ts";
import type { Action, Stage } from "../../api/stage-set.ts";
import { isRunOf, type ActionCall, type ActionOutcome } from "../actions/action-run.ts";
import { nextAction, withCompletion } from "../actions/ledger.ts";
import { stageTokenOf, tokenOf } from "../ignored-annotations.ts";
import { failure, stageFailure, type Failure } from "../failure.ts";
import { isBuilt } from "../holds/not-built.ts";
import { stageEntry, withStage } from "../status.ts";
import type { Memory, PassState } from "./state.ts";
import type { RecordKey, Step } from "./step.ts";
import { earlierStages, runMemory, withoutKey, type StageTurn } from "./turn.ts";

const operations = { pre: "pre-action", post: "post-action" } as const;
type GatedList = keyof typeof operations;

/**
 * What has to be done about an action of this process before anything else: the completion of one that ended goes on record
 * (E5), and while one runs the pass is parked, whatever woke it. The end of the action wakes it.
 */
export function actedStep(state: PassState): Step | undefined {
  const { action } = state.memory;
  if (action === undefined) return undefined;
  if (action.outcome === undefined)
    // Suspension is told at once: the action ends, is recorded, and none follows.
    return state.snapshot.spec?.suspend === true
      ? undefined
      : { kind: "park", wakes: [], remember: { tick: state.memory.tick }, watches: "kept" };
  if (action.outcome.kind !== "completed") return undefined;
  const { call } = action;
  const entry = stageEntry(state.stored.status, call.stage);
  // Who took the stage out of the status took its ledger along.
  if (entry === undefined || call.uid !== state.snapshot.uid) return undefined;
  return {
    kind: "record",
    write: {
      kind: "status",
      status: withStage(state.stored.status, call.stage, withCompletion(entry, call.action, call)),
    },
    remember: { action: undefined },
    completes: { call, jobs: action.outcome.jobs },
    joinsNext: "at once",
  };
}

/** The next action of the list, or how it failed; undefined when all are done. The stage has begun its identity. */
export function actionStep(turn: StageTurn, list: GatedList, fail: (why: Failure) => Step): Step | undefined {
  const { state, goal, stage, as, identity, entry } = turn;
  // At content that is not the pinned one nothing but its objects is asserted (spec 40 §1).
  if (goal.content !== "pin") return undefined;
  const action = nextAction(entry, runnable(stage, list), identity);
  if (action === undefined) return undefined;
  const { generation, uid } = state.snapshot;
  const call: ActionCall = {
    stage: goal.stage,
    list,
    action,
    as,
    revision: identity.revision,
    tokens: actionTokens(state, goal.stage),
    generation,
    uid,
  };
  const { action: run } = state.memory;
  if (run?.outcome?.kind === "failed" && isRunOf(run, call)) return fail(actionFailure(call, list, run.outcome));
  const progress = runMemory(turn);
  return {
    kind: "do",
    effect: { kind: "action", stage: goal.stage, call },
    requires: requirements(turn),
    remember: {
      action: { call, outcome: undefined },
      // What a pre action changes may be what the stage is rendered from: it is read after it (spec 20 step 19).
      run: progress === undefined || list === "post" ? progress : { ...progress, begun: false },
      ...(list === "post" ? withoutVerifyClock(state, goal.stage) : {}),
    },
  };
}

/** The stage was ready: should it not be any more after the action, it has all of its time again (spec 20 §9.5). */
function withoutVerifyClock({ memory }: PassState, stage: string): Pick<Memory, "verifyStarted" | "standstills"> {
  return {
    verifyStarted: withoutKey(memory.verifyStarted, stage),
    standstills: withoutKey(memory.standstills, stage),
  };
}

/** Whether the list has an action that is still to run. */
export function hasAction({ goal, stage, entry, identity }: StageTurn, list: GatedList): boolean {
  return goal.content === "pin" && nextAction(entry, runnable(stage, list), identity) !== undefined;
}

function runnable({ actions }: Stage, list: GatedList): readonly Action[] {
  return (actions?.[list] ?? []).filter(isBuilt);
}

/** What makes a Job of a stage that was forced, or whose scope was reset, another one. */
export function actionTokens({ snapshot }: PassState, stage: string): readonly string[] {
  const { annotations } = snapshot;
  const forced = stageTokenOf(annotations[reconcileStageAnnotation]);
  return [forced?.stage === stage ? forced.token : "", tokenOf(annotations[resetScopeAnnotation]) ?? ""];
}

function requirements(turn: StageTurn): readonly RecordKey[] {
  const { goal, identity } = turn;
  return [
    { kind: "finalizer" },
    { kind: "entered", stage: goal.stage, identity },
    { kind: "earlierStagesReady", stages: earlierStages(turn) },
  ];
}

function actionFailure(
  { stage, action }: ActionCall,
  list: GatedList,
  outcome: Extract<ActionOutcome, { kind: "failed" }>,
): Failure {
  if (outcome.class === "source") return failure("SourceNotReady", outcome.cause);
  return stageFailure(
    { name: stage, operation: operations[list], cause: `action "${action.name}": ${outcome.cause}` },
    outcome.class === "permanent" ? "authorization" : "ordinary",
  );
}
