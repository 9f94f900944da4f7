import { expect, test } from "vitest";
import { stringify } from "yaml";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, stageStatus, untilReady } from "../support/controller.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;
const stageSetKind = { apiVersion: "stages.metio.wtf/v1", kind: "StageSet" } as const;

/** Passes under way and passes that wait for a place. */
async function load({ controller }: Scene): Promise<{ readonly running: number; readonly waiting: number }> {
  const page = await controller.metrics();
  const read = (name: string): number => Number(new RegExp(`^${name}{.*} (\\d+)$`, "m").exec(page)?.[1]);
  return { running: read("controller_runtime_active_workers"), waiting: read("workqueue_depth") };
}

/** Milliseconds from the creation of a StageSet of one ConfigMap to Ready; the best of three, so that only what is systematic counts. */
async function deployTime(scene: Scene, prefix: string): Promise<number> {
  const times: number[] = [];
  for (const turn of [1, 2, 3]) {
    const name = `${prefix}-${turn}`;
    await scene.publish(name, { "a.yaml": configMap(name) });
    const started = performance.now();
    await scene.release(name, [{ name: "only", sourceRef: { name } }]);
    await untilReady(cluster, { namespace: scene.namespace, name });
    times.push(performance.now() - started);
  }
  return Math.min(...times);
}

/** A pod nobody schedules, so nothing but us ever looks at it. */
const gated = (name: string): string =>
  stringify({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name },
    spec: { schedulingGates: [{ name: "example.com/never" }], containers: [{ name: "main", image: "app" }] },
  });

/** Creates StageSets that verify a pod which is never ready, and waits until all are parked. */
async function park(scene: Scene, count: number): Promise<void> {
  await scene.publish("parked", { "pod.yaml": gated("${name}") });
  const left = Array.from({ length: count }, (_, index) => `parked-${index}`);
  const create = async (): Promise<void> => {
    for (let name = left.pop(); name !== undefined; name = left.pop()) {
      const stage = { name: "only", sourceRef: { name: "parked" }, postBuild: { substitute: { name } } };
      await scene.release(name, [stage], { timeout: "1h" });
    }
  };
  await Promise.all(Array.from({ length: 16 }, create));
  await eventually(
    async () => {
      const all = await admin.list({ ...stageSetKind, namespace: scene.namespace });
      const verifying = all.filter((each) => phaseOf(each) === "Verifying");
      expect(verifying).toHaveLength(count);
      return true;
    },
    { timeoutMs: 180_000, intervalMs: 2_000 },
  );
}

function phaseOf(stageSet: Parameters<typeof stageStatus>[0]): unknown {
  const entry = stageStatus(stageSet, "only");
  return typeof entry === "object" && entry !== null && "phase" in entry ? entry.phase : undefined;
}

/** No pass is under way at several looks in a row. */
async function expectIdle(scene: Scene): Promise<void> {
  let idle = 0;
  await eventually(
    async () => {
      const { running, waiting } = await load(scene);
      idle = running === 0 && waiting === 0 ? idle + 1 : 0;
      return idle >= 10;
    },
    { timeoutMs: 180_000 },
  );
}

/** +10 %, and what a busy machine adds to a few dozen requests. */
const bound = (aloneMs: number): number => 5 * 1.1 * aloneMs;

test("[20.37] with 50 StageSets parked in verification at concurrency 4, a 51st deploys in the time it takes alone", async () => {
  await using scene = await startScene(cluster, { config: { concurrency: 4 } });
  const alone = await deployTime(scene, "alone");
  const before = (await admin.list({ ...stageSetKind, namespace: scene.namespace })).length;
  expect(before).toBe(3);
  for (const name of ["alone-1", "alone-2", "alone-3"])
    await admin.delete({ ...stageSetKind, metadata: { namespace: scene.namespace, name } });
  await eventually(async () => (await admin.list({ ...stageSetKind, namespace: scene.namespace })).length === 0);
  await park(scene, 50);
  await expectIdle(scene);
  expect(await deployTime(scene, "last")).toBeLessThan(bound(alone));
});

test(
  "1,000 StageSets parked in verification hold no place, and one more deploys as fast as alone",
  { timeout: 600_000 },
  async () => {
    await using scene = await startScene(cluster, { config: { concurrency: 4 } });
    const alone = await deployTime(scene, "alone");
    for (const name of ["alone-1", "alone-2", "alone-3"])
      await admin.delete({ ...stageSetKind, metadata: { namespace: scene.namespace, name } });
    await eventually(async () => (await admin.list({ ...stageSetKind, namespace: scene.namespace })).length === 0);
    await park(scene, 1_000);
    await expectIdle(scene);
    expect(await deployTime(scene, "last")).toBeLessThan(bound(alone));
  },
);
