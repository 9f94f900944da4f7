import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { at } from "../../src/lib/json.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;
let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(() => scene[Symbol.asyncDispose]());

/** What a spec may ask for beside plain stages, with the field that is named. */
const unsupported = [
  ["rolled-back", { rollbackOnFailure: true }, "spec.rollbackOnFailure"],
  ["acting", { onRollback: [{ name: "note", wait: { duration: "1s" } }] }, "spec.onRollback[0]"],
] as const;
const source = { prometheus: { address: "http://prometheus.example", query: "up" } };
const check = { name: "errors", source, threshold: { max: "1" } };
const selector = { matchLabels: { app: "web" } };
const undoing = { analysis: { checks: [check], onFailure: "Rollback" } };

describe("a spec that asks for more than this build has", () => {
  test.each(unsupported)("%s: nothing is applied and the field is named", async (name, spec, field) => {
    await scene.publish(name, { "a.yaml": configMap(name) });
    await scene.release(name, [{ name: "only", sourceRef: { name } }], spec);
    const refused = await untilReady(cluster, { namespace: scene.namespace, name }, "False InvalidSpec");
    expect(messageOf(refused)).toContain(`not part of this build: ${field}`);
    expect(await scene.object(name)).toBeUndefined();
    await admin.delete(stageSetRef(scene.namespace, name));
    await eventually(async () => (await scene.get(name)) === undefined);
  });

  test.each([
    ["undoing", { promotion: undoing }, "spec.stages[0].promotion.analysis.onFailure"],
    [
      "reverting",
      { promotion: { restartGate: { checks: [{ name: "r", selector, onFailure: "Rollback" }] } } },
      "spec.stages[0].promotion.restartGate.checks[0].onFailure",
    ],
  ])("%s: nothing is applied and the stage's field is named", async (name, stage, field) => {
    await scene.publish(name, { "a.yaml": configMap(name) });
    await scene.release(name, [{ name: "only", sourceRef: { name }, ...stage }]);
    const refused = await untilReady(cluster, { namespace: scene.namespace, name }, "False InvalidSpec");
    expect(messageOf(refused)).toContain(`not part of this build: ${field}`);
    expect(await scene.object(name)).toBeUndefined();
  });

  test("what is deployed already is corrected and a new revision stays out", async () => {
    const name = "deployed";
    const { revision } = await scene.publish(name, { "a.yaml": configMap(name, { k: "1" }) });
    await scene.release(name, [{ name: "only", sourceRef: { name } }], { interval: "1s" });
    await untilReady(cluster, { namespace: scene.namespace, name });
    const ref = stageSetRef(scene.namespace, name);
    await admin.patch(ref, { spec: { onRollback: [{ name: "note", wait: { duration: "1s" } }] } });
    await untilReady(cluster, { namespace: scene.namespace, name });
    await scene.publish(name, { "a.yaml": configMap(name, { k: "2" }) });
    const held = await untilReady(cluster, { namespace: scene.namespace, name }, "False InvalidSpec");
    expect(messageOf(held)).toContain("spec.onRollback[0]");
    expect(at(stageStatus(held, "only"), "appliedRevision")).toBe(revision);
    await admin.patch(
      { apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: scene.namespace } },
      { data: { k: "edited" } },
    );
    await eventually(async () => at(await scene.object(name), "data", "k") === "1");
    await admin.patch(ref, { spec: { onRollback: null } });
    await untilReady(cluster, { namespace: scene.namespace, name });
    expect(at(await scene.object(name), "data", "k")).toBe("2");
  });
});
