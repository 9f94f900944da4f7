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
  // It may wait for long, and keeps nothing of the pass's renders meanwhile.
  const later: Pass = { ...pass, facts: new Map(), looked: new Map(), looksAhead: new Map(), connections: new Map() };
  const look = async (): Promise<void> => {
    const fact = await readLadder(engine, later, signal);
    if (fact.kind === "ladder" && "refused" in fact && fact.refused.reason === "MigrationArtifactInvalid") {
      const note = fact.refused.message;
      later.report.event({ type: "Warning", reason: "MigrationArtifactInvalid", note, once: `ladder ${note}` });
    }
    later.report.flush(engine, later);
  };
  const { namespace, name } = pass.key;
  engine.ladders.ahead.run(`${namespace}/${name}`, look, signal).catch((error: unknown) => {
    // It is read again when it is needed.
    if (!signal.aborted && !(error instanceof KubeError))
      later.logger.warn("the ladder could not be looked at ahead", { error });
  });
}
