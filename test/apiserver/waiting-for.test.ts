import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { asArray, at } from "../../src/lib/json.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;
let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(() => scene[Symbol.asyncDispose]());

const nameIn = (name: string) => ({ namespace: scene.namespace, name });
const waits = async (name: string): Promise<readonly unknown[]> =>
  asArray(at(stageStatus(await scene.get(name), "only"), "waitingFor"));
const untilWaiting = (name: string, count: number): Promise<readonly unknown[]> =>
  eventually(async () => {
    const list = await waits(name);
    return list.length === count && list;
  });

describe.concurrent("what a stage waits for", () => {
  test("is listed with kind, name, status, message and since, stays as it is, and goes when the stage is Ready", async () => {
    const pods = { readyAfter: "6s" };
    await scene.publish("slow", { "a.yaml": deployment("slow", { pods }), "b.yaml": deployment("quick") });
    await scene.release("slow", [{ name: "only", sourceRef: { name: "slow" } }]);
    const [first] = await untilWaiting("slow", 1);
    expect(first).toMatchObject({
      kind: "Deployment",
      namespace: scene.namespace,
      name: "slow",
      status: "InProgress",
      message: expect.stringMatching(/./) as unknown,
      since: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/) as unknown,
    });
    await untilReady(cluster, nameIn("slow"));
    expect(stageStatus(await scene.get("slow"), "only")).not.toHaveProperty("waitingFor");
  });

  test("names at most ten objects, written once while nothing changes, and gone when the wait is ended", async () => {
    const pods = { neverReady: "true" };
    const many = Array.from({ length: 12 }, (_, index) => deployment(`stuck-${String(index)}`, { pods }));
    await scene.publish("stuck", { "a.yaml": many.join("---\n") });
    await scene.release("stuck", [{ name: "only", sourceRef: { name: "stuck" } }]);
    await untilWaiting("stuck", 10);
    // The messages come to rest with the Deployments; then there is nothing to write.
    const resting = await eventually(
      async () => {
        const before = await scene.get("stuck");
        await new Promise((resolve) => setTimeout(resolve, 5_000)); // Longer than the list is ever left alone at first.
        const after = await scene.get("stuck");
        return before?.metadata.resourceVersion === after?.metadata.resourceVersion && after;
      },
      { timeoutMs: 40_000 },
    );
    expect(resting.metadata.generation).toBe(1);
    await admin.patch(stageSetRef(scene.namespace, "stuck"), { spec: { suspend: true } });
    const suspended = await untilReady(cluster, nameIn("stuck"), "False Suspended");
    expect(stageStatus(suspended, "only")).toMatchObject({ phase: "Verifying" });
    expect(stageStatus(suspended, "only")).not.toHaveProperty("waitingFor");
  });

  test("follows what changes, each object since it was first listed, and ends with the stage's failure", async () => {
    const pods = { neverReady: "true" };
    const check = { apiVersion: "v1", kind: "ConfigMap", name: "late" };
    await scene.publish("moving", { "a.yaml": deployment("moving", { pods }) });
    await scene.release(
      "moving",
      [
        {
          name: "only",
          sourceRef: { name: "moving" },
          readyChecks: { checks: [check] },
          timeout: "15s",
          onTimeout: "Rollback",
        },
      ],
      { retryInterval: "1m" },
    );
    const both = await untilWaiting("moving", 2);
    const since = both.map((each) => at(each, "since"));
    await admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: nameIn("late") });
    const [left] = await untilWaiting("moving", 1);
    expect(left).toMatchObject({ kind: "Deployment", name: "moving", since: since[0] });
    const failed = await untilReady(cluster, nameIn("moving"), "False StageFailed", { timeoutMs: 60_000 });
    expect(stageStatus(failed, "only")).not.toHaveProperty("waitingFor");
    expect(stringify(stageStatus(failed, "only"))).toContain("phase: Failed");
  });
});
