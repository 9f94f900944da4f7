import { reconcileStageAnnotation, resetScopeAnnotation } from "../../api/keys.ts";
import type { Action, StageSetStatus } from "../../api/stage-set.ts";
import { isRunOf, outlivesStageSet, type ActionCall, type ActionOutcome } from "../actions/action-run.ts";
import { lastCompletion, withNewStamp } from "../actions/last-completion.ts";
import {
  isCarriedOver,
  ledgerKeyOf,
  nextAction,
  withCompletion,
  withoutCarriedOver,
  type LedgerKeys,
} from "../actions/ledger.ts";
import {
  completionDigest,
  isLifetime,
  withLedgerCompletion,
  type StoredLedger,
  type Witness,
} from "../actions/stage-ledger.ts";
import { stageTokenOf, tokenOf } from "../ignored-annotations.ts";
import { failure, imageFailure, stageFailure, type Failure, type StageFailure } from "../failure.ts";
import { stageEntry, timestamp, withStage } from "../status.ts";
import { end } from "./finish.ts";
import { actionSkip } from "./image-skip.ts";
import { withRecordedStep } from "./migration-record.ts";
import { factOf } from "./plan.ts";
import type { Memory, PassState } from "./state.ts";
import type { RecordKey, Step, Write } from "./step.ts";
import { earlierStages, runMemory, withoutKey, type StageTurn } from "./turn.ts";

/** How long a deletion waits for the record of a completion, and how often it is tried. */
const outlivingMs = 60_000;
const outlivingLookMs = 2_000;

type GatedList = "pre" | "post";

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
  return completionRecord(state, { call: action.call, outcome: action.outcome });
}

/**
 * Before a StageSet is torn down: the completion of a Lifetime action goes on record, or a namesake would run it again. For
 * a minute where the write is refused; nothing keeps a StageSet longer.
 */
export function outlivingStep(state: PassState, deletedAt: number): Step | undefined {
  const { action } = state.memory;
  if (action?.outcome?.kind !== "completed" || !outlivesStageSet(action)) return undefined;
  const { recordFailure } = state.results;
  if (recordFailure === undefined) return completionRecord(state, { call: action.call, outcome: action.outcome });
  if (state.now - deletedAt >= outlivingMs) return undefined;
  return end({ ready: undefined, next: { afterMs: outlivingLookMs, jitter: 0 }, failure: recordFailure });
}

type Completed = Extract<ActionOutcome, { kind: "completed" }>;

/** Puts a completion on record, before anything else is done. Undefined: nobody is left whose record it would be. */
function completionRecord(
  state: PassState,
  { call, outcome }: { readonly call: ActionCall; readonly outcome: Completed },
): Step | undefined {
  const { stored, snapshot } = state;
  if (call.uid !== snapshot.uid) return undefined;
  const done = { remember: { action: undefined }, completes: { call, jobs: outcome.jobs } } as const;
  if (isLifetime(call.action)) {
    if (stored.ledger === undefined) return { kind: "record", write: { kind: "ledgerCreation" } };
    return { kind: "record", write: ledgerWrite(state, stored.ledger, { ...call, ...outcome }), ...done };
  }
  const status = completed(state, call);
  return status && { kind: "record", write: { kind: "status", status }, ...done, joinsNext: "at once" };
}

function ledgerWrite(
  { now }: PassState,
  before: StoredLedger,
  done: {
    readonly stage: string;
    readonly action: Action;
    readonly artifactDigest?: string | undefined;
    readonly witness?: Witness | undefined;
  },
): Extract<Write, { kind: "ledger" }> {
  const { stage, action, artifactDigest, witness } = done;
  const status = withLedgerCompletion(before.status, {
    stage,
    action: action.name,
    origin: "Executed",
    digest: completionDigest(action, artifactDigest),
    ...(witness === undefined ? {} : { anchor: witness }),
    completedAt: timestamp(now),
  });
  return { kind: "ledger", before, status };
}

/** The status with the completion; undefined where it has no ledger for it any more. */
function completed({ stored, now }: PassState, call: ActionCall): StageSetStatus | undefined {
  // What runs after a failure is no run of what failed, which goes on where it was.
  const status = call.list === "onFailure" ? stored.status : withNewStamp(stored.status, now);
  if (call.migration !== undefined) return withRecordedStep(status, call.migration);
  const entry = stageEntry(status, call.stage);
  // Who took the stage out of the status took its ledger along.
  return entry && withStage(status, call.stage, withCompletion(entry, call.action, call.ledgerKey));
}

/** The next action of the list, or how it failed; undefined when all are done. The stage has begun its identity. */
export function actionStep(turn: StageTurn, list: GatedList, fail: (why: Failure) => Step): Step | undefined {
  const { state, goal, stage, as, identity, entry } = turn;
  if (!goal.acts) return undefined;
  const keys = ledgerKeys(turn);
  const action = nextAction(entry, stage.actions?.[list] ?? [], keys);
  if (action === undefined) return undefined;
  const ledgerKey = ledgerKeyOf(action, keys);
  if (ledgerKey === undefined) throw new TypeError(`action "${action.name}" has no version to run for`);
  const { generation, uid } = state.snapshot;
  const call: ActionCall = {
    ...{ stage: goal.stage, list, action, as, ledgerKey, generation, uid },
    revision: identity.revision,
    tokens: actionTokens(state, goal.stage),
    after: lastCompletion(action, state.stored),
    ...actionSkip(state, { stage: goal.stage, identity }),
  };
  const settled = withoutRun(turn, call, fail);
  if (settled !== undefined) return settled;
  const { action: run } = state.memory;
  if (run?.outcome?.kind === "failed" && isRunOf(run, call)) return fail(actionFailure(call, run.outcome));
  const progress = runMemory(turn);
  return {
    kind: "do",
    effect: { kind: "action", stage: goal.stage, call },
    requires: [
      ...requirements(turn),
      ...(isLifetime(action) ? [{ kind: "ledger", stage: goal.stage, action: action.name } as const] : []),
    ],
    remember: {
      action: { call, outcome: undefined },
      failureCounted: false,
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

/**
 * What settles the action without a run, or has to be known before it may run: it is on record under a scope that it had
 * before (spec 30 §4.1), or somebody else may have recorded it in the StageLedger by now.
 */
function withoutRun(turn: StageTurn, call: ActionCall, fail: (why: Failure) => Step): Step | undefined {
  const { state, entry, goal } = turn;
  const { action } = call;
  if (isLifetime(action)) {
    const live = { kind: "ledger" } as const;
    const fact = factOf(state, live);
    if (fact === undefined) return { kind: "need", facts: [live] };
    if (fact.kind === "failed") return fail(fact.failure);
    // Deleted since this pass began to work on it.
    if (state.stored.ledger === undefined) return { kind: "record", write: { kind: "ledgerCreation" } };
  }
  if (action.scope === "Version" && turn.plan.version?.adopted === true) return adoptedRecord(turn, call);
  if (!isCarriedOver(entry, action, ledgerKeys(turn))) return undefined;
  if (isLifetime(action)) return copyToLedger(turn, call, fail);
  const moved = { ...withoutCarriedOver(entry, action), ...withCompletion(entry, action, call.ledgerKey) };
  return {
    kind: "record",
    write: { kind: "status", status: withStage(state.stored.status, goal.stage, moved) },
    joinsNext: "at once",
  };
}

/** The first version is adopted: every Version action of the stage counts as done under it (spec 30 §9). */
function adoptedRecord({ state, goal, stage, entry }: StageTurn, { ledgerKey }: ActionCall): Step {
  const { pre = [], post = [] } = stage.actions ?? {};
  const done = [...pre, ...post].filter(({ scope }) => scope === "Version");
  const changed = done.reduce(
    (now, action) => ({ ...now, ...withCompletion({ name: goal.stage, ...entry, ...now }, action, ledgerKey) }),
    {},
  );
  return {
    kind: "record",
    write: { kind: "status", status: withStage(state.stored.status, goal.stage, changed) },
    joinsNext: "at once",
  };
}

/** Done under its old scope, with its witness there: a declared witness that is absent lets the action run. */
function copyToLedger(turn: StageTurn, call: ActionCall, fail: (why: Failure) => Step): Step | undefined {
  const { state, goal, as } = turn;
  const { ledger } = state.stored;
  const { action } = call;
  if (ledger === undefined) return undefined;
  const anchor = action.completionAnchor;
  if (anchor === undefined) return { kind: "record", write: ledgerWrite(state, ledger, { stage: goal.stage, action }) };
  const key = { kind: "witness", stage: goal.stage, action: action.name, as, anchor } as const;
  const fact = factOf(state, key);
  if (fact === undefined) return { kind: "need", facts: [key] };
  if (fact.kind !== "witness" || fact.found.kind === "absent") return undefined;
  if (fact.found.kind === "unreadable") {
    const cause = `its completionAnchor cannot be read: ${fact.found.why}`;
    return fail(actionFailure(call, { kind: "failed", cause, class: "ordinary" }));
  }
  const witness = { ...anchor, uid: fact.found.uid };
  return { kind: "record", write: ledgerWrite(state, ledger, { stage: goal.stage, action, witness }) };
}

/** Whether the list has an action that is still to run. */
export function hasAction(turn: StageTurn, list: GatedList): boolean {
  const { goal, stage, entry } = turn;
  if (!goal.acts) return false;
  return nextAction(entry, stage.actions?.[list] ?? [], ledgerKeys(turn)) !== undefined;
}

function ledgerKeys({ state, goal, identity, plan }: StageTurn): LedgerKeys {
  return { stage: goal.stage, revision: identity.revision, version: plan.version?.key, ledger: state.stored.ledger };
}

/** What makes a Job of a stage that was forced, or whose scope was reset, another one. */
export function actionTokens({ snapshot }: PassState, stage: string): readonly string[] {
  const { annotations } = snapshot;
  const forced = stageTokenOf(annotations[reconcileStageAnnotation]);
  return [forced?.stage === stage ? forced.token : "", tokenOf(annotations[resetScopeAnnotation]) ?? ""];
}

/** What is on record before anything is run for a stage. */
export function requirements(turn: StageTurn): readonly RecordKey[] {
  const { goal, identity } = turn;
  return [
    { kind: "finalizer" },
    { kind: "entered", stage: goal.stage, identity },
    { kind: "earlierStagesReady", stages: earlierStages(turn) },
  ];
}

/** As which failure of its stage an action's is told. */
export function actionFailure(
  { stage, list, action }: ActionCall,
  outcome: Extract<ActionOutcome, { kind: "failed" }>,
): Failure {
  if (outcome.class === "source") return failure("SourceNotReady", outcome.cause);
  const permanent = outcome.class === "permanent";
  const what: StageFailure = {
    name: stage,
    operation: list === "post" ? "post-action" : "pre-action",
    cause: `action "${action.name}": ${outcome.cause}`,
  };
  if (outcome.class === "image") return imageFailure(what, "refused");
  if (outcome.class === "unknownImage") return imageFailure(what, "unknown");
  const why = stageFailure(what, permanent ? "authorization" : "ordinary");
  return isLifetime(action) && !permanent ? { ...why, counts: "action" } : why;
}
