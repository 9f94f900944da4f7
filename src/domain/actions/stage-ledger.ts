import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { BaselineEntry, CompletedAction, StageLedgerStatus } from "../../api/stage-ledger.ts";
import type { Action, StageSetSpec } from "../../api/stage-set.ts";
import { baselineValidCondition } from "../../api/condition-types.ts";
import { timestamp } from "../status.ts";
import { digestInput } from "../versions/migration-digest.ts";

/** A StageLedger as it is stored; a write of it refers to this very state. */
export interface StoredLedger {
  readonly uid: string;
  readonly resourceVersion: string;
  readonly baseline: readonly BaselineEntry[];
  readonly status: StageLedgerStatus;
}

/** Object that shows that an action's effect still exists; `uid` as it was when the action was completed. */
export type Witness = NonNullable<CompletedAction["anchor"]>;

/** What an action is known by in the ledger. */
export interface LedgerName {
  readonly stage: string;
  readonly action: string;
}

/** Unresolved baseline entries that the condition names. */
const mostNamed = 50;

export function isLifetime({ scope }: Action): boolean {
  return scope === "Lifetime";
}

/** Lifetime actions of the spec, stage by stage. */
export function* lifetimeActions({ stages }: StageSetSpec): Generator<LedgerName & { readonly declared: Action }> {
  for (const { name, actions } of stages)
    for (const list of ["pre", "post"] as const)
      for (const declared of actions?.[list] ?? [])
        if (isLifetime(declared)) yield { stage: name, action: declared.name, declared };
}

export function completionOf(ledger: StoredLedger | undefined, name: LedgerName): CompletedAction | undefined {
  const list = ledger?.status.completedActions;
  return list === undefined ? undefined : indexOf(list).get(keyOf(name));
}

/** The status with one more completion. One that is on record already stays as it is, whoever put it there. */
export function withLedgerCompletion(status: StageLedgerStatus, completion: CompletedAction): StageLedgerStatus {
  const before = status.completedActions ?? [];
  return withCompletions(status, indexOf(before).has(keyOf(completion)) ? before : [...before, completion]);
}

export function withoutLedgerCompletions(status: StageLedgerStatus, lost: readonly LedgerName[]): StageLedgerStatus {
  const gone = new Set(lost.map(keyOf));
  const kept = (status.completedActions ?? []).filter((entry) => !gone.has(keyOf(entry)));
  return withCompletions(status, kept);
}

/**
 * What an action ran as, for audits (spec 10 §8): SHA-256 over the action as migration digests spell it and, in a line of
 * its own, the digest of the artifact that it used.
 */
export function completionDigest(action: Action, artifactDigest: string | undefined): string {
  const text = artifactDigest === undefined ? digestInput(action) : `${digestInput(action)}\n${artifactDigest}`;
  return `sha256:${bytesToHex(sha256(utf8ToBytes(text)))}`;
}

/**
 * The baseline (spec 30 §4.4): entries that name a Lifetime action of the spec become completions, the others wait until
 * they do. `invalid` says what is new about those, for an Event; undefined: nothing.
 */
export function promoteBaseline(
  { baseline, status }: StoredLedger,
  { spec, now }: { readonly spec: StageSetSpec; readonly now: number },
): { readonly status: StageLedgerStatus; readonly invalid: string | undefined } {
  const declared = new Set(Array.from(lifetimeActions(spec), keyOf));
  const unresolved = baseline.filter((entry) => !declared.has(keyOf(entry)));
  const before = status.completedActions ?? [];
  const added = new Map<string, CompletedAction>();
  for (const { stage, action } of baseline) {
    const key = keyOf({ stage, action });
    if (!declared.has(key) || added.has(key) || indexOf(before).has(key)) continue;
    added.set(key, { stage, action, origin: "Baselined", completedAt: timestamp(now) });
  }
  const isResolved = unresolved.length < baseline.length;
  let next = isResolved ? withCompletions(status, added.size === 0 ? before : [...before, ...added.values()]) : status;
  const count = next.completedActions?.length ?? 0;
  // A ledger as another controller left it is not written for its count alone.
  if (next !== status && next.completedCount !== count) next = { ...next, completedCount: count };
  return withCondition(next, { unresolved, isAsked: baseline.length > 0, now });
}

function withCondition(
  status: StageLedgerStatus,
  {
    unresolved,
    isAsked,
    now,
  }: { readonly unresolved: readonly BaselineEntry[]; readonly isAsked: boolean; readonly now: number },
): ReturnType<typeof promoteBaseline> {
  const conditions = status.conditions ?? [];
  const before = conditions.find(({ type }) => type === baselineValidCondition);
  if (!isAsked && before === undefined) return { status, invalid: undefined };
  const wanted =
    unresolved.length === 0
      ? ({ status: "True", reason: "AllResolved", message: "Every baseline entry names a Lifetime action" } as const)
      : ({ status: "False", reason: "Unresolved", message: unresolvedText(unresolved) } as const);
  if (before?.status === wanted.status && before.message === wanted.message && before.reason === wanted.reason)
    return { status, invalid: undefined };
  const lastTransitionTime = before?.status === wanted.status ? before.lastTransitionTime : timestamp(now);
  const condition = { type: baselineValidCondition, ...wanted, lastTransitionTime };
  return {
    status: { ...status, conditions: [...conditions.filter(({ type }) => type !== baselineValidCondition), condition] },
    invalid: wanted.status === "False" ? wanted.message : undefined,
  };
}

function unresolvedText(unresolved: readonly BaselineEntry[]): string {
  const named = unresolved.slice(0, mostNamed).map(({ stage, action }) => `"${stage}/${action}"`);
  const more = unresolved.length > mostNamed ? ` and ${unresolved.length - mostNamed} more` : "";
  return `No pre or post action of scope Lifetime of the StageSet: ${named.join(", ")}${more}; held until there is one`;
}

function withCompletions(status: StageLedgerStatus, completedActions: readonly CompletedAction[]): StageLedgerStatus {
  return { ...status, completedActions, completedCount: completedActions.length };
}

/** By name, of each list that was asked; of several entries of one name the first counts. Lists are never changed. */
const indexes = new WeakMap<readonly CompletedAction[], ReadonlyMap<string, CompletedAction>>();

/** Takes time in proportion to the list once, however often and for whatever the list is asked. */
function indexOf(list: readonly CompletedAction[]): ReadonlyMap<string, CompletedAction> {
  const known = indexes.get(list);
  if (known !== undefined) return known;
  const index = new Map<string, CompletedAction>();
  for (const entry of list) if (!index.has(keyOf(entry))) index.set(keyOf(entry), entry);
  indexes.set(list, index);
  return index;
}

/** No two names have the same one, whatever others wrote into a StageLedger. */
function keyOf({ stage, action }: LedgerName): string {
  return `${stage.length}/${stage}/${action}`;
}
