import { describe, expect, test } from "vitest";
import { crdSchema } from "../../src/api/crd.ts";
import { apiVersion } from "../../src/api/group.ts";
import { promotion } from "../../src/api/schema/promotion.ts";
import { installCrd } from "../../src/dev/crds.ts";
import { asArray, at } from "../../src/lib/json.ts";
import { testCluster, uniqueName, uniqueNamespace } from "../support/cluster.ts";
import type { ApiReply, Manifest } from "../support/test-client.ts";

const cluster = testCluster();
const { admin } = cluster;
const stage = { name: "web", sourceRef: { name: "app" } };
const stageSetPath = `/apis/${apiVersion}/namespaces/default/stagesets`;
const fleetPath = `/apis/${apiVersion}/fleetrollouts`;
const wave = { name: "first", selector: {} };

function stageSet(spec: unknown, name = uniqueName()): Manifest {
  return { apiVersion, kind: "StageSet", metadata: { name }, spec };
}

function rollout(spec: object): Manifest {
  const base = { selector: {}, waves: [wave] };
  return { apiVersion, kind: "FleetRollout", metadata: { name: uniqueName() }, spec: { ...base, ...spec } };
}

function dryRun(collection: string, body: unknown): Promise<ApiReply> {
  return admin.request("POST", `${collection}?dryRun=All`, { body });
}

/** Fields the API server refused. */
function refusedFields({ status, body }: ApiReply): readonly unknown[] {
  expect([status, at(body, "reason")]).toEqual([422, "Invalid"]);
  const fields = asArray(at(body, "details", "causes")).map((cause) => at(cause, "field"));
  return fields.filter((field) => field !== "<nil>"); // Says that CEL rules were not evaluated.
}

describe("two server-side appliers", () => {
  const apply = (manifest: object, path: string, fieldManager: string): Promise<ApiReply> =>
    admin.request("PATCH", `${path}?fieldManager=${fieldManager}`, {
      body: manifest,
      contentType: "application/apply-patch+yaml",
    });

  test.each<[string, unknown, unknown]>([
    ["other stages", [stage], [{ ...stage, name: "db" }]],
    ["one stage more", [stage], [stage, { ...stage, name: "db" }]],
    ["another order", [stage, { ...stage, name: "db" }], [{ ...stage, name: "db" }, stage]],
    ["another member of a stage", [stage], [{ ...stage, path: "./other" }]],
  ])("[10.3] the second with %s conflicts on the stages as a whole", async (_, first, second) => {
    const name = uniqueName();
    const path = `${stageSetPath}/${name}`;
    expect(await apply(stageSet({ stages: first }, name), path, "one")).toMatchObject({ status: 201 });
    const { status, body } = await apply(stageSet({ stages: second }, name), path, "two");
    expect([status, at(body, "reason")]).toEqual([409, "Conflict"]);
    expect(asArray(at(body, "details", "causes")).map((cause) => at(cause, "field"))).toEqual([".spec.stages"]);
    expect(await admin.get({ apiVersion, kind: "StageSet", metadata: { name } })).toMatchObject({
      spec: { stages: first },
    });
  });

  // The stages around them are atomic, so the gate's checks are merged only where the promotion stands alone.
  test.each(["restartGate", "eventGate"])("[10.3] the checks of a %s merge by name", async (gate) => {
    const group = `${uniqueName("probe")}.example.com`;
    await installCrd({ ...cluster, token: cluster.adminToken }, probeDefinition(group));
    const path = `/apis/${group}/v1/probes/p`;
    const probe = (name: string, app = name): object => {
      const check = { name, selector: { matchLabels: { app } }, ...(gate === "eventGate" && { reasons: ["BackOff"] }) };
      const spec = { [gate]: { checks: [check] } };
      return { apiVersion: `${group}/v1`, kind: "Probe", metadata: { name: "p" }, spec };
    };
    expect(await apply(probe("one"), path, "one")).toMatchObject({ status: 201 });
    expect(await apply(probe("two"), path, "two")).toMatchObject({ status: 200 });
    const { body } = await admin.request("GET", path);
    expect(asArray(at(body, "spec", gate, "checks")).map((check) => at(check, "name"))).toEqual(["one", "two"]);
    const { status, body: conflict } = await apply(probe("one", "other"), path, "two");
    expect(status).toBe(409);
    expect(asArray(at(conflict, "details", "causes")).map((cause) => at(cause, "field"))).toContain(
      `.spec.${gate}.checks[name="one"].selector`,
    );
  });

  test.each(["restartGate", "eventGate"])("two checks of one name are refused in a %s", async (gate) => {
    const check = { name: "same", selector: {}, reasons: ["BackOff"] };
    const spec = { stages: [{ ...stage, promotion: { [gate]: { checks: [check, check] } } }] };
    const reply = await dryRun(stageSetPath, stageSet(spec));
    expect(refusedFields(reply)).toEqual([`spec.stages[0].promotion.${gate}.checks[1]`]);
  });
});

function probeDefinition(group: string): unknown {
  const openAPIV3Schema = { type: "object", properties: { spec: crdSchema(promotion("What must hold.")) } };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `probes.${group}` },
    spec: {
      group,
      names: { kind: "Probe", listKind: "ProbeList", plural: "probes", singular: "probe" },
      scope: "Cluster",
      versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema } }],
    },
  };
}

describe("durations", () => {
  test.each(["5 minutes", "10", 10, "", "1d", "1w", "1h 30m", "-", "."])("[10.5] %j is refused", async (interval) => {
    const reply = await dryRun(stageSetPath, stageSet({ interval, stages: [stage] }));
    expect(refusedFields(reply)).toContain("spec.interval");
  });

  test.each(["1h30m", ".5h", "+90s", "0", "1.s", "-1m", "3µs", "3μs", "0s"])(
    "[10.5] %j is accepted as it is",
    async (interval) => {
      const reply = await dryRun(stageSetPath, stageSet({ interval, stages: [stage] }));
      expect([reply.status, at(reply.body, "spec", "interval")]).toEqual([201, interval]);
    },
  );
});

describe("defaults", () => {
  test("[10.6] an empty conflict policy fails the stage, and no other field appears", async () => {
    const { status, body } = await dryRun(stageSetPath, stageSet({ stages: [{ ...stage, conflictPolicy: {} }] }));
    expect(status).toBe(201);
    expect(at(body, "spec")).toEqual({ stages: [{ ...stage, conflictPolicy: { default: "Fail" } }] });
  });

  test("[10.6] a rollout halts on a regression, and no other field appears", async () => {
    const { status, body } = await dryRun(fleetPath, rollout({}));
    expect(status).toBe(201);
    expect(at(body, "spec")).toEqual({ selector: {}, waves: [wave], onRegression: "Halt" });
  });

  test("[10.6] nothing appears in a spec that has every other object empty", async () => {
    const empty = { promotion: {}, readyChecks: {}, actions: {}, postBuild: {} };
    const spec = { version: {}, stages: [{ ...stage, ...empty }] };
    expect(await dryRun(stageSetPath, stageSet(spec))).toMatchObject({ status: 201, body: { spec } });
    const { body } = await dryRun(stageSetPath, stageSet(spec));
    expect(at(body, "spec")).toEqual(spec);
  });
});

describe("rules the API server evaluates", () => {
  const ref = { name: "r" };

  test.each([
    ["both refs", { configMapRef: ref, secretRef: ref }],
    ["no ref", {}],
  ])("[10.7] a kubeConfig with %s is refused", async (_, kubeConfig) => {
    const reply = await dryRun(stageSetPath, stageSet({ kubeConfig, stages: [stage] }));
    expect(refusedFields(reply)).toEqual(["spec.kubeConfig"]);
    expect(at(reply.body, "message")).toContain("exactly one of");
  });

  test.each([{ configMapRef: ref }, { secretRef: ref }])(
    "a kubeConfig with one ref is accepted: %j",
    async (kubeConfig) => {
      expect(await dryRun(stageSetPath, stageSet({ kubeConfig, stages: [stage] }))).toMatchObject({ status: 201 });
    },
  );

  test.each([
    ["without previousVersion", {}],
    ["with an empty previousVersion", { previousVersion: "" }],
  ])("[10.7] a rollout that leads back %s is refused", async (_, members) => {
    const reply = await dryRun(fleetPath, rollout({ onRegression: "Rollback", ...members }));
    expect(refusedFields(reply)).toEqual(["spec"]);
    expect(at(reply.body, "message")).toContain("spec.previousVersion");
  });

  test("a rollout that leads back to a version is accepted", async () => {
    const reply = await dryRun(fleetPath, rollout({ onRegression: "Rollback", previousVersion: "1.0.0" }));
    expect(reply.status).toBe(201);
  });
});

describe("the shape of objects", () => {
  test("[10.15] a stage name of 64 characters is refused with the limit, one of 63 is accepted", async () => {
    const named = (length: number) => stageSet({ stages: [{ ...stage, name: "a".repeat(length) }] });
    const reply = await dryRun(stageSetPath, named(64));
    expect(refusedFields(reply)).toEqual(["spec.stages[0].name"]);
    expect(at(reply.body, "message")).toMatch(/\b63\b/);
    expect(await dryRun(stageSetPath, named(63))).toMatchObject({ status: 201 });
  });

  test.each(["", "Web", "-web", "web-", "we.b", "we_b", "web\n"])("the stage name %j is refused", async (name) => {
    const reply = await dryRun(stageSetPath, stageSet({ stages: [{ ...stage, name }] }));
    expect(refusedFields(reply)).toEqual(["spec.stages[0].name"]);
  });

  test("fields the schema does not know are dropped", async () => {
    const reply = await dryRun(stageSetPath, stageSet({ unknown: 1, stages: [{ ...stage, unknown: { deep: true } }] }));
    expect([reply.status, at(reply.body, "spec")]).toEqual([201, { stages: [stage] }]);
  });

  test("an empty list of stages is refused", async () => {
    expect(refusedFields(await dryRun(stageSetPath, stageSet({ stages: [] })))).toEqual(["spec.stages"]);
  });

  test("an object that lost its spec can still lose its finalizer", async () => {
    const namespace = await uniqueNamespace(cluster);
    const metadata = { name: "shop", namespace, finalizers: ["stages.metio.wtf/finalizer"] };
    const object = await admin.create({ apiVersion, kind: "StageSet", metadata, spec: { stages: [stage] } });
    await admin.patch(object, [{ op: "remove", path: "/spec" }], { type: "json" });
    await admin.delete(object);
    expect(at(await admin.get(object), "metadata", "deletionTimestamp")).toBeDefined();
    await admin.patch(object, { metadata: { finalizers: null } });
    expect(await admin.get(object)).toBeUndefined();
  });

  test("neither the spec nor the generation changes with a status write", async () => {
    const namespace = await uniqueNamespace(cluster);
    const spec = { interval: "60m", stages: [stage] };
    const object = await admin.create({ apiVersion, kind: "StageSet", metadata: { name: "shop", namespace }, spec });
    await admin.patch(object, { spec, status: { version: "1.0.0" } });
    expect(at(await admin.get(object), "status")).toBeUndefined();
    await admin.patchStatus(object, { version: "1.0.0", stages: [{ name: "web", phase: "Ready" }] });
    const after = await admin.get(object);
    expect(after).toMatchObject({ spec, status: { version: "1.0.0" }, metadata: { generation: 1 } });
  });
});
