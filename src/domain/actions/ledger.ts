import type { Action, StageStatus } from "../../api/stage-set.ts";
import { sameVersion } from "../formats/version.ts";
import { completionOf, isLifetime, type StoredLedger } from "./stage-ledger.ts";

/** What a stage's ledgers are kept under now (spec 30 §4.1). */
export interface LedgerKeys {
  readonly stage: string;
  /** The revision the stage is pinned to. */
  readonly revision: string;
  /** The version this pass wants, in its canonical form; undefined: the StageSet has none. */
  readonly version: string | undefined;
  /** Undefined: there is none. */
  readonly ledger: StoredLedger | undefined;
}

type Change = Pick<StageStatus, "executedActions" | "ledgerRevision" | "executedVersionActions" | "ledgerVersion">;

/** The key a completion of the action is recorded under; undefined: a Version action of a StageSet without version. */
export function ledgerKeyOf({ scope }: Action, { revision, version }: LedgerKeys): string | undefined {
  return scope === "Lifetime" ? "lifetime" : scope === "Version" ? version : revision;
}

/** Names of the Revision actions that are done at this revision; of another one, even an older that returns, none is. */
export function completedAt(entry: StageStatus | undefined, revision: string): readonly string[] {
  return entry?.ledgerRevision === revision ? (entry.executedActions ?? []) : [];
}

/** Names of the Version actions that are done at this version, however the one or the other is spelled. */
export function completedUnder(entry: StageStatus | undefined, version: string | undefined): readonly string[] {
  const { ledgerVersion, executedVersionActions = [] } = entry ?? {};
  if (version === undefined || ledgerVersion === undefined) return [];
  return sameVersion(ledgerVersion, version) ? executedVersionActions : [];
}

/**
 * Whether the action needs not run: its name is what counts, its content never makes it run again. A Version action has
 * nothing to run for while the version is not known or not gone to.
 */
export function isCompleted(entry: StageStatus | undefined, action: Action, keys: LedgerKeys): boolean {
  const { name, scope } = action;
  if (isLifetime(action)) return completionOf(keys.ledger, { stage: keys.stage, action: name }) !== undefined;
  if (scope === "Version" && keys.version === undefined) return true;
  return (scope === "Version" ? completedUnder(entry, keys.version) : completedAt(entry, keys.revision)).includes(name);
}

/**
 * Whether the action is on record as done under the current key of a scope that it had before: then its completion moves to
 * the ledger of the scope that it has now, so that it counts once, and there.
 */
export function isCarriedOver(entry: StageStatus | undefined, { name, scope }: Action, keys: LedgerKeys): boolean {
  const atRevision = scope === "Version" || scope === "Lifetime" ? completedAt(entry, keys.revision) : [];
  const underVersion = scope === "Version" ? [] : completedUnder(entry, keys.version);
  return atRevision.includes(name) || underVersion.includes(name);
}

/** The entry's ledgers without the name in those of other scopes. */
export function withoutCarriedOver(entry: StageStatus | undefined, { name, scope }: Action): Partial<Change> {
  const drop = (names: readonly string[] | undefined): readonly string[] | undefined =>
    names?.filter((each) => each !== name);
  return {
    ...((scope === "Version" || scope === "Lifetime") && entry?.executedActions?.includes(name) === true
      ? { executedActions: drop(entry.executedActions) ?? [] }
      : {}),
    ...(scope !== "Version" && entry?.executedVersionActions?.includes(name) === true
      ? { executedVersionActions: drop(entry.executedVersionActions) ?? [] }
      : {}),
  };
}

/** The first action of the list that is still to run. */
export function nextAction(
  entry: StageStatus | undefined,
  actions: readonly Action[],
  keys: LedgerKeys,
): Action | undefined {
  return actions.find((action) => !isCompleted(entry, action, keys));
}

/** The entry's ledger of the action's scope, which is not Lifetime, with one more completion; ledger lists are sets. */
export function withCompletion(entry: StageStatus | undefined, { name, scope }: Action, key: string): Partial<Change> {
  const added = (before: readonly string[]): readonly string[] => (before.includes(name) ? before : [...before, name]);
  return scope === "Version"
    ? { executedVersionActions: added(completedUnder(entry, key)), ledgerVersion: key }
    : { executedActions: added(completedAt(entry, key)), ledgerRevision: key };
}
