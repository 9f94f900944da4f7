import { isRunOf, type ActionCall, type ActionRun } from "../actions/action-run.ts";
import { nextAction } from "../actions/ledger.ts";
import type { Failure } from "../failure.ts";
import { withoutSoak } from "../promotion/soak.ts";
import { readyCondition, stageEntry } from "../status.ts";
import { actionTokens } from "./action-step.ts";
import { endFailed } from "./finish.ts";
import type { FailingMemory, PassState } from "./state.ts";
import type { PassEvent, Step, Wake } from "./step.ts";
import { actionSkip } from "./image-skip.ts";
import { record, type StageTurn } from "./turn.ts";

/**
 * Ends a stage that failed after its apply began (spec 20 step 24): its onFailure actions run first, each once per failure
 * episode, and what failed is remembered meanwhile, so that nothing has to fail again to be reported.
 */
export function failStage(turn: StageTurn, why: Failure, wakes: readonly Wake[] = []): Step {
  const { state, goal, stage, as, identity } = turn;
  const failing: FailingMemory = {
    ...{ stage: goal.stage, identity, as, why },
    generation: state.snapshot.generation,
    tried: [],
    notes: [],
  };
  const acts = goal.acts && (stage.actions?.onFailure ?? []).length > 0;
  const next = acts ? nextOf(state, failing) : undefined;
  if (next === undefined) return endFailed(state, why, wakes);
  return claimsReady(turn) ? stopClaiming(turn, failing) : next;
}

/** The stage, or the StageSet, is said to be Ready, which it is not while its failure is dealt with (E4). */
function claimsReady({ state, entry }: StageTurn): boolean {
  return entry?.phase === "Ready" || readyCondition(state.stored.status)?.status === "True";
}

function stopClaiming(turn: StageTurn, failing: FailingMemory): Step {
  const promotionState = withoutSoak(turn.entry?.promotionState, turn.state.now);
  return record(turn, { phase: "Verifying", promotionState }, { failing });
}

/** Goes on with a failure whose onFailure actions are under way; undefined when there is none. */
export function failingStep(state: PassState): Step | undefined {
  const { failing, action } = state.memory;
  if (failing === undefined || failing.generation !== state.snapshot.generation) return undefined;
  const noted = { ...failing, notes: [...failing.notes, ...noteOf(failing, action)] };
  const next = nextOf(state, noted);
  if (next !== undefined) return next;
  const ended = endFailed(state, failing.why);
  if (ended.kind !== "end") return ended;
  return { ...ended, outcome: { ...ended.outcome, events: [...ended.outcome.events, ...noted.notes] } };
}

function nextOf(state: PassState, failing: FailingMemory): Step | undefined {
  const { stage, identity, as, generation, tried } = failing;
  const declared = state.snapshot.spec?.stages.find(({ name }) => name === stage)?.actions?.onFailure ?? [];
  const untried = declared.filter(({ name }) => !tried.includes(name));
  const keys = { stage, revision: identity.revision, version: undefined, ledger: undefined };
  const action = nextAction(stageEntry(state.stored.status, stage), untried, keys);
  if (action === undefined) return undefined;
  const call: ActionCall = {
    ...{ stage, list: "onFailure", action, as, generation },
    revision: identity.revision,
    ledgerKey: identity.revision,
    tokens: actionTokens(state, stage),
    // A finished Job counts for none of them anyway.
    after: "",
    uid: state.snapshot.uid,
    ...actionSkip(state, { stage, identity }),
  };
  return {
    kind: "do",
    effect: { kind: "action", stage, call },
    requires: [{ kind: "finalizer" }, { kind: "entered", stage, identity }],
    remember: { action: { call, outcome: undefined }, failing: { ...failing, tried: [...tried, action.name] } },
  };
}

/** Best effort: a failure is told, and the rest of the list still runs. */
function noteOf({ stage, identity, tried }: FailingMemory, run: ActionRun | undefined): readonly PassEvent[] {
  if (run?.outcome?.kind !== "failed" || run.call.list !== "onFailure" || !isRunOf(run, run.call)) return [];
  const { name } = run.call.action;
  if (!tried.includes(name)) return [];
  return [
    {
      type: "Warning",
      reason: "OnFailureAction",
      note: `stage "${stage}" of revision "${identity.revision}": onFailure action "${name}" failed: ${run.outcome.cause}`,
      once: undefined,
    },
  ];
}
