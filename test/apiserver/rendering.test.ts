import { stringify } from "yaml";
import { describe, expect, test } from "vitest";
import { asArray, asText, at } from "../../src/lib/json.ts";
import { eventually, testCluster, uniqueName } from "../support/cluster.ts";
import { configMap, messageOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;

/** A ConfigMap nobody may change in place. */
function fixed(name: string, value: string, metadata: Readonly<Record<string, unknown>> = {}): string {
  return stringify({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name, ...metadata },
    immutable: true,
    data: { k: value },
  });
}

function hook(name: string, hooks = "pre-install"): string {
  return stringify({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name, annotations: { "helm.sh/hook": hooks } },
  });
}

/** Ids of everything a StageSet has on record. */
async function inventory({ namespace }: Scene, stageSet: string): Promise<readonly string[]> {
  const shards = await admin.list(
    { apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", namespace },
    { labelSelector: `stages.metio.wtf/stage-set=${stageSet}` },
  );
  return shards
    .flatMap((shard) => asArray(at(shard, "spec", "entries")).map((entry) => asText(at(entry, "id")) ?? ""))
    .sort();
}

/** Waits until the run of this revision was successful. */
async function untilApplied(scene: Scene, name: string, revision: string): Promise<void> {
  await eventually(async () => {
    const stageSet = await scene.get(name);
    expect(Object.values(at(stageSet, "status", "lastAppliedRevisions") ?? {}), messageOf(stageSet)).toEqual([
      revision,
    ]);
    return true;
  });
}

describe.concurrent("controls of single objects", () => {
  const force = "stages.metio.wtf/force";

  test.each([
    ["an annotation", { annotations: { [force]: "disabled" } }],
    ["a label", { labels: { [force]: "disabled" } }],
    ["another spelling", { annotations: { [force]: "Disabled" } }],
    ["a word that means nothing", { annotations: { [force]: "maybe" } }],
  ])("[10.38] force: disabled as %s recreates nothing, and is said to be ignored", async (_title, metadata) => {
    await using scene = await startScene(cluster);
    const { namespace } = scene;
    await scene.publish("app", { "a.yaml": fixed("fixed", "1", metadata) });
    await scene.release("app", [{ name: "only", sourceRef: { name: "app" } }]);
    await untilReady(cluster, { namespace, name: "app" });
    const before = await scene.object("fixed");
    await scene.publish("app", { "a.yaml": fixed("fixed", "2", metadata) });
    const refused = await untilReady(cluster, { namespace, name: "app" }, "False StageFailed");
    expect(messageOf(refused)).toMatch(/stage "only" conflict policy: .*immutable/);
    expect(await scene.object("fixed")).toEqual(before);
    await eventually(async () => {
      const events = await stageSetEvents(cluster, { namespace, name: "app", reason: "AnnotationIgnored" });
      expect(events).toMatchObject([{ type: "Warning", note: expect.stringContaining(force) as unknown, count: 1 }]);
      return true;
    });
  });

  test.each(["enabled", "Enabled", "true", "TRUE"])("[10.38] force: %s recreates", async (value) => {
    await using scene = await startScene(cluster);
    const { namespace } = scene;
    const metadata = { annotations: { [force]: value } };
    await scene.publish("app", { "a.yaml": fixed("fixed", "1", metadata) });
    await scene.release("app", [{ name: "only", sourceRef: { name: "app" }, conflictPolicy: {} }]);
    await untilReady(cluster, { namespace, name: "app" });
    const before = await scene.object("fixed");
    const next = await scene.publish("app", { "a.yaml": fixed("fixed", "2", metadata) });
    await untilApplied(scene, "app", next.revision);
    const after = await scene.object("fixed");
    expect(at(after, "data", "k")).toBe("2");
    expect(after?.metadata.uid).not.toBe(before?.metadata.uid);
    expect(await stageSetEvents(cluster, { namespace, name: "app", reason: "AnnotationIgnored" })).toEqual([]);
  });
});

describe.concurrent("Helm hooks", () => {
  const files = {
    "plain.yaml": configMap("plain"),
    "hook.yaml": hook("hook"),
    "late.yaml": hook("late", "post-delete"),
  };

  test("[10.39] [20.47] applyHelmHookResources: false leaves hooks out of apply and inventory", async () => {
    await using scene = await startScene(cluster);
    const { namespace } = scene;
    await scene.publish("app", files);
    await scene.release("app", [{ name: "only", sourceRef: { name: "app" }, applyHelmHookResources: false }]);
    const ready = await untilReady(cluster, { namespace, name: "app" });
    expect(await scene.object("plain")).toBeDefined();
    expect([await scene.object("hook"), await scene.object("late")]).toEqual([undefined, undefined]);
    expect(await inventory(scene, "app")).toEqual([`${namespace}_plain__ConfigMap`]);
    expect(at(stageStatus(ready, "only"), "entriesCount")).toBe(1);
    expect(await stageSetEvents(cluster, { namespace, name: "app", reason: "HelmHookApplied" })).toEqual([]);
  });

  test.each([
    ["said", { applyHelmHookResources: true }],
    ["not said", {}],
  ])(
    "[10.39] [20.47] applyHelmHookResources: true, %s, applies hooks with one Warning a revision",
    async (_t, said) => {
      await using scene = await startScene(cluster);
      const { namespace } = scene;
      const hookEvents = () => stageSetEvents(cluster, { namespace, name: "app", reason: "HelmHookApplied" });
      await scene.publish("app", files);
      await scene.release("app", [{ name: "only", sourceRef: { name: "app" }, ...said }], { interval: "1s" });
      await untilReady(cluster, { namespace, name: "app" });
      expect([await scene.object("hook"), await scene.object("late")]).toMatchObject([{}, {}]);
      expect(await inventory(scene, "app")).toHaveLength(3);
      await eventually(async () => {
        expect(await hookEvents()).toMatchObject([{ type: "Warning", count: 1 }]);
        return true;
      });
      await admin.patch(stageSetRef(namespace, "app"), {
        metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": "now" } },
      });
      await eventually(async () => at(await scene.get("app"), "status", "lastHandledReconcileAt") === "now");
      const next = await scene.publish("app", { ...files, "more.yaml": configMap("more") });
      await untilApplied(scene, "app", next.revision);
      await eventually(async () => (await hookEvents()).reduce((sum, { count }) => sum + count, 0) === 2);
    },
  );

  test("[10.39] [20.47] hooks that were applied are pruned when they no longer are", async () => {
    await using scene = await startScene(cluster);
    const { namespace } = scene;
    await scene.publish("app", files);
    await scene.release("app", [{ name: "only", sourceRef: { name: "app" } }]);
    await untilReady(cluster, { namespace, name: "app" });
    await admin.patch(
      stageSetRef(namespace, "app"),
      [{ op: "add", path: "/spec/stages/0/applyHelmHookResources", value: false }],
      { type: "json" },
    );
    await untilReady(cluster, { namespace, name: "app" });
    expect([await scene.object("hook"), await scene.object("late")]).toEqual([undefined, undefined]);
    expect(await inventory(scene, "app")).toEqual([`${namespace}_plain__ConfigMap`]);
  });

  test("[20.47] a CustomResourceDefinition whose only hook is crd-install stays, with another hook it goes", async () => {
    await using scene = await startScene(cluster, { clusterWide: true });
    const { namespace } = scene;
    const group = `${uniqueName()}.example.com`;
    const definition = (plural: string, hooks: string): string =>
      stringify({
        apiVersion: "apiextensions.k8s.io/v1",
        kind: "CustomResourceDefinition",
        metadata: { name: `${plural}.${group}`, annotations: { "helm.sh/hook": hooks } },
        spec: {
          group,
          scope: "Namespaced",
          names: { plural, kind: `Kind${plural}` },
          versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: { type: "object" } } }],
        },
      });
    await scene.publish("app", {
      "a.yaml": definition("alphas", "crd-install"),
      "b.yaml": definition("betas", "crd-install,pre-install"),
    });
    await scene.release("app", [{ name: "only", sourceRef: { name: "app" }, applyHelmHookResources: false }]);
    await untilReady(cluster, { namespace, name: "app" });
    expect(await inventory(scene, "app")).toEqual([`_alphas.${group}_apiextensions.k8s.io_CustomResourceDefinition`]);
  });
});

describe.concurrent("lists and namespaces", () => {
  const listed = (elsewhere: string, role: string): Readonly<Record<string, string>> => ({
    "list.yaml": stringify({
      apiVersion: "v1",
      kind: "List",
      items: [
        { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "of-list" } },
        { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "elsewhere", namespace: elsewhere } },
      ],
    }),
    "typed.yaml": stringify({
      apiVersion: "v1",
      kind: "ConfigMapList",
      items: [{ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "of-typed-list" } }],
    }),
    "role.yaml": stringify({
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: role, namespace: "ignored" },
      rules: [],
    }),
  });
  const kustomization = stringify({ resources: ["list.yaml", "typed.yaml", "role.yaml"] });

  test.each([
    ["plain files", {}],
    ["a kustomization", { "kustomization.yaml": kustomization }],
  ])("[20.47] from %s lists are flattened, and namespaces follow from the scope", async (_title, more) => {
    await using scene = await startScene(cluster, { clusterWide: true });
    const { namespace } = scene;
    const elsewhere = uniqueName();
    const role = uniqueName();
    await admin.create({ apiVersion: "v1", kind: "Namespace", metadata: { name: elsewhere } });
    await scene.publish("app", { ...listed(elsewhere, role), ...more });
    await scene.release("app", [{ name: "only", sourceRef: { name: "app" } }]);
    await untilReady(cluster, { namespace, name: "app" });
    expect(await inventory(scene, "app")).toEqual(
      [
        `${namespace}_of-list__ConfigMap`,
        `${namespace}_of-typed-list__ConfigMap`,
        `${elsewhere}_elsewhere__ConfigMap`,
        `_${role}_rbac.authorization.k8s.io_ClusterRole`,
      ].sort(),
    );
    const configMapIn = (where: string, name: string) =>
      admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: where } });
    const clusterRole = { apiVersion: "rbac.authorization.k8s.io/v1", kind: "ClusterRole", metadata: { name: role } };
    for (const object of [
      await configMapIn(namespace, "of-list"),
      await configMapIn(namespace, "of-typed-list"),
      await configMapIn(elsewhere, "elsewhere"),
      await admin.get(clusterRole),
    ])
      expect(object?.metadata.labels).toEqual({
        "stages.metio.wtf/stage": "only",
        "stages.metio.wtf/name": "app",
        "stages.metio.wtf/namespace": namespace,
      });
    await admin.delete(stageSetRef(namespace, "app"));
    await eventually(async () => (await scene.get("app")) === undefined);
    expect([await configMapIn(elsewhere, "elsewhere"), await admin.get(clusterRole)]).toEqual([undefined, undefined]);
  });

  test("[20.47] an empty List is a stage of nothing", async () => {
    await using scene = await startScene(cluster);
    const { namespace } = scene;
    await scene.publish("app", { "a.yaml": "apiVersion: v1\nkind: List\nitems: []\n" });
    await scene.release("app", [{ name: "only", sourceRef: { name: "app" } }]);
    const ready = await untilReady(cluster, { namespace, name: "app" });
    expect(at(stageStatus(ready, "only"), "entriesCount")).toBe(0);
    expect(at(stageStatus(ready, "only"), "shards")).toBe(1);
  });
});
