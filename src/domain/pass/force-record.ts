import { reconcileStageAnnotation } from "../../api/keys.ts";
import type { StageSetSpec, StageSetStatus } from "../../api/stage-set.ts";
import { stageTokenOf } from "../ignored-annotations.ts";
import { orderedStages, stageEntry, withStage } from "../status.ts";
import type { PassState } from "./state.ts";
import type { Step } from "./step.ts";

/** A stage that is asked to run its Revision actions anew, by a token that no pass has handled. */
interface Force {
  readonly stage: string;
  readonly token: string;
}

/**
 * A fresh reconcile-stage token empties the stage's Revision ledger. The token goes on record with the end of the pass,
 * whatever that is, so that a forced stage that fails resumes instead of starting over (spec 30 §4.3): until then this
 * process remembers that the ledger was emptied.
 */
export function forceRecord(state: PassState, spec: StageSetSpec): Extract<Step, { kind: "record" }> | undefined {
  const force = freshForce(state);
  if (force === undefined || isEmptied(state, force)) return undefined;
  const { status } = state.stored;
  const { run } = state.memory;
  const index = spec.stages.findIndex(({ name }) => name === force.stage);
  const base = { ...status, stages: orderedStages(spec, status) };
  const entry = stageEntry(status, force.stage);
  const isEmpty = (entry?.executedActions ?? []).length === 0;
  // Ready would say that its post actions are done.
  const emptied = { executedActions: undefined, ledgerRevision: undefined, phase: "Pending" } as const;
  // What tags stand for is looked up anew (spec 50 §4.3).
  const change = { verifiedImages: undefined, ...(isEmpty ? {} : emptied) };
  return {
    kind: "record",
    write: { kind: "status", status: withStage(base, force.stage, change) },
    remember: {
      forced: force,
      run: run === undefined ? undefined : { ...run, turn: Math.min(run.turn, index), begun: false },
    },
    joinsNext: "once prepared",
  };
}

/** The status that ends a pass, with the token of the stage that it forced. */
export function withForcedToken(state: PassState, status: StageSetStatus): StageSetStatus {
  const force = freshForce(state);
  if (force === undefined || !isEmptied(state, force)) return status;
  return withStage(status, force.stage, { lastHandledReconcileAt: force.token });
}

function freshForce({ snapshot, stored }: PassState): Force | undefined {
  const force = stageTokenOf(snapshot.annotations[reconcileStageAnnotation]);
  if (force === undefined || snapshot.spec?.stages.some(({ name }) => name === force.stage) !== true) return undefined;
  return stageEntry(stored.status, force.stage)?.lastHandledReconcileAt === force.token ? undefined : force;
}

/** This process has seen to it for this token. */
function isEmptied({ memory }: PassState, { stage, token }: Force): boolean {
  return memory.forced?.stage === stage && memory.forced.token === token;
}
