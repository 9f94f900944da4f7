import { resetScopeAnnotation } from "../../api/keys.ts";
import type { StageSetSpec } from "../../api/stage-set.ts";
import { tokenOf } from "../ignored-annotations.ts";
import { orderedStages } from "../status.ts";
import type { PassState } from "./state.ts";
import type { Step } from "./step.ts";

/**
 * A fresh reset-scope token empties the Version ledgers of all stages and goes on record as handled, in one write before any
 * action runs: stages that this pass does not reach keep the reset (spec 30 §4.3). What version they were begun for stays.
 */
export function resetRecord(
  { snapshot, stored: { status }, memory: { run } }: PassState,
  spec: StageSetSpec,
): Extract<Step, { kind: "record" }> | undefined {
  const token = tokenOf(snapshot.annotations[resetScopeAnnotation]);
  if (token === undefined || token === status.lastHandledResetScope) return undefined;
  const stages = orderedStages(spec, status).map(({ executedVersionActions: _executed, ...entry }) => entry);
  return {
    kind: "record",
    write: { kind: "status", status: { ...status, stages, lastHandledResetScope: token } },
    remember: { run: run === undefined ? undefined : { ...run, turn: 0, begun: false } },
    joinsNext: "once prepared",
  };
}
