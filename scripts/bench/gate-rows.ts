import { stageSets, startBenchCluster, startProgram } from "./cluster.ts";
import { measureGate } from "./gate.ts";
import { configMap, namespace, stageSet, type Shape } from "./manifests.ts";
import { before, each, prepare, print, since } from "./measure.ts";
import { isReadyAt, observe } from "./observer.ts";

/** Answers of the gate: confirmed by live reads, and closed from the cache. */
export async function gateRows(shape: Shape): Promise<void> {
  await using cluster = await startBenchCluster({ kwok: false });
  await prepare(cluster, shape, configMap);
  await using program = await startProgram(cluster.plane);
  using seen = observe(cluster.client, stageSets);
  const done = seen.until(shape.stageSets, isReadyAt("v1"));
  await each(shape.stageSets, (index) => cluster.apply(stageSet(shape, index)));
  await done;
  const start = await before(cluster, program);
  const gate = await measureGate(cluster, program, { namespace, name: "s0", stage: "stage-0" });
  const measured = await since(cluster, program, start);
  const { confirmedP99, readsP99, closedP99, closedPerCore, closedPerSecond } = gate;
  const ratio = Math.round((confirmedP99 / readsP99) * 100) / 100;
  const confirmed = { row: "gate-confirmed-200-p99", ours: confirmedP99, floor: readsP99, ratio, budget: "10 ms" };
  print({ ...confirmed, unit: "ms", ...measured });
  const none = { floor: 0, ratio: 0, ...measured };
  print({ row: "gate-closed-p99", ours: closedP99, budget: "2 ms", unit: "ms", ...none });
  print({
    row: "gate-closed-per-core",
    ours: closedPerCore,
    budget: "5000/s",
    unit: "answers per CPU second",
    ...none,
  });
  print({ row: "gate-closed-per-second", ours: closedPerSecond, budget: "-", unit: "answers/s", ...none });
}
