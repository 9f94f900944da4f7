/**
 * Measures the controller on a real control plane and prints one JSON line per row: ours, the floor of a bare client in the
 * same run, their ratio, the controller's CPU and memory, requests. `npm run bench -- [row …]`; rows: configmaps,
 * deployments, idle, large. Without arguments all but `large`. Progress goes to stderr.
 */
import { sleep, systemClock } from "../src/lib/clock.ts";
import type { KubeObject } from "../src/lib/kube-object.ts";
import { mergePatchRequest } from "../src/kube/request.ts";
import {
  deployments,
  progress,
  stageSets,
  startBenchCluster,
  startProgram,
  type BenchCluster,
  type MeasuredProgram,
} from "./bench/cluster.ts";
import {
  artifactFiles,
  configMap,
  namespace,
  objectName,
  slowDeployment,
  stageSet,
  type Maker,
  type Shape,
} from "./bench/manifests.ts";
import { isAvailable, isReadyAt, observe, stagesReady } from "./bench/observer.ts";

interface Row {
  readonly row: string;
  /** Seconds, unless `unit` says otherwise. */
  readonly ours: number;
  readonly floor: number;
  readonly ratio: number;
  readonly budget: string;
  readonly cpuMs: number;
  readonly requests: number;
  readonly rssMb: number;
  readonly unit?: string;
}

const rows: Readonly<Record<string, () => Promise<void>>> = {
  configmaps: () => configMapRows({ stageSets: 100, stages: 3, objects: 5 }, "5 s, 4 s CPU"),
  deployments: () => deploymentRows({ stageSets: 20, stages: 3, objects: 3 }),
  idle: () => idleRow({ stageSets: 100, stages: 3, objects: 5 }),
  large: () => configMapRows({ stageSets: 1_000, stages: 1, objects: 4 }, "30 s, 25 s CPU, 220 MB"),
};

const wanted = process.argv.slice(2);
for (const name of wanted.length === 0 ? ["configmaps", "deployments", "idle"] : wanted) {
  const run = rows[name];
  if (run === undefined) throw new RangeError(`no row "${name}"; there are ${Object.keys(rows).join(", ")}`);
  progress(`row ${name}`);
  await run();
}

function print(row: Row): void {
  process.stdout.write(`${JSON.stringify(row)}\n`);
}

function seconds(ms: number): number {
  return Math.round(ms) / 1_000;
}

function rowOf(
  row: string,
  budget: string,
  measured: { readonly oursMs: number; readonly floorMs: number } & Pick<Row, "cpuMs" | "requests" | "rssMb">,
): Row {
  const { oursMs, floorMs, cpuMs, requests, rssMb } = measured;
  const ratio = Math.round((oursMs / floorMs) * 100) / 100;
  return { row, ours: seconds(oursMs), floor: seconds(floorMs), ratio, budget, cpuMs, requests, rssMb };
}

/** Namespace, ServiceAccounts with every right, and published artifacts: what exists before the clock starts. */
async function prepare(cluster: BenchCluster, shape: Shape, make: Maker): Promise<void> {
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  await cluster.apply({
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: { name: "bench" },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "cluster-admin" },
    subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: `system:serviceaccounts:${namespace}` }],
  });
  await each(shape.stageSets, async (index) => {
    await cluster.apply({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name: `s${index}`, namespace } });
  });
  await publish(cluster, { shape, make, version: "v1" });
}

async function publish(
  cluster: BenchCluster,
  { shape, make, version }: { readonly shape: Shape; readonly make: Maker; readonly version: string },
): Promise<void> {
  await each(shape.stageSets, (index) =>
    cluster.publisher.publish({
      namespace,
      name: `s${index}`,
      revision: version,
      files: artifactFiles(shape, index, make, version),
    }),
  );
}

/** Runs `work` for 0 … count-1, 16 at a time. */
async function each(count: number, work: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      while (next < count) await work(next++);
    }),
  );
}

interface Before {
  readonly cpuMs: number;
  readonly requests: number;
}

async function before(cluster: BenchCluster, program: MeasuredProgram): Promise<Before> {
  return { cpuMs: await program.cpuMs(), requests: await cluster.requests() };
}

async function since(
  cluster: BenchCluster,
  program: MeasuredProgram,
  start: Before,
): Promise<Pick<Row, "cpuMs" | "requests" | "rssMb">> {
  return {
    cpuMs: (await program.cpuMs()) - start.cpuMs,
    requests: (await cluster.requests()) - start.requests,
    rssMb: await program.rssMb(),
  };
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

/** Server-side apply of as many objects by a bare client. */
async function floorOfApplies(shape: Shape, make: Maker): Promise<number> {
  await using cluster = await startBenchCluster({ kwok: false });
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  const started = systemClock.monotonic();
  await each(shape.stageSets, async (index) => {
    for (let stage = 0; stage < shape.stages; stage++)
      await Promise.all(
        Array.from({ length: shape.objects }, (_, object) =>
          cluster.apply(make(objectName(index, stage, object), "v1")),
        ),
      );
  });
  return systemClock.monotonic() - started;
}

async function deploymentRows(shape: Shape): Promise<void> {
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
  print(rowOf(`${what}-ready-after-5s`, "17 s", { oursMs, floorMs, ...measured }));

  const advances: number[] = [];
  for (let index = 0; index < shape.stageSets; index++)
    for (let stage = 0; stage < shape.stages; stage++) {
      const names = Array.from({ length: shape.objects }, (_, object) => objectName(index, stage, object));
      const last = Math.max(...names.map((name) => objectsReady.get(name) ?? Infinity));
      advances.push((stageReady.get(`s${index}/stage-${stage}`) ?? Infinity) - last);
    }
  advances.sort((a, b) => a - b);
  for (const [name, share, budget] of [
    ["p50", 0.5, "50 ms"],
    ["p95", 0.95, "150 ms"],
  ] as const) {
    const ours = Math.round(advances[Math.floor((advances.length - 1) * share)] ?? 0);
    print({ row: `stage-advance-${name}`, ours, floor: 0, ratio: 0, budget, unit: "ms", ...measured });
  }
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
async function idleRow(shape: Shape): Promise<void> {
  await using cluster = await startBenchCluster({ kwok: false });
  await prepare(cluster, shape, configMap);
  {
    await using program = await startProgram(cluster.plane);
    using seen = observe(cluster.client, stageSets);
    const done = seen.until(shape.stageSets, isReadyAt("v1"));
    await each(shape.stageSets, (index) => cluster.apply(stageSet(shape, index)));
    await done;
    await sleep(systemClock, 10_000);
    const rssMb = await program.rssMb();
    const zero = { floor: 0, ratio: 0, cpuMs: 0, requests: 0, rssMb };
    print({ row: `${shape.stageSets}-idle-memory`, ours: rssMb, unit: "MB", budget: "120 MB", ...zero });
  }
  await using again = await startProgram(cluster.plane);
  const rssMb = await again.rssMb();
  const startMs = Math.round(again.startMs);
  print({
    row: `${shape.stageSets}-start-to-gate`,
    ours: startMs,
    unit: "ms",
    budget: "2000 ms",
    floor: 0,
    ratio: 0,
    cpuMs: 0,
    requests: 0,
    rssMb,
  });
}
