import { expect, test } from "vitest";
import { stringify } from "yaml";
import { asText, at } from "../../src/lib/json.ts";
import { eventually, testCluster, uniqueName } from "../support/cluster.ts";
import { configMap, stageSetRef, untilReady } from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { deploymentKind, follow, startScene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;

/** An operator's kind. */
function definition(group: string): string {
  const schema = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  return stringify({
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `databases.${group}` },
    spec: {
      group,
      scope: "Namespaced",
      names: { plural: "databases", kind: "Database" },
      versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: schema } }],
    },
  });
}

test("[20.43] an operator outlives the resource it must finalize, and no finalizer is left", async () => {
  await using scene = await startScene(cluster, { clusterWide: true });
  const { namespace } = scene;
  const group = `${uniqueName("db")}.example.com`;
  const database = { apiVersion: `${group}/v1`, kind: "Database" };
  await scene.publish("operator", { "crd.yaml": definition(group), "operator.yaml": deployment("operator") });
  await scene.publish("database", {
    "a.yaml": stringify({ ...database, metadata: { name: "main", finalizers: ["example.com/drop"] } }),
    "b.yaml": configMap("settings"),
  });
  await scene.release("app", [
    { name: "operator", sourceRef: { name: "operator" } },
    { name: "database", sourceRef: { name: "database" } },
  ]);
  await untilReady(cluster, { namespace, name: "app" });
  using deleted = follow(cluster, { ...deploymentKind, namespace, name: "operator" });
  await admin.delete(stageSetRef(namespace, "app"));
  const going = await eventually(async () => {
    const object = await scene.object("main", database);
    return object?.metadata.deletionTimestamp === undefined ? false : object;
  });
  // The operator takes its time; several looks of the teardown pass meanwhile.
  const since = performance.now();
  await eventually(() => performance.now() - since > 3_000, { timeoutMs: 6_000, intervalMs: 250 });
  const operator = await scene.object("operator", deploymentKind);
  expect(operator?.metadata.uid).toBeDefined();
  expect(operator?.metadata.deletionTimestamp).toBeUndefined();
  expect(deleted.states.every((state) => state.metadata.deletionTimestamp === undefined)).toBe(true);
  expect(await scene.get("app")).toBeDefined();
  const mark = asText(at(going, "metadata", "uid"));
  expect((await scene.object("main", database))?.metadata.uid).toBe(mark);
  await admin.patch({ ...database, metadata: { name: "main", namespace } }, { metadata: { finalizers: null } });
  await eventually(async () => (await scene.get("app")) === undefined, { timeoutMs: 30_000 });
  expect(await scene.object("operator", deploymentKind)).toBeUndefined();
  const crd = { apiVersion: "apiextensions.k8s.io/v1", kind: "CustomResourceDefinition" };
  await eventually(async () => (await admin.get({ ...crd, metadata: { name: `databases.${group}` } })) === undefined);
});
