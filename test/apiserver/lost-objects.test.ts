import { afterAll, beforeAll, expect, test } from "vitest";
import { nameLabel } from "../../src/api/keys.ts";
import { at } from "../../src/lib/json.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, stageStatus, untilReady } from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { deploymentKind, startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;

let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(() => scene[Symbol.asyncDispose]());

const ref = (name: string) => ({ ...deploymentKind, metadata: { name, namespace: scene.namespace } });
const go = { apiVersion: "v1", kind: "ConfigMap", name: "lost-go" };

test("what somebody deletes, or takes our labels off, while its stage waits is put back at once", async () => {
  await scene.publish("lost", { "a.yaml": deployment("lost-deleted"), "b.yaml": deployment("lost-stripped") });
  await scene.publish("lost-next", { "c.yaml": configMap("lost-next") });
  const readyChecks = { checks: [go], timeout: "10m" };
  await scene.release("lost", [
    { name: "app", sourceRef: { name: "lost" }, readyChecks },
    { name: "next", sourceRef: { name: "lost-next" } },
  ]);
  const phase = async () => at(stageStatus(await scene.get("lost"), "app"), "phase");
  await eventually(async () => (await phase()) === "Verifying");
  for (const _again of [1, 2]) {
    const uid = (await scene.object("lost-deleted", deploymentKind))?.metadata.uid;
    await admin.delete(ref("lost-deleted"));
    await admin.patch(ref("lost-stripped"), { metadata: { labels: null } });
    await eventually(async () => {
      const [deleted, stripped] = [
        await scene.object("lost-deleted", deploymentKind),
        await scene.object("lost-stripped", deploymentKind),
      ];
      return (
        deleted !== undefined &&
        deleted.metadata.uid !== uid &&
        deleted.metadata.deletionTimestamp === undefined &&
        stripped?.metadata.labels?.[nameLabel] === "lost"
      );
    });
    expect(await phase()).toBe("Verifying");
  }
  expect(await scene.object("lost-next")).toBeUndefined();
  await admin.create({ ...go, metadata: { name: go.name, namespace: scene.namespace } });
  await untilReady(cluster, { namespace: scene.namespace, name: "lost" }, "True Succeeded", { timeoutMs: 60_000 });
});
