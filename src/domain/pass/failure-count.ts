import type { StageSetStatus } from "../../api/stage-set.ts";
import type { Failure } from "../failure.ts";
import { dirtyAfter, haltedAction, haltedMigration, howToResume } from "../holds/dirty-halt.ts";
import { requestToken } from "./plan.ts";
import type { PassState } from "./state.ts";
import type { Step } from "./step.ts";

/**
 * A fresh requestedAt zeroes the failure counters before anything else is decided, which lifts a dirty halt (spec 30 §4.3).
 * The token goes on record with the end of the pass; until then this process remembers what it has done for it.
 */
export function unhaltRecord(state: PassState): Extract<Step, { kind: "record" }> | undefined {
  const { status } = state.stored;
  const token = freshRequest(state);
  const counted = (status.actionFailureCount ?? 0) > 0 || (status.migrationFailureCount ?? 0) > 0;
  if (token === undefined || !counted) return undefined;
  return {
    kind: "record",
    write: { kind: "status", status: withoutFailureCounts(status) },
    remember: { unhalted: token, failureCounted: false },
    joinsNext: "once prepared",
  };
}

/** The token of requestedAt, while the counters are not zeroed for it. */
function freshRequest(state: PassState): string | undefined {
  const token = requestToken(state);
  const handled = token === state.stored.status.lastHandledReconcileAt || token === state.memory.unhalted;
  return handled ? undefined : token;
}

export function withoutFailureCounts(status: StageSetStatus): StageSetStatus {
  const { actionFailureCount: _action, migrationFailureCount: _migration, ...rest } = status;
  return rest;
}

/** A failure with what it does to its counter; the fifth in a row is a dirty halt. */
export function counted(
  state: PassState,
  why: Failure,
): {
  readonly why: Failure;
  readonly change: Pick<StageSetStatus, "actionFailureCount" | "migrationFailureCount">;
  readonly isNew: boolean;
} {
  if (why.counts === undefined) return { why, change: {}, isNew: false };
  const counter = why.counts === "action" ? "actionFailureCount" : "migrationFailureCount";
  const stored = freshRequest(state) === undefined ? (state.stored.status[counter] ?? 0) : 0;
  const isNew = !state.memory.failureCounted;
  const count = isNew ? stored + 1 : stored;
  return { why: count < dirtyAfter ? why : dirty(why, why.counts), change: { [counter]: count }, isNew };
}

function dirty(why: Failure, counts: NonNullable<Failure["counts"]>): Failure {
  if (why.stage === undefined) return why;
  const operation = counts === "action" ? haltedAction : haltedMigration;
  const cause = `${why.stage.cause}; ${howToResume}`;
  const { name } = why.stage;
  return {
    reason: counts === "action" ? "ActionDirty" : "MigrationDirty",
    message: `stage "${name}" ${operation}: ${cause}`,
    next: "interval",
    stage: { name, operation, cause },
    terminal: true,
  };
}
