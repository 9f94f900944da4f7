import type { Action, Stage, StageStatus } from "../../api/stage-set.ts";
import { isCompleted, type LedgerKeys } from "./ledger.ts";

/** Actions of the stage that are still to run; those of a stage that is Ready can only be of another scope than Revision. */
export function unfinishedActions(stage: Stage, entry: StageStatus | undefined, keys: LedgerKeys): readonly Action[] {
  if (stage.actions === undefined) return [];
  const { pre = [], post = [] } = stage.actions;
  return [...pre, ...post].filter((action) => !isCompleted(entry, action, keys));
}
