import type { StageSetStatus } from "../api/stage-set.ts";

/** A status that must never be written: a bug, not a condition of the cluster. */
export class InvariantViolation extends Error {
  override name = "InvariantViolation";
}

/**
 * What every status write satisfies (spec 20 E4, 10 §5). Checked by the journal, so that a wrong decision stops before
 * it is stored.
 *
 * @throws {InvariantViolation}
 */
export function checkStatus(status: StageSetStatus, generation: number): void {
  if ((status.observedGeneration ?? 0) > generation)
    throw new InvariantViolation(
      `observedGeneration ${status.observedGeneration ?? 0} is above generation ${generation}`,
    );
  const ready = status.conditions?.find((condition) => condition.type === "Ready");
  if (ready?.status === "True" && ready.reason !== "Succeeded")
    throw new InvariantViolation(`Ready is True for reason "${ready.reason}"`);
  const attempted = new Set(Object.values(status.lastAttemptedRevisions ?? {}));
  for (const stage of status.stages ?? []) {
    if (stage.phase !== "Ready" || ready?.reason === "Suspended") continue;
    if (stage.appliedRevision === undefined || stage.appliedRevision === "")
      throw new InvariantViolation(`stage "${stage.name}" is Ready and nothing was applied`);
    if (attempted.size > 0 && !attempted.has(stage.appliedRevision))
      throw new InvariantViolation(
        `stage "${stage.name}" is Ready at "${stage.appliedRevision}", which is not among the attempted revisions`,
      );
  }
}
