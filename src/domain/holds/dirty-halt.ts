import type { StageSetStatus, StageStatus } from "../../api/stage-set.ts";
import type { StageOperation } from "../failure.ts";
import { readyCondition } from "../status.ts";
import type { GoalInput, Hold } from "./hold.ts";

/** So many passes in a row end in the failure of a Lifetime action, or of a migration, before nothing runs (spec 30 §4.5). */
export const dirtyAfter = 5;

/** The operations under which a stage tells of the failure that halted it. */
export const haltedAction = "action halted (dirty)" satisfies StageOperation;
export const haltedMigration = "migration halted (dirty)" satisfies StageOperation;

/** What lifts a halt, for the end of its message. */
export const howToResume = "nothing is run until reconcile.fluxcd.io/requestedAt is given a new value";

/**
 * The durable halt: it is in the status, so neither a restart nor a new spec, ladder or artifact lifts it. Nothing enters,
 * and no migration and no action runs; what is deployed is still corrected.
 */
export function dirtyHalt({
  spec,
  status,
  now,
  intervalMs,
}: Pick<GoalInput, "spec" | "status" | "now" | "intervalMs">): Hold | undefined {
  const until = now + intervalMs;
  const told = (operation: StageOperation): string | undefined => {
    const halted = status.stages?.find(
      ({ name, message }) => startsWith(message, operation) && spec.stages.some((stage) => stage.name === name),
    );
    return halted?.message === undefined ? undefined : `stage "${halted.name}" ${halted.message}`;
  };
  if ((status.migrationFailureCount ?? 0) >= dirtyAfter) {
    const message = told(haltedMigration) ?? messageOfReady(status) ?? unknown(haltedMigration, "a migration");
    return { kind: "refusal", reason: "MigrationDirty", message, until };
  }
  if ((status.actionFailureCount ?? 0) < dirtyAfter) return undefined;
  const message = told(haltedAction) ?? unknown(haltedAction, "a Lifetime action");
  return { kind: "refusal", reason: "ActionDirty", message, until };
}

/** The stage whose action or migration led to the halt. */
export function isHalted({ message }: StageStatus): boolean {
  return startsWith(message, haltedAction) || startsWith(message, haltedMigration);
}

function startsWith(message: string | undefined, operation: StageOperation): boolean {
  return message?.startsWith(`${operation}: `) === true;
}

function unknown(operation: StageOperation, what: string): string {
  return `${operation}: ${dirtyAfter} passes in a row ended in the failure of ${what}; ${howToResume}`;
}

/** A halt that no stage tells of is told by Ready alone, whose messages end with a link of their own. */
function messageOfReady(status: StageSetStatus): string | undefined {
  const ready = readyCondition(status);
  return ready?.reason === "MigrationDirty" ? ready.message.replace(/ \(runbook: [^()]*\)$/, "") : undefined;
}
