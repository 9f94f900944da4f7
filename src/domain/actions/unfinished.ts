import type { Action, Stage, StageStatus } from "../../api/stage-set.ts";
import { isBuilt } from "../holds/not-built.ts";
import { isCompleted, type LedgerKeys } from "./ledger.ts";

/** The actions of a list of the stage that this build runs. */
export function runnable({ actions }: Stage, list: "pre" | "post"): readonly Action[] {
  return (actions?.[list] ?? []).filter(isBuilt);
}

/** Actions of the stage that are still to run; those of a stage that is Ready can only be of another scope than Revision. */
export function unfinishedActions(stage: Stage, entry: StageStatus | undefined, keys: LedgerKeys): readonly Action[] {
  if (stage.actions === undefined) return [];
  return [...runnable(stage, "pre"), ...runnable(stage, "post")].filter((action) => !isCompleted(entry, action, keys));
}
