import { KubeError } from "../kube/error.ts";
import type { Engine } from "./engine.ts";
import { readLadder } from "./facts/ladder.ts";
import type { Pass } from "./pass.ts";

/**
 * Parses a ladder that the pass did not ask for, beside the passes, when its source may have changed: what is wrong with it
 * is told before a version needs it, and touches nothing (spec 30 §7). Once for each artifact.
 */
export function checkLadderAhead(engine: Engine, pass: Pass, signal: AbortSignal): void {
  const { spec, deletedAt } = pass.snapshot;
  const changed = pass.causes.has("source") || pass.causes.has("start") || pass.causes.has("spec");
  if (spec?.migrationsSourceRef === undefined || spec.suspend === true || deletedAt !== undefined) return;
  if (!changed || pass.facts.has("ladder")) return;
  readLadder(engine, pass, signal)
    .then((fact) => {
      if (fact.kind === "ladder" && "refused" in fact && fact.refused.reason === "MigrationArtifactInvalid") {
        const note = fact.refused.message;
        pass.report.event({ type: "Warning", reason: "MigrationArtifactInvalid", note, once: `ladder ${note}` });
      }
      pass.report.flush(engine, pass);
    })
    .catch((error: unknown) => {
      // It is read again when it is needed.
      if (!signal.aborted && !(error instanceof KubeError))
        pass.logger.warn("the ladder could not be looked at ahead", { error });
    });
}
