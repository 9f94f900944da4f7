/**
 * Measures the controller on a real control plane and prints one JSON line per row: ours, the floor of a bare client in the
 * same run, their ratio, the controller's CPU and memory, requests. `npm run bench -- [row …]`; rows:
 * see `rows` below; those of a `pod` run within its limits (1 CPU, 512 MiB) and need root. Without arguments those that take seconds. `BENCH_ARGS`: more flags of the controller;
 * `BENCH_CPU_PROF`: a folder for its CPU profile. Progress goes to stderr.
 */
import { sleep, systemClock } from "../src/lib/clock.ts";
import type { KubeObject } from "../src/lib/kube-object.ts";
import { mergePatchRequest } from "../src/kube/request.ts";
import { burstRow, manyObjectsRow, nearLimitRow, restartRows, steadyRows, stuckRow } from "./bench/capacity-rows.ts";
import { deployments, progress, stageSets, startBenchCluster, startProgram } from "./bench/cluster.ts";
import { driftRow } from "./bench/drift-row.ts";
import { gateRows } from "./bench/gate-rows.ts";
import {
  configMap,
  namespace,
  objectName,
  slowDeployment,
  stageSet,
  suspended,
  type Shape,
} from "./bench/manifests.ts";
import {
  before,
  each,
  figure,
  floorOfApplies,
  percentile,
  prepare,
  print,
  publish,
  release,
  rowOf,
  since,
} from "./bench/measure.ts";
import { isAvailable, isReadyAt, observe, stagesReady } from "./bench/observer.ts";
import { bigArtifactRow, releaseRow } from "./bench/scale-rows.ts";

/** By then every StageSet has had its first pass. */
const startedMs = 30_000;
/** Sockets and workers without work go after a minute; V8 gives memory back when little was allocated for 8 s. */
const quietMs = 75_000;

const rows: Readonly<Record<string, () => Promise<void>>> = {
  configmaps: () => configMapRows({ stageSets: 100, stages: 3, objects: 5 }, "5 s, 4 s CPU"),
  deployments: () => deploymentRows({ stageSets: 20, stages: 3, objects: 3 }, "17 s"),
  "deployments-100": () => deploymentRows({ stageSets: 100, stages: 3, objects: 3 }, "1.5 x floor"),
  drift: () => driftRow({ stageSets: 20, stages: 1, objects: 5 }),
  gate: () => gateRows({ stageSets: 20, stages: 1, objects: 1 }),
  idle: () => idleRow({ stageSets: 100, stages: 3, objects: 5 }, "120 MB"),
  "idle-1000": () => idleRow({ stageSets: 1_000, stages: 3, objects: 5 }, "200 MB"),
  large: () => configMapRows({ stageSets: 1_000, stages: 1, objects: 4 }, "30 s, 25 s CPU, 220 MB"),
  start: () => startRow({ stageSets: 1_000, stages: 3, objects: 5 }),
  "scale-stagesets": () => releaseRow({ stageSets: 1_000, stages: 2, objects: 5 }),
  "scale-objects": () => releaseRow({ stageSets: 1, stages: 1, objects: 5_000 }),
  "scale-stages": () => releaseRow({ stageSets: 1, stages: 200, objects: 2 }),
  "scale-stages-1000": () => releaseRow({ stageSets: 1, stages: 1_000, objects: 1 }),
  "scale-artifact": () => bigArtifactRow(60),
  "pod-burst": () => burstRow(50),
  "pod-steady": () => steadyRows({ stageSets: 500, stages: 3, objects: 20 }),
  "pod-restart": () => restartRows({ stageSets: 500, stages: 3, objects: 20 }),
  "pod-stuck": () => stuckRow(20),
  "pod-objects": () => manyObjectsRow(10_000),
  "pod-memory": () => nearLimitRow(8),
};

const wanted = process.argv.slice(2);
for (const name of wanted.length === 0 ? ["configmaps", "deployments", "drift", "gate", "idle"] : wanted) {
  const run = rows[name];
  if (run === undefined) throw new RangeError(`no row "${name}"; there are ${Object.keys(rows).join(", ")}`);
  progress(`row ${name}`);
  await run();
}

async function configMapRows(shape: Shape, budget: string): Promise<void> {
  const floorMs = await floorOfApplies(shape, configMap);
  await using cluster = await startBenchCluster({ kwok: false });
  await prepare(cluster, shape, configMap);
  await using program = await startProgram(cluster.plane);
  using seen = observe(cluster.client, stageSets);
  const what = `${shape.stageSets}x${shape.stages}x${shape.objects}-configmaps`;

  const installing = await before(cluster, program);
  const started = systemClock.monotonic();
  const installed = seen.until(shape.stageSets, isReadyAt("v1"));
  await each(shape.stageSets, (index) => cluster.apply(stageSet(shape, index)));
  const oursMs = (await installed) - started;
  print(rowOf(`${what}-install`, budget, { oursMs, floorMs, ...(await since(cluster, program, installing)) }));

  const upgrading = await before(cluster, program);
  const published = systemClock.monotonic();
  const upgraded = seen.until(shape.stageSets, isReadyAt("v2"));
  await publish(cluster, { shape, make: configMap, version: "v2" });
  const upgradeMs = (await upgraded) - published;
  print(
    rowOf(`${what}-upgrade`, budget, { oursMs: upgradeMs, floorMs, ...(await since(cluster, program, upgrading)) }),
  );

  await sleep(systemClock, 1_000);
  const asking = await before(cluster, program);
  const asked = systemClock.monotonic();
  const handled = seen.until(
    shape.stageSets,
    (object: KubeObject) =>
      (object["status"] as { lastHandledReconcileAt?: string } | undefined)?.lastHandledReconcileAt === "bench",
  );
  await each(shape.stageSets, (index) =>
    cluster.client.send(
      mergePatchRequest(stageSets, {
        namespace,
        name: `s${index}`,
        patch: { metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": "bench" } } },
      }),
    ),
  );
  const steadyMs = (await handled) - asked;
  const steady = await since(cluster, program, asking);
  // The patches themselves are not the controller's.
  const requests = steady.requests - shape.stageSets;
  print(rowOf(`${what}-requested`, "200 requests, 1 s CPU", { oursMs: steadyMs, floorMs, ...steady, requests }));
}

async function deploymentRows(shape: Shape, budget: string): Promise<void> {
  const floorMs = await floorOfDeployments(shape);
  await using cluster = await startBenchCluster({ kwok: true });
  await prepare(cluster, shape, slowDeployment);
  await using program = await startProgram(cluster.plane);
  using seen = observe(cluster.client, stageSets);
  using workloads = observe(cluster.client, deployments);
  const objectsReady = workloads.firstSeen((object) => (isAvailable(object) ? [object.metadata.name] : []));
  const stageReady = seen.firstSeen(stagesReady);
  const start = await before(cluster, program);
  const started = systemClock.monotonic();
  const done = seen.until(shape.stageSets, isReadyAt("v1"));
  await each(shape.stageSets, (index) => cluster.apply(stageSet(shape, index)));
  const oursMs = (await done) - started;
  const measured = await since(cluster, program, start);
  const what = `${shape.stageSets}x${shape.stages}x${shape.objects}-deployments`;
  print(rowOf(`${what}-ready-after-5s`, budget, { oursMs, floorMs, ...measured }));

  const advances: number[] = [];
  for (let index = 0; index < shape.stageSets; index++)
    for (let stage = 0; stage < shape.stages; stage++) {
      const names = Array.from({ length: shape.objects }, (_, object) => objectName(index, stage, object));
      const last = Math.max(...names.map((name) => objectsReady.get(name) ?? Infinity));
      advances.push((stageReady.get(`s${index}/stage-${stage}`) ?? Infinity) - last);
    }
  for (const [name, share, limit] of [
    ["p50", 0.5, "50 ms"],
    ["p95", 0.95, "150 ms"],
  ] as const)
    print(figure(`${what}-stage-advance-${name}`, { ours: percentile(advances, share), unit: "ms", budget: limit }));
}

/** A bare client that applies each stage when the one before is ready, all StageSets at once. */
async function floorOfDeployments(shape: Shape): Promise<number> {
  await using cluster = await startBenchCluster({ kwok: true });
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  using seen = observe(cluster.client, deployments);
  const started = systemClock.monotonic();
  await Promise.all(
    Array.from({ length: shape.stageSets }, async (_, index) => {
      for (let stage = 0; stage < shape.stages; stage++) {
        const names = Array.from({ length: shape.objects }, (_unused, object) => objectName(index, stage, object));
        await Promise.all(names.map((name) => cluster.apply(slowDeployment(name, "v1"))));
        await seen.until(shape.objects, (object) => names.includes(object.metadata.name) && isAvailable(object));
      }
    }),
  );
  return systemClock.monotonic() - started;
}

/** Memory with everything deployed and nothing to do, and the time a fresh start takes to serve the gate. */
async function idleRow(shape: Shape, budget: string): Promise<void> {
  await using cluster = await startBenchCluster({ kwok: false });
  await prepare(cluster, shape, configMap);
  const what = `${shape.stageSets}x${shape.stages}x${shape.objects}`;
  {
    await using program = await startProgram(cluster.plane);
    await release(cluster, shape);
    print(figure(`${what}-after-release-memory`, { ours: await program.rssMb(), unit: "MB", budget: "-" }));
    await sleep(systemClock, quietMs);
    print(figure(`${what}-idle-after-release-memory`, { ours: await program.rssMb(), unit: "MB", budget }));
  }
  await using again = await startProgram(cluster.plane);
  print(figure(`${what}-start-to-gate`, { ours: again.startMs, unit: "ms", budget: "2000 ms" }));
  await sleep(systemClock, quietMs);
  print(figure(`${what}-idle-after-start-memory`, { ours: await again.rssMb(), unit: "MB", budget }));
}

/** The time a start takes to serve the gate of StageSets that are there and suspended: nothing is released for it. */
async function startRow(shape: Shape): Promise<void> {
  await using cluster = await startBenchCluster({ kwok: false });
  await prepare(cluster, shape, configMap);
  await each(shape.stageSets, (index) => cluster.apply(suspended(stageSet(shape, index))));
  await using program = await startProgram(cluster.plane);
  const what = `${shape.stageSets}x${shape.stages}-suspended`;
  print(figure(`${what}-start-to-gate`, { ours: program.startMs, unit: "ms", budget: "2000 ms" }));
  await sleep(systemClock, startedMs);
  print(figure(`${what}-after-start-memory`, { ours: await program.rssMb(), unit: "MB", budget: "200 MB" }));
}
