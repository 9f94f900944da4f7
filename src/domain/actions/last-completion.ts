import type { Action, StageSetStatus } from "../../api/stage-set.ts";
import { isLifetime, type StoredLedger } from "./stage-ledger.ts";

/**
 * What tells a run of an action from an earlier one under the same ledger key: it stays as it is until a completion of the
 * action is on record, however often the process dies, and never comes back after that. Only ever compared for being equal, so
 * no clock has to agree with another. Empty: nothing was ever recorded.
 */
export function lastCompletion(
  action: Action,
  { status, ledger }: { readonly status: StageSetStatus; readonly ledger: StoredLedger | undefined },
): string {
  return isLifetime(action) ? (ledger?.resourceVersion ?? "") : (status.lastActionCompletion ?? "");
}

/** Of JavaScript, in ms since the epoch. */
const latestTime = 8.64e15;

/** The status with a stamp that it never had, for a write that records a completion; `now` in ms since the epoch. */
export function withNewStamp(status: StageSetStatus, now: number): StageSetStatus {
  const before = Date.parse(status.lastActionCompletion ?? "");
  // Also where the clock was set back; what is no time a stamp can follow is none of ours.
  const stamp = before < latestTime ? Math.max(now, before + 1) : now;
  return { ...status, lastActionCompletion: new Date(stamp).toISOString() };
}
