import type { Wake } from "../domain/pass/step.ts";
import type { Engine } from "./engine.ts";
import { followedOf } from "./facts/readiness.ts";
import type { Looked } from "./pass.ts";
import type { StageSetKey } from "./journal.ts";
import type { StageWatch } from "./observer.ts";

/** Hands what a pass waits for to the observer and gives the earliest time to look again, monotonic ms. */
export async function followWakes(
  engine: Engine,
  pass: { readonly key: StageSetKey; readonly looked: ReadonlyMap<string, Looked> },
  wakes: readonly Wake[],
  signal: AbortSignal,
): Promise<number | undefined> {
  const stages: StageWatch[] = [];
  let earliest: number | undefined;
  for (const wake of wakes) {
    if (wake.kind === "at") {
      earliest = Math.min(earliest ?? Infinity, wake.elapsed);
      continue;
    }
    const looked = pass.looked.get(wake.stage);
    if (looked === undefined) continue;
    const { access, awaited, lookedAt } = looked;
    const { followed, poll } = await followedOf(engine, { key: pass.key, awaited, access }, signal);
    const shared = wake.as.kind === "serviceAccount" && engine.sharers(pass.key.namespace, wake.as.name) > 1;
    stages.push({ key: pass.key, stage: wake.stage, access, followed, shared, poll, lookedAt });
  }
  if (stages.length === 0) engine.observer.release(pass.key);
  else engine.observer.follow(pass.key, stages);
  return earliest;
}
