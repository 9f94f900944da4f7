import type { Stage, StageSetSpec } from "../../api/stage-set.ts";
import { mostListed } from "../../domain/pass/waiting-for.ts";
import type { PodCause } from "../../domain/readiness/pod-cause.ts";
import type { Readiness } from "../../domain/readiness/readiness.ts";
import { verifyTimeoutMs } from "../../domain/timing.ts";
import type { Access } from "../../identity/access.ts";
import type { Engine } from "../engine.ts";
import type { Awaited } from "../awaited.ts";
import type { Pass } from "../pass.ts";
import type { Explained } from "../pod-causes.ts";

/** What was looked at of one object that counts, and what it says of itself. */
export interface Judged {
  readonly each: Awaited;
  readonly seen: { readonly readiness: Readiness };
}

/** Why objects are not ready, as far as their pods tell it. */
export type Causes = ReadonlyMap<Awaited, PodCause>;

/** A look that comes so shortly before the end of the clock is the last one. */
const lastLookMs = 1_000;

/**
 * Explains what status names, after everything has been judged. What is known costs nothing; pods are asked here only
 * when something final is about to be said, or when a newer revision depends on it whether the wait goes on.
 */
export async function explain(
  engine: Engine,
  pass: Pass,
  of: {
    readonly spec: StageSetSpec;
    readonly stage: Stage;
    readonly access: Access;
    readonly troubled: readonly Judged[];
  },
  signal: AbortSignal,
): Promise<{ readonly causes: Causes; readonly workloads: readonly Explained[] }> {
  const { access, troubled } = of;
  const failed = troubled.find(({ seen }) => seen.readiness.status === "Failed");
  const named = failed === undefined ? troubled.slice(0, mostListed) : [failed];
  const explanations = named.map(({ each }) => ({
    each,
    explanation: engine.observer.get(pass.key, access, each.id)?.explanation,
  }));
  const workloads = explanations.flatMap(({ each, explanation }) =>
    explanation?.pods === undefined ? [] : [{ access, id: each.id, pods: explanation.pods }],
  );
  if (failed !== undefined || isDecisive(engine, pass, of)) await engine.podCauses.look(pass.key, workloads, signal);
  const causes = new Map<Awaited, PodCause>();
  for (const { each, explanation } of explanations) {
    const asked = explanation?.pods === undefined ? undefined : engine.podCauses.get(pass.key, { access, id: each.id });
    const cause = asked ?? explanation?.cause;
    if (cause !== undefined) causes.set(each, cause);
  }
  return { causes, workloads };
}

/** The stage has waited before this pass, and its clock is out or a source has something new. */
function isDecisive(
  engine: Engine,
  pass: Pass,
  { spec, stage }: { readonly spec: StageSetSpec; readonly stage: Stage },
): boolean {
  const started = pass.session.memory.verifyStarted.get(stage.name);
  if (started === undefined) return false;
  return pass.causes.has("source") || engine.clock.monotonic() - started >= verifyTimeoutMs(spec, stage) - lastLookMs;
}
