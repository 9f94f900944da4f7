import type { Action, StageStatus } from "../../api/stage-set.ts";

/** What a stage's ledgers are kept under now (spec 30 §4.1). */
export interface LedgerKeys {
  /** The revision the stage is pinned to. */
  readonly revision: string;
}

/** Names of the Revision actions that are done at this revision; of another one, even an older that returns, none is. */
export function completedAt(entry: StageStatus | undefined, revision: string): readonly string[] {
  return entry?.ledgerRevision === revision ? (entry.executedActions ?? []) : [];
}

/** Whether the action needs not run: its name is what counts, its content never makes it run again. */
export function isCompleted(entry: StageStatus | undefined, action: Action, keys: LedgerKeys): boolean {
  return completedAt(entry, keys.revision).includes(action.name);
}

/** The first action of the list that is still to run. */
export function nextAction(
  entry: StageStatus | undefined,
  actions: readonly Action[],
  keys: LedgerKeys,
): Action | undefined {
  return actions.find((action) => !isCompleted(entry, action, keys));
}

/** The entry's ledger with one more completion; ledger lists are sets. */
export function withCompletion(
  entry: StageStatus | undefined,
  { name }: Action,
  { revision }: LedgerKeys,
): Pick<StageStatus, "executedActions" | "ledgerRevision"> {
  const before = completedAt(entry, revision);
  return { executedActions: before.includes(name) ? before : [...before, name], ledgerRevision: revision };
}
