import { leaderLeaseName } from "../../src/api/keys.ts";
import { leases } from "../../src/kube/lease.ts";
import { getRequest, listRequest, mergePatchRequest, type ApiResource } from "../../src/kube/request.ts";
import { sleep, systemClock } from "../../src/lib/clock.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import {
  progress,
  stageSets,
  startBenchCluster,
  startProgram,
  type BenchCluster,
  type MeasuredProgram,
} from "./cluster.ts";
import { createControlGroup, type ControlGroup } from "./control-group.ts";
import { artifactFiles, configMap, namespace, objectName, slowDeployment, stageSet, type Shape } from "./manifests.ts";
import { before, each, figure, percentile, prepare, print, publish, release, since } from "./measure.ts";
import { noise } from "./noise.ts";
import { isReadyAt, observe } from "./observer.ts";

/** What spec 60 §13 is measured with. */
const pod = { cpus: 1, memoryMiB: 512 } as const;

const inventories: ApiResource = { ...stageSets, kind: "StageInventory", plural: "stageinventories" };

/** A release in a pod of that size. */
async function withinPod(
  shape: Shape,
  work: (parts: { cluster: BenchCluster; group: ControlGroup }) => Promise<void>,
): Promise<void> {
  await using cluster = await startBenchCluster({ kwok: false });
  await using group = await createControlGroup(pod);
  await prepare(cluster, shape, configMap);
  await work({ cluster, group });
}

/** As many StageSets of one object, created at once. */
export async function burstRow(count: number): Promise<void> {
  const shape: Shape = { stageSets: count, stages: 1, objects: 1 };
  await withinPod(shape, async ({ cluster, group }) => {
    await using program = await startProgram(cluster.plane, { group });
    const start = await before(cluster, program);
    const ours = (await release(cluster, shape)) / 1_000;
    const used = await since(cluster, program, start);
    print(figure(`pod-${count}-at-once`, { ours, unit: "s", budget: "60 s", ...used }));
  });
}

const steadyMs = 10 * 60_000;
const settledMs = 75_000;
const changedSets = 10;

/** At rest for an interval of ten minutes. */
export async function steadyRows(shape: Shape): Promise<void> {
  const objects = shape.stageSets * shape.stages * shape.objects;
  await withinPod(shape, async ({ cluster, group }) => {
    await using program = await startProgram(cluster.plane, { group });
    await release(cluster, shape);
    await each(shape.stageSets, (index) => setInterval(cluster, index, "10m"));
    await sleep(systemClock, settledMs);
    progress("at rest for ten minutes");
    const start = await before(cluster, program);
    let mostMb = 0;
    for (const until = systemClock.monotonic() + steadyMs; systemClock.monotonic() < until;) {
      mostMb = Math.max(mostMb, await program.rssMb());
      await sleep(systemClock, 5_000);
    }
    const used = await since(cluster, program, start);
    const what = `pod-${shape.stageSets}x${shape.stages}x${shape.objects}-steady`;
    print(figure(`${what}-memory`, { unit: "MB", budget: "400 MB", ...used, ours: mostMb }));
    const cores = used.cpuMs / steadyMs;
    print(figure(`${what}-cpu`, { unit: "core/1000", budget: "300", ...used, ours: cores * 1_000 }));
    const most = objects + 10 * shape.stageSets;
    print(figure(`${what}-requests`, { unit: "requests", budget: String(most), ...used, ours: used.requests }));
  });
}

/** A new leader that finds some of them behind their sources: from the start of its process until they are released. */
export async function restartRows(shape: Shape): Promise<void> {
  await withinPod(shape, async ({ cluster, group }) => {
    {
      await using _program = await startProgram(cluster.plane, { group });
      await release(cluster, shape);
    }
    await publish(cluster, { shape, make: configMap, version: "v2", count: changedSets });
    using seen = observe(cluster.client, stageSets);
    const began = systemClock.monotonic();
    const resumed = seen.until(changedSets, isReadyAt("v2"));
    await using program = await startProgram(cluster.plane, { group });
    const ours = ((await resumed) - began) / 1_000;
    const first = await before(cluster, program);
    print(figure(`pod-${shape.stageSets}-restart-resumed`, { ours, unit: "s", budget: "10 s" }));
    await sleep(systemClock, 60_000);
    const { requests } = await since(cluster, program, first);
    print(
      figure(`pod-${shape.stageSets}-restart-requests-per-minute`, { ours: requests, unit: "requests", budget: "-" }),
    );
  });
}

async function setInterval(cluster: BenchCluster, index: number, interval: string): Promise<void> {
  const patch = { spec: { interval } };
  await cluster.client.send(mergePatchRequest(stageSets, { namespace, name: `s${index}`, patch }));
}

const probes = 30;

/** How much longer a release takes while others are stuck in verification. */
export async function stuckRow(stuck: number): Promise<void> {
  const shape: Shape = { stageSets: stuck, stages: 1, objects: 1 };
  const one: Shape = { stageSets: 1, stages: 1, objects: 5 };
  await using cluster = await startBenchCluster({ kwok: false });
  await using group = await createControlGroup(pod);
  // No controller of Deployments runs: they are never ready.
  await prepare(cluster, shape, slowDeployment);
  await using _program = await startProgram(cluster.plane, { group });
  using seen = observe(cluster.client, stageSets);
  const times = async (name: string): Promise<readonly number[]> => {
    const found: number[] = [];
    for (let round = 0; round < probes; round++) {
      const version = `${name}-${round}`;
      const done = seen.until(1, isReadyAt(version));
      const began = systemClock.monotonic();
      // Of a number that none of the stuck ones has.
      const files = artifactFiles(one, stuck, configMap, version);
      await cluster.publisher.publish({ namespace, name: "probe", revision: version, files });
      if (round === 0) await cluster.apply(probeSet(one));
      found.push((await done) - began);
      await sleep(systemClock, 200);
    }
    return found.slice(1);
  };
  await cluster.apply({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "probe", namespace } });
  const alone = percentile(await times("alone"), 0.5);
  await each(stuck, (index) => cluster.apply(stageSet(shape, index)));
  await seen.until(stuck, (object) =>
    asArray(at(object, "status", "stages")).some((each) => at(each, "phase") === "Verifying"),
  );
  await sleep(systemClock, 5_000);
  const beside = percentile(await times("beside"), 0.5);
  print(
    figure(`pod-beside-${stuck}-stuck`, {
      ours: beside,
      floor: Math.round(alone * 10) / 10,
      ratio: Math.round((beside / alone) * 100) / 100,
      unit: "ms",
      budget: "1.1 x floor",
    }),
  );
}

function probeSet(shape: Shape): unknown {
  const { spec, ...rest } = stageSet(shape, 0);
  const stages = asArray(spec["stages"]).map((stage) => ({ ...(stage as object), sourceRef: { name: "probe" } }));
  return { ...rest, metadata: { name: "probe", namespace }, spec: { ...spec, serviceAccountName: "probe", stages } };
}

/** One stage of so many objects: its time, and what it does to probes and the lease. */
export async function manyObjectsRow(objects: number): Promise<void> {
  const shape: Shape = { stageSets: 1, stages: 1, objects };
  await withinPod(shape, async ({ cluster, group }) => {
    const args = ["--leader-elect", `--leader-election-namespace=${namespace}`];
    await using program = await startProgram(cluster.plane, { group, args });
    const start = await before(cluster, program);
    const watching = watchHealth(cluster, program);
    const ours = (await release(cluster, shape)) / 1_000;
    const { slowestProbeMs, longestLeaseMs } = await watching.stop();
    const used = await since(cluster, program, start);
    const shards = asArray(at(await cluster.client.send(listRequest(inventories, { namespace })), "items")).length;
    const what = `pod-stage-of-${objects}`;
    print(figure(what, { ours, unit: "s", budget: "120 s", ...used }));
    print(figure(`${what}-shards`, { ours: shards, unit: "shards", budget: "2" }));
    print(figure(`${what}-slowest-probe`, { ours: slowestProbeMs, unit: "ms", budget: "250 ms" }));
    print(figure(`${what}-lease-renewed-within`, { ours: longestLeaseMs, unit: "ms", budget: "10000 ms" }));
  });
}

function watchHealth(cluster: BenchCluster, program: MeasuredProgram) {
  let [slowestProbeMs, longestLeaseMs] = [0, 0];
  const stop = new AbortController();
  const work = (async () => {
    let renewed = "";
    let since = systemClock.monotonic();
    while (!stop.signal.aborted) {
      const asked = systemClock.monotonic();
      const response = await fetch(`http://127.0.0.1:${program.healthPort}/healthz`);
      await response.text();
      if (response.status !== 200) throw new Error(`the liveness probe answered ${response.status}`);
      slowestProbeMs = Math.max(slowestProbeMs, systemClock.monotonic() - asked);
      const lease = await cluster.client.send(getRequest(leases, { namespace, name: leaderLeaseName }));
      const now = asText(at(lease, "spec", "renewTime")) ?? "";
      if (now !== renewed) [renewed, since] = [now, systemClock.monotonic()];
      longestLeaseMs = Math.max(longestLeaseMs, systemClock.monotonic() - since);
      await sleep(systemClock, 100);
    }
  })();
  return {
    async stop() {
      stop.abort();
      await work;
      return { slowestProbeMs, longestLeaseMs };
    },
  };
}

const treeMiB = 12;
const blobMiB = 40;

/**
 * As many StageSets at once as would not fit: each of an artifact near the bounds, half of them with a kustomization of
 * {@link treeMiB} MiB of ConfigMaps. Its pod must not be killed.
 */
export async function nearLimitRow(count: number): Promise<void> {
  const shape: Shape = { stageSets: count, stages: 1, objects: 1 };
  await withinPod(shape, async ({ cluster, group }) => {
    await each(count, async (index) => {
      await cluster.publisher.publish({ namespace, name: `s${index}`, revision: "v1", files: largeFiles(index) });
    });
    await using program = await startProgram(cluster.plane, { group });
    const start = await before(cluster, program);
    const ours = (await release(cluster, shape)) / 1_000;
    const used = await since(cluster, program, start);
    const name = `pod-${count}-large-artifacts`;
    print(figure(name, { ours, unit: "s", budget: "-", ...used }));
    print(figure(`${name}-killed`, { ours: await group.killed(), unit: "times", budget: "0" }));
    print(figure(`${name}-group-peak`, { ours: await group.peakMb(), unit: "MB", budget: "537 MB" }));
  });
}

function largeFiles(index: number): Record<string, string> {
  const files: Record<string, string> = {};
  for (let blob = 0; blob < blobMiB / 10; blob++)
    files[`blobs/${blob}.bin`] = noise(10 * 1024 * 1024, index * 10 + blob);
  const maps = treeMiB * 2;
  const names = Array.from({ length: maps }, (_, map) => `${map}.yaml`);
  for (const [map, name] of names.entries()) {
    const object = configMap(objectName(index, 0, map), "v1") as { data: Record<string, string> };
    object.data = { text: noise(500 * 1024, index * 1_000 + map) };
    files[`0/${name}`] = JSON.stringify(object);
  }
  if (index % 2 === 0) files["0/kustomization.yaml"] = JSON.stringify({ resources: names });
  return files;
}
