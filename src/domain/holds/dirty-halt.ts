import type { StageStatus } from "../../api/stage-set.ts";
import type { StageOperation } from "../failure.ts";
import type { GoalInput, Hold } from "./hold.ts";

/** So many passes in a row end in the failure of a Lifetime action before nothing runs any more (spec 30 §4.5). */
export const dirtyAfter = 5;
const operation: StageOperation = "action halted (dirty)";

/** What lifts a halt, for the end of its message. */
export const howToResume = "nothing is run until reconcile.fluxcd.io/requestedAt is given a new value";

/**
 * The durable halt: it is in the status, so neither a restart nor a new spec or artifact lifts it. Nothing enters and no
 * action runs; what is deployed is still corrected.
 */
export function dirtyHalt({
  spec,
  status,
  now,
  intervalMs,
}: Pick<GoalInput, "spec" | "status" | "now" | "intervalMs">): Hold | undefined {
  if ((status.actionFailureCount ?? 0) < dirtyAfter) return undefined;
  const halted = status.stages?.find((entry) => isHalted(entry) && spec.stages.some(({ name }) => name === entry.name));
  const message =
    halted?.message === undefined
      ? `${operation}: ${dirtyAfter} passes in a row ended in the failure of a Lifetime action; ${howToResume}`
      : `stage "${halted.name}" ${halted.message}`;
  return { kind: "refusal", reason: "ActionDirty", message, until: now + intervalMs };
}

/** The stage whose action led to the halt. */
export function isHalted({ message }: StageStatus): boolean {
  return message?.startsWith(`${operation}: `) === true;
}
