import { describe, expect, test } from "vitest";
import { asArray, asObject, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { testCluster } from "../support/cluster.ts";
import { configMap, createStageSet, stageSetRef, untilReady } from "../support/controller.ts";
import { startScene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;
const controller = "stageset-controller";

/** What a manager's entries own, as `[subresource, member, submember]`; members of `spec` are named, those of `status` not. */
function owned(stageSet: KubeObject, manager: string): readonly string[] {
  const entries = asArray(stageSet.metadata["managedFields"]).filter((entry) => at(entry, "manager") === manager);
  return entries
    .flatMap((entry) =>
      Object.entries(asObject(at(entry, "fieldsV1")) ?? {}).flatMap(([member, below]) => {
        const where = asText(at(entry, "subresource")) ?? "";
        if (member === "f:status") return [`${where} ${member}`];
        const inside = Object.keys(asObject(below) ?? {}).filter((key) => key !== ".");
        return inside.map((key) => `${where} ${member} ${key}`);
      }),
    )
    .sort();
}

describe.concurrent("a new StageSet", () => {
  const intervals = [["an interval of 60m", { interval: "60m" }] as const, ["no interval", {}] as const];

  test.each(intervals)(
    "[10.8] with %s, created: nothing but finalizers and status is touched",
    async (_title, spec) => {
      await using scene = await startScene(cluster);
      const { namespace } = scene;
      await scene.publish("app", { "a.yaml": configMap("app") });
      const created = await scene.release("app", [{ name: "only", sourceRef: { name: "app" }, timeout: "1.5h" }], spec);
      const ready = await untilReady(cluster, { namespace, name: "app" });
      expect(JSON.stringify(ready["spec"])).toBe(JSON.stringify(created["spec"]));
      expect(ready.metadata.generation).toBe(1);
      expect(owned(ready, controller)).toEqual([" f:metadata f:finalizers", "status f:status"]);
    },
  );

  test.each(intervals)("[10.8] with %s, applied: it can be applied again without a conflict", async (_title, spec) => {
    await using scene = await startScene(cluster);
    const { namespace } = scene;
    await scene.publish("app", { "a.yaml": configMap("app") });
    const manifest = {
      ...stageSetRef(namespace, "app"),
      spec: { serviceAccountName: "deployer", stages: [{ name: "only", sourceRef: { name: "app" } }], ...spec },
    };
    const applied = await admin.apply(manifest, { fieldManager: "kubectl", force: false });
    const ready = await untilReady(cluster, { namespace, name: "app" });
    expect(JSON.stringify(ready["spec"])).toBe(JSON.stringify(applied["spec"]));
    expect(owned(ready, controller)).toEqual([" f:metadata f:finalizers", "status f:status"]);
    const again = await admin.apply(manifest, { fieldManager: "kubectl", force: false });
    expect(again.metadata.resourceVersion, "nothing was there to change").toBe(ready.metadata.resourceVersion);
    const other = await admin.apply(manifest, { fieldManager: "kustomize-controller", force: false });
    expect(other.metadata.generation).toBe(1);
    expect(other.metadata.finalizers).toEqual(["stages.metio.wtf/finalizer"]);
  });

  test("[10.8] a finalizer of somebody else stays beside ours, and an odd spelling stays as it is", async () => {
    await using scene = await startScene(cluster);
    const { namespace } = scene;
    await scene.publish("app", { "a.yaml": configMap("app") });
    const spec = {
      serviceAccountName: "deployer",
      interval: "+0.5h",
      timeout: "0s",
      retryInterval: "90s",
      suspend: false,
      stages: [{ name: "only", path: "./", sourceRef: { name: "app", namespace: "" }, conflictPolicy: {} }],
    };
    const created = await admin.create({
      ...stageSetRef(namespace, "app"),
      metadata: { name: "app", namespace, finalizers: ["example.com/other"] },
      spec,
    });
    const ready = await untilReady(cluster, { namespace, name: "app" });
    expect(JSON.stringify(ready["spec"])).toBe(JSON.stringify(created["spec"]));
    expect([...(ready.metadata.finalizers ?? [])].sort()).toEqual(["example.com/other", "stages.metio.wtf/finalizer"]);
    await admin.patch(stageSetRef(namespace, "app"), { metadata: { finalizers: ["stages.metio.wtf/finalizer"] } });
  });

  test("[10.8] an invalid one is adopted like any other", async () => {
    await using scene = await startScene(cluster);
    const { namespace } = scene;
    const stages = [{ name: "only", path: "..", sourceRef: { name: "app" } }];
    const created = await createStageSet(cluster, { namespace, name: "odd", spec: { interval: "60m", stages } });
    const refused = await untilReady(cluster, { namespace, name: "odd" }, "False InvalidSpec");
    expect(JSON.stringify(refused["spec"])).toBe(JSON.stringify(created["spec"]));
    expect(owned(refused, controller)).toEqual([" f:metadata f:finalizers", "status f:status"]);
  });
});
