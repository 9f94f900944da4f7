import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { installCrd, installCrds, readCrds } from "../../src/dev/crds.ts";
import { startControlPlane, type ControlPlane } from "../../src/dev/control-plane.ts";
import { asArray, asObject, at } from "../../src/lib/json.ts";
import { clusterOf, eventually, testCluster, uniqueName, type TestCluster } from "../support/cluster.ts";
import {
  configMap,
  createStageSet,
  messageOf,
  readyOf,
  stageSetRef,
  stageStatus,
  untilReady,
} from "../support/controller.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { TestApiError } from "../support/test-client.ts";
import { ruleRows, schemaRows, type InvalidRow } from "./invalid-spec-rows.ts";

const cluster = testCluster();
const { admin } = cluster;

/** Stores the rows as StageSets of the scene's namespace; their names. */
async function store(scene: Scene, where: TestCluster, rows: readonly InvalidRow[]): Promise<readonly string[]> {
  const names = rows.map(([rule], index) => `${rule.toLowerCase()}-${index}`);
  await Promise.all(
    rows.map(([, spec], index) =>
      createStageSet(where, {
        namespace: scene.namespace,
        name: names[index] ?? "",
        spec: { serviceAccountName: "deployer", ...spec },
      }),
    ),
  );
  return names;
}

/** Nothing was written but the StageSets themselves. */
async function expectNothingApplied(scene: Scene, where: TestCluster, names: readonly string[]): Promise<void> {
  const shards = await where.admin.list({
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageInventory",
    namespace: scene.namespace,
  });
  const owners = shards.map((shard) => shard.metadata.labels?.["stages.metio.wtf/stage-set"]);
  expect(owners.filter((owner) => owner !== undefined && names.includes(owner))).toEqual([]);
  expect(await scene.object("app")).toBeUndefined();
}

describe("StageSets stored past the webhook", () => {
  let scene: Scene;
  let names: readonly string[] = [];
  const long = "a".repeat(64);
  beforeAll(async () => {
    scene = await startScene(cluster);
    await scene.publish("app", { "a.yaml": configMap("app") });
    await scene.publish("sound", { "a.yaml": configMap("sound") });
    names = await store(scene, cluster, ruleRows);
    await scene.release(long, [{ name: "web", sourceRef: { name: "app" } }]);
    await scene.release("sound", [{ name: "web", sourceRef: { name: "sound" } }]);
  });
  afterAll(() => scene[Symbol.asyncDispose]());

  test.each(ruleRows.map(([rule, spec, path], index) => ({ rule, spec, path, index })))(
    "[10.9] $rule: $path is told of as InvalidSpec (row $index)",
    async ({ index, path }) => {
      const name = names[index] ?? "";
      const refused = await untilReady(cluster, { namespace: scene.namespace, name }, "False InvalidSpec");
      expect(messageOf(refused)).toContain(path);
      expect(at(refused, "status", "lastAttemptedRevisions")).toBeUndefined();
    },
  );

  test("[10.9] V3: a name that is no label value is InvalidSpec", async () => {
    const refused = await untilReady(cluster, { namespace: scene.namespace, name: long }, "False InvalidSpec");
    expect(messageOf(refused)).toMatch(/metadata\.name .*63/);
  });

  test("[10.9] nothing of them is applied, and a sound one beside them is released", async () => {
    await untilReady(cluster, { namespace: scene.namespace, name: "sound" });
    await expectNothingApplied(scene, cluster, [...names, long]);
  });

  test.each(schemaRows.map(([rule, spec, path]) => ({ rule, spec, path })))(
    "[10.9] $rule: $path is refused by the schema",
    async ({ spec, path }) => {
      const create = createStageSet(cluster, { namespace: scene.namespace, name: uniqueName(), spec });
      const refusal: unknown = await create.catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(TestApiError);
      expect(refusal).toMatchObject({ status: 422 });
      expect(String(refusal)).toContain(path);
    },
  );

  test("[10.12] one is deleted like any other", async () => {
    const { namespace } = scene;
    await scene.release("leaving", [{ name: "web", path: "..", sourceRef: { name: "app" } }]);
    await untilReady(cluster, { namespace, name: "leaving" }, "False InvalidSpec");
    await admin.delete(stageSetRef(namespace, "leaving"));
    await eventually(async () => (await scene.get("leaving")) === undefined);
  });

  test("[10.12] one that was deployed before takes its objects along", async () => {
    const { namespace } = scene;
    await scene.publish("deployed", { "a.yaml": configMap("deployed") });
    await scene.release("deployed", [{ name: "web", sourceRef: { name: "deployed" } }]);
    await untilReady(cluster, { namespace, name: "deployed" });
    await admin.patch(stageSetRef(namespace, "deployed"), [{ op: "add", path: "/spec/stages/0/path", value: ".." }], {
      type: "json",
    });
    await untilReady(cluster, { namespace, name: "deployed" }, "False InvalidSpec");
    expect(await scene.object("deployed")).toBeDefined();
    await admin.delete(stageSetRef(namespace, "deployed"));
    await eventually(async () => (await scene.get("deployed")) === undefined);
    expect(await scene.object("deployed")).toBeUndefined();
  });

  test("[10.12] suspend, annotations and finalizers of others have their effect", async () => {
    const { namespace } = scene;
    const ref = stageSetRef(namespace, "handled");
    await scene.release("handled", [{ name: "web", path: "..", sourceRef: { name: "app" } }]);
    await untilReady(cluster, { namespace, name: "handled" }, "False InvalidSpec");
    await admin.patch(ref, { spec: { suspend: true } });
    await untilReady(cluster, { namespace, name: "handled" }, "False Suspended");
    await admin.patch(ref, { spec: { suspend: null } });
    await untilReady(cluster, { namespace, name: "handled" }, "False InvalidSpec");
    await admin.patch(ref, { metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": "now" } } });
    await eventually(async () => at(await scene.get("handled"), "status", "lastHandledReconcileAt") === "now");
    const finalizers = [...((await scene.get("handled"))?.metadata.finalizers ?? []), "example.com/other"];
    await admin.patch(ref, { metadata: { finalizers } });
    await admin.delete(ref);
    await eventually(async () => {
      expect((await scene.get("handled"))?.metadata.finalizers).toEqual(["example.com/other"]);
      return true;
    });
    await admin.patch(ref, { metadata: { finalizers: [] } });
    await eventually(async () => (await scene.get("handled")) === undefined);
  });

  test("[10.13] a spec that is removed is InvalidSpec, and nothing that was deployed is deleted or written", async () => {
    const { namespace } = scene;
    const ref = stageSetRef(namespace, "bare");
    await scene.publish("bare", { "a.yaml": configMap("bare") });
    const created = await scene.release("bare", [{ name: "web", sourceRef: { name: "bare" } }]);
    const before = await untilReady(cluster, { namespace, name: "bare" });
    const deployed = await scene.object("bare");
    await admin.patch(ref, [{ op: "remove", path: "/spec" }], { type: "json" });
    const bare = await untilReady(cluster, { namespace, name: "bare" }, "False InvalidSpec");
    expect(bare["spec"]).toBeUndefined();
    expect(stageStatus(bare, "web")).toEqual({ ...asObject(stageStatus(before, "web")), phase: "Pending" });
    await admin.patch(ref, { metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": "again" } } });
    await eventually(async () => at(await scene.get("bare"), "status", "lastHandledReconcileAt") === "again");
    expect(await scene.object("bare")).toEqual(deployed);
    expect((await scene.controller.gate(`/gate/${namespace}/bare/web`)).status).not.toBe(200);
    await admin.patch(ref, { spec: created["spec"] });
    await untilReady(cluster, { namespace, name: "bare" });
    expect((await scene.object("bare"))?.metadata.uid).toBe(deployed?.metadata.uid);
    await admin.patch(ref, [{ op: "remove", path: "/spec" }], { type: "json" });
    await admin.delete(ref);
    await eventually(async () => (await scene.get("bare")) === undefined);
    expect(await scene.object("bare")).toBeUndefined();
  });

  test("[10.13] a duplicate stage stored later applies and prunes nothing, and no ledger is lost", async () => {
    const { namespace } = scene;
    const ref = stageSetRef(namespace, "twice");
    await scene.publish("twice", { "a.yaml": configMap("twice") });
    const created = await scene.release("twice", [{ name: "web", sourceRef: { name: "twice" } }]);
    const before = await untilReady(cluster, { namespace, name: "twice" });
    const deployed = await scene.object("twice");
    await scene.publish("other", { "a.yaml": configMap("other") });
    const other = { name: "web", sourceRef: { name: "other" } };
    await admin.patch(ref, { spec: { stages: [...asArray(at(created, "spec", "stages")), other] } });
    const refused = await untilReady(cluster, { namespace, name: "twice" }, "False InvalidSpec");
    expect(asArray(at(refused, "status", "stages"))).toEqual(
      asArray(at(before, "status", "stages")).map((entry) => ({ ...asObject(entry), phase: "Pending" })),
    );
    expect(await scene.object("twice")).toEqual(deployed);
    expect(await scene.object("other")).toBeUndefined();
  });
});

/** The definition without anything that refuses a value of the right type. */
function relaxed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(relaxed);
  const fields = asObject(schema);
  if (fields === undefined) return schema;
  const strict = new Set([
    "enum",
    "pattern",
    "minItems",
    "maximum",
    "minimum",
    "maxLength",
    "x-kubernetes-validations",
  ]);
  return Object.fromEntries(
    Object.entries(fields).flatMap(([key, value]) => {
      if (strict.has(key)) return [];
      // Keys of keyed lists must stay required.
      return [[key, key === "required" ? asArray(value).filter((name) => name !== "stages") : relaxed(value)]];
    }),
  );
}

describe("StageSets stored under a laxer schema", () => {
  let plane: ControlPlane;
  let lax: TestCluster;
  let scene: Scene;
  beforeAll(async () => {
    plane = await startControlPlane();
    const api = { server: plane.server, caPem: plane.caPem, token: plane.adminToken };
    await installCrds(api, ["stageset", "flux"]);
    for (const definition of await readCrds("stageset"))
      if (at(definition, "spec", "names", "kind") === "StageSet") await installCrd(api, relaxed(definition));
    lax = clusterOf(plane);
    scene = await startScene(lax);
    await scene.publish("app", { "a.yaml": configMap("app") });
  });
  afterAll(async () => {
    await scene[Symbol.asyncDispose]();
    await plane.stop();
  });

  test("[10.9] what only the schema refuses is InvalidSpec, and nothing of it is applied", async () => {
    const names = await store(scene, lax, schemaRows);
    for (const [index, [rule, , path]] of schemaRows.entries()) {
      const name = names[index] ?? "";
      const refused = await untilReady(lax, { namespace: scene.namespace, name }, "False InvalidSpec");
      expect(messageOf(refused), rule).toContain(path);
    }
    await expectNothingApplied(scene, lax, names);
  });

  test("[10.14] one with an unreadable duration is InvalidSpec alone, all others keep reconciling", async () => {
    const { namespace } = scene;
    await scene.publish("steady", { "a.yaml": configMap("steady", { k: "1" }) });
    await scene.publish("broken", { "a.yaml": configMap("broken", { k: "1" }) });
    await scene.release("steady", [{ name: "web", sourceRef: { name: "steady" } }], { interval: "1s" });
    await scene.release("broken", [{ name: "web", sourceRef: { name: "broken" } }], { interval: "1s" });
    await untilReady(lax, { namespace, name: "steady" });
    await untilReady(lax, { namespace, name: "broken" });
    await lax.admin.patch(stageSetRef(namespace, "broken"), { spec: { retryInterval: "5 minutes" } });
    const refused = await untilReady(lax, { namespace, name: "broken" }, "False InvalidSpec");
    expect(messageOf(refused)).toContain("spec.retryInterval");
    await scene.publish("steady", { "a.yaml": configMap("steady", { k: "2" }) });
    await scene.publish("broken", { "a.yaml": configMap("broken", { k: "2" }) });
    await eventually(async () => at(await scene.object("steady"), "data", "k") === "2");
    await lax.admin.patch(
      { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "steady", namespace } },
      { data: { k: "drifted" } },
    );
    await eventually(async () => at(await scene.object("steady"), "data", "k") === "2");
    await scene.release("late", [{ name: "web", sourceRef: { name: "app" } }]);
    await untilReady(lax, { namespace, name: "late" });
    expect(readyOf(await scene.get("broken"))).toBe("False InvalidSpec");
    expect(at(await scene.object("broken"), "data", "k")).toBe("1");
    await lax.admin.patch(stageSetRef(namespace, "broken"), { spec: { retryInterval: "5m" } });
    await untilReady(lax, { namespace, name: "broken" });
    expect(at(await scene.object("broken"), "data", "k")).toBe("2");
  });

  test("[10.12] one that cannot be read whole can be suspended, and its teardown keeps what `prune: false` keeps", async () => {
    const { namespace } = scene;
    const ref = stageSetRef(namespace, "kept");
    await scene.publish("kept", { "a.yaml": configMap("kept") });
    await scene.publish("gone", { "a.yaml": configMap("gone") });
    await scene.release("kept", [
      { name: "kept", sourceRef: { name: "kept" }, prune: false },
      { name: "gone", sourceRef: { name: "gone" } },
    ]);
    await untilReady(lax, { namespace, name: "kept" });
    await lax.admin.patch(ref, { spec: { interval: "soon" } });
    await untilReady(lax, { namespace, name: "kept" }, "False InvalidSpec");
    await lax.admin.patch(ref, { spec: { suspend: true } });
    await untilReady(lax, { namespace, name: "kept" }, "False Suspended");
    await lax.admin.delete(ref);
    await eventually(async () => (await scene.get("kept")) === undefined);
    expect(await scene.object("gone")).toBeUndefined();
    expect(await scene.object("kept")).toBeDefined();
  });
});
