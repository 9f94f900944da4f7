import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { requestedAtAnnotation } from "../../src/api/keys.ts";
import { at } from "../../src/lib/json.ts";
import { allRules, auditEvents, auditMark, eventually, testCluster, type AuditEvent } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { everyVerb, rulesOn, startTenancy, type Tenancy } from "../support/tenancy.ts";

const cluster = testCluster();
const { admin } = cluster;
const configMapsOnly = rulesOn(["configmaps"], everyVerb);
const writes = ["create", "update", "patch", "delete", "deletecollection"];

const secret = (name: string): string =>
  `apiVersion: v1\nkind: Secret\nmetadata:\n  name: ${name}\nstringData:\n  password: hidden\n`;

describe.concurrent("who acts", () => {
  let tenancy: Tenancy;
  let since = 0;
  beforeAll(async () => {
    tenancy = await startTenancy(cluster);
    since = await auditMark(cluster);
  });
  afterAll(() => tenancy[Symbol.asyncDispose]());

  const object = (name: string, kind = "ConfigMap") =>
    admin.get({ apiVersion: "v1", kind, metadata: { name, namespace: tenancy.namespace } });
  /** Writes of core objects of this name, dry runs left out. */
  const writesOf = async (name: string): Promise<readonly AuditEvent[]> =>
    auditEvents(cluster, {
      since,
      namespace: tenancy.namespace,
      verbs: writes,
      where: (event) => event.name === name && event.group === "" && !event.uri.includes("dryRun"),
    });
  const creator = async (name: string): Promise<string | undefined> =>
    (await writesOf(name)).find((event) => event.code === 201)?.username;
  const ask = (name: string, token: string): Promise<unknown> =>
    admin.patch(stageSetRef(tenancy.namespace, name), {
      metadata: { annotations: { [requestedAtAnnotation]: token } },
    });

  test("[50.2] a Secret beyond the ServiceAccount's rights is denied and absent; the grant alone makes it Ready", async () => {
    const { namespace } = tenancy;
    await tenancy.account("narrow", configMapsOnly);
    await tenancy.publish("denied", { "a.yaml": configMap("denied-map"), "b.yaml": secret("denied") });
    await tenancy.release("denied", {
      serviceAccountName: "narrow",
      stages: [{ name: "only", sourceRef: { name: "denied" } }],
    });
    const refused = await untilReady(cluster, { namespace, name: "denied" }, "False RBACDenied");
    expect(stageStatus(refused, "only")).toMatchObject({ phase: "Failed" });
    expect(messageOf(refused)).toContain(
      `User "system:serviceaccount:${namespace}:narrow" cannot patch resource "secrets"`,
    );
    expect(await object("denied", "Secret")).toBeUndefined();
    expect(await object("denied-map"), "nothing of the wave is written").toBeUndefined();
    await tenancy.account("narrow", [...configMapsOnly, ...rulesOn(["secrets"], ["get", "create", "patch"])]);
    const grantedAt = performance.now();
    await untilReady(cluster, { namespace, name: "denied" }, "True Succeeded", { timeoutMs: 75_000 });
    expect(performance.now() - grantedAt).toBeLessThan(75_000);
    expect(await object("denied", "Secret")).toBeDefined();
  });

  test("[50.1] a ServiceAccount allowed ConfigMaps only releases one: the controller manages its fields, the ServiceAccount asked", async () => {
    const { namespace } = tenancy;
    const account = await tenancy.account("maps", configMapsOnly);
    await tenancy.publish("maps", { "a.yaml": configMap("maps-object") });
    await tenancy.release("maps", {
      serviceAccountName: "maps",
      stages: [{ name: "only", sourceRef: { name: "maps" } }],
    });
    await untilReady(cluster, { namespace, name: "maps" });
    const live = await object("maps-object");
    expect(live?.metadata.managedFields?.map((entry) => entry.manager)).toEqual(["stageset-controller"]);
    const events = await writesOf("maps-object");
    expect(new Set(events.map((event) => event.username))).toEqual(new Set([account.username]));
    expect(events.every((event) => event.impersonated === undefined)).toBe(true);
  });

  test("[50.3] each stage's objects are created by its own ServiceAccount", async () => {
    const { namespace } = tenancy;
    const first = await tenancy.account("three-first", configMapsOnly);
    const second = await tenancy.account("three-second", configMapsOnly);
    await tenancy.publish("three-1", { "a.yaml": configMap("three-1") });
    await tenancy.publish("three-2", { "a.yaml": configMap("three-2") });
    await tenancy.release("three", {
      serviceAccountName: "three-first",
      stages: [
        { name: "first", sourceRef: { name: "three-1" } },
        { name: "second", sourceRef: { name: "three-2" }, serviceAccountName: "three-second" },
      ],
    });
    await untilReady(cluster, { namespace, name: "three" });
    expect(await creator("three-1")).toBe(first.username);
    expect(await creator("three-2")).toBe(second.username);
  });

  test("[50.3] a second stage without rights leaves the first applied", async () => {
    const { namespace } = tenancy;
    await tenancy.account("half-first", configMapsOnly);
    await tenancy.account("half-second");
    await tenancy.publish("half-1", { "a.yaml": configMap("half-1") });
    await tenancy.publish("half-2", { "a.yaml": configMap("half-2") });
    await tenancy.release("half", {
      stages: [
        { name: "first", sourceRef: { name: "half-1" }, serviceAccountName: "half-first" },
        { name: "second", sourceRef: { name: "half-2" }, serviceAccountName: "half-second" },
      ],
    });
    const stageSet = await untilReady(cluster, { namespace, name: "half" }, "False RBACDenied");
    expect(stageStatus(stageSet, "first")).toMatchObject({ phase: "Ready" });
    expect(stageStatus(stageSet, "second")).toMatchObject({ phase: "Failed" });
    expect(await object("half-1")).toBeDefined();
    expect(await object("half-2")).toBeUndefined();
  });

  test("[50.4] a stage that left the spec is pruned as the ServiceAccount that applied it, which alone may delete", async () => {
    const { namespace } = tenancy;
    const noDelete = ["get", "create", "patch"];
    await tenancy.account("four-first", rulesOn(["configmaps"], noDelete));
    const second = await tenancy.account("four-second", configMapsOnly);
    await tenancy.publish("four-1", { "a.yaml": configMap("four-1") });
    await tenancy.publish("four-2", { "a.yaml": configMap("four-2") });
    const stage = { name: "first", sourceRef: { name: "four-1" } };
    await tenancy.release("four", {
      serviceAccountName: "four-first",
      stages: [stage, { name: "second", sourceRef: { name: "four-2" }, serviceAccountName: "four-second" }],
    });
    await untilReady(cluster, { namespace, name: "four" });
    await admin.patch(stageSetRef(namespace, "four"), { spec: { stages: [stage] } });
    await untilReady(cluster, { namespace, name: "four" });
    expect(await object("four-2")).toBeUndefined();
    const deletes = (await writesOf("four-2")).filter((event) => event.verb === "delete");
    expect(deletes.map((event) => [event.username, event.code])).toEqual([[second.username, 200]]);
  });

  test("what a new ServiceAccount may not prune is pruned as the one that applied it", async () => {
    const { namespace } = tenancy;
    const before = await tenancy.account("before", configMapsOnly);
    const after = await tenancy.account("after", rulesOn(["configmaps"], ["get", "create", "patch"]));
    const kept = { "a.yaml": configMap("heir-kept") };
    await tenancy.publish("heir", { ...kept, "b.yaml": configMap("heir-dropped") });
    await tenancy.release("heir", {
      serviceAccountName: "before",
      stages: [{ name: "only", sourceRef: { name: "heir" } }],
    });
    await untilReady(cluster, { namespace, name: "heir" });
    await admin.patch(stageSetRef(namespace, "heir"), { spec: { suspend: true } });
    await untilReady(cluster, { namespace, name: "heir" }, "False Suspended");
    await tenancy.publish("heir", kept);
    await admin.patch(stageSetRef(namespace, "heir"), { spec: { suspend: false, serviceAccountName: "after" } });
    await untilReady(cluster, { namespace, name: "heir" });
    expect(await object("heir-dropped")).toBeUndefined();
    const deletes = (await writesOf("heir-dropped")).filter((event) => event.verb === "delete");
    expect(deletes.map((event) => [event.username, event.code])).toEqual([
      [after.username, 403],
      [before.username, 200],
    ]);
    const [shard] = await admin.list(
      { apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", namespace },
      { labelSelector: "stages.metio.wtf/stage-set=heir" },
    );
    expect(shard?.metadata.annotations).toMatchObject({ "stages.metio.wtf/service-account": "after" });
  });

  test("[50.5] a ServiceAccount deleted and made anew costs one 401 and no failed reconcile", async () => {
    const { namespace } = tenancy;
    await tenancy.account("reborn", configMapsOnly);
    await tenancy.publish("reborn", { "a.yaml": configMap("reborn-object") });
    await tenancy.release("reborn", {
      serviceAccountName: "reborn",
      stages: [{ name: "only", sourceRef: { name: "reborn" } }],
    });
    const before = await untilReady(cluster, { namespace, name: "reborn" });
    const usedAt = performance.now();
    const ref = { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "reborn", namespace } };
    await admin.delete(ref);
    await eventually(async () => (await admin.get(ref)) === undefined);
    await tenancy.account("reborn", configMapsOnly);
    // The API server remembers a token it has accepted for ten seconds.
    await eventually(() => performance.now() - usedAt > 11_000, { timeoutMs: 15_000 });
    // A pass with nothing to do would send nothing.
    const object = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "reborn-object", namespace } };
    await admin.delete(object);
    await ask("reborn", "again");
    await eventually(async () => {
      const stageSet = await admin.get(stageSetRef(namespace, "reborn"));
      return at(stageSet, "status", "lastHandledReconcileAt") === "again";
    });
    await eventually(async () => (await admin.get(object)) !== undefined);
    const after = await admin.get(stageSetRef(namespace, "reborn"));
    expect(readyOf(after)).toBe("True Succeeded");
    expect(at(after, "status", "conditions")).toEqual(at(before, "status", "conditions"));
    const refusals = await auditEvents(cluster, {
      since,
      namespace,
      where: (event) => event.code === 401 && event.uri.includes("reborn-object"),
    });
    expect(refusals).toHaveLength(1);
  });

  test("[50.6] 50 StageSets on one ServiceAccount need one TokenRequest", async () => {
    const { namespace } = tenancy;
    await tenancy.account("popular", configMapsOnly);
    const names = Array.from({ length: 50 }, (_, index) => `popular-${index}`);
    for (const name of names) {
      await tenancy.publish(name, { "a.yaml": configMap(name) });
      await tenancy.release(name, {
        serviceAccountName: "popular",
        stages: [{ name: "only", sourceRef: { name } }],
      });
    }
    for (const name of names) await untilReady(cluster, { namespace, name });
    const mints = await auditEvents(cluster, {
      since,
      namespace,
      username: tenancy.self.username,
      resource: "serviceaccounts",
      verbs: ["create"],
      where: (event) => event.subresource === "token" && event.name === "popular",
    });
    expect(mints).toHaveLength(1);
  });

  test("a token is kept while a StageSet uses it, and forgotten with the last one", async () => {
    const { namespace } = tenancy;
    const rented = await tenancy.account("rented", configMapsOnly);
    const release = async (name: string): Promise<void> => {
      await tenancy.publish(name, { "a.yaml": configMap(`${name}-object`) });
      await tenancy.release(name, { stages: [{ name: "only", sourceRef: { name }, serviceAccountName: rented.name }] });
      await untilReady(cluster, { namespace, name });
    };
    const remove = async (name: string): Promise<void> => {
      await admin.delete(stageSetRef(namespace, name));
      await eventually(async () => (await admin.get(stageSetRef(namespace, name))) === undefined);
    };
    const mints = async (): Promise<number> => {
      const found = await auditEvents(cluster, { since, namespace, username: tenancy.self.username });
      return found.filter((event) => event.subresource === "token" && event.name === rented.name).length;
    };
    await release("tenant-1");
    await release("tenant-2");
    await remove("tenant-1");
    await release("tenant-3");
    expect(await mints()).toBe(1);
    await remove("tenant-2");
    await remove("tenant-3");
    // The controller learns of the deletion a moment after we do.
    await eventually(async () => {
      await release("tenant-4");
      await remove("tenant-4");
      return (await mints()) > 1;
    });
  });

  test("a ServiceAccount that does not exist fails the stage and is named", async () => {
    const { namespace } = tenancy;
    await tenancy.publish("nobody", { "a.yaml": configMap("nobody-object") });
    await tenancy.release("nobody", {
      serviceAccountName: "nobody",
      retryInterval: "1s",
      stages: [{ name: "only", sourceRef: { name: "nobody" } }],
    });
    const stageSet = await untilReady(cluster, { namespace, name: "nobody" }, "False StageFailed");
    expect(messageOf(stageSet)).toBe(
      `stage "only" connect to target cluster: ServiceAccount "${namespace}/nobody" does not exist`,
    );
    expect(stageStatus(stageSet, "only")).toMatchObject({ phase: "Failed" });
    await tenancy.account("nobody", configMapsOnly);
    await untilReady(cluster, { namespace, name: "nobody" });
  });
});

describe("without a ServiceAccount", () => {
  test("[50.8] --require-service-account refuses before anything is read, and the controller writes to no other StageSet", async () => {
    await using tenancy = await startTenancy(cluster, { config: { requireServiceAccount: true } });
    const { namespace, self } = tenancy;
    await tenancy.account("deployer", allRules);
    await tenancy.publish("victim", { "a.yaml": configMap("victim-object") });
    await tenancy.release("victim", {
      serviceAccountName: "deployer",
      stages: [{ name: "only", sourceRef: { name: "victim" } }],
    });
    const victim = await untilReady(cluster, { namespace, name: "victim" });
    const since = await auditMark(cluster);
    const takeover = `apiVersion: stages.metio.wtf/v1\nkind: StageSet\nmetadata: { name: victim }\nspec: { suspend: true }\n`;
    await tenancy.publish("bare", { "a.yaml": takeover });
    await tenancy.release("bare", { stages: [{ name: "only", sourceRef: { name: "bare" } }] });
    const bare = await untilReady(cluster, { namespace, name: "bare" }, "False RBACDenied");
    expect(messageOf(bare)).toContain("spec.serviceAccountName");
    expect(await admin.get(stageSetRef(namespace, "victim"))).toEqual(victim);
    const events = await auditEvents(cluster, { since, namespace, username: self.username });
    const written = events.filter((event) => writes.includes(event.verb) && event.resource === "stagesets");
    expect(new Set(written.map((event) => event.name))).toEqual(new Set(["bare"]));
    const sources = events.filter((event) => event.verb === "get" && event.resource === "externalartifacts");
    expect(sources.filter(({ name }) => name === "bare")).toEqual([]);
    await admin.delete(stageSetRef(namespace, "bare"));
    await eventually(async () => (await admin.get(stageSetRef(namespace, "bare"))) === undefined);
  });

  test("[50.8] a StageSet whose stages all name one is not refused; one stage without is enough to be", async () => {
    await using tenancy = await startTenancy(cluster, { config: { requireServiceAccount: true } });
    const { namespace } = tenancy;
    await tenancy.account("deployer", configMapsOnly);
    await tenancy.publish("a", { "a.yaml": configMap("a") });
    await tenancy.publish("b", { "a.yaml": configMap("b") });
    const first = { name: "first", sourceRef: { name: "a" }, serviceAccountName: "deployer" };
    const second = { name: "second", sourceRef: { name: "b" } };
    await tenancy.release("named", { stages: [first] });
    await untilReady(cluster, { namespace, name: "named" });
    await tenancy.release("mixed", { stages: [{ ...first, name: "other" }, second] });
    const mixed = await untilReady(cluster, { namespace, name: "mixed" }, "False RBACDenied");
    expect(messageOf(mixed)).toContain('"second"');
  });

  test("[50.9] --default-service-account stands in for a missing name, in the StageSet's namespace", async () => {
    const since = await auditMark(cluster);
    await using tenancy = await startTenancy(cluster, { config: { defaultServiceAccount: "standard" } });
    const { namespace } = tenancy;
    await tenancy.publish("plain", { "a.yaml": configMap("plain") });
    await tenancy.release("plain", { retryInterval: "1s", stages: [{ name: "only", sourceRef: { name: "plain" } }] });
    const refused = await untilReady(cluster, { namespace, name: "plain" }, "False StageFailed");
    expect(messageOf(refused)).toContain(`"${namespace}/standard"`);
    const account = await tenancy.account("standard", configMapsOnly);
    await untilReady(cluster, { namespace, name: "plain" });
    const applied = await auditEvents(cluster, { since, namespace, resource: "configmaps", verbs: ["patch"] });
    expect(new Set(applied.map((event) => event.username))).toEqual(new Set([account.username]));
  });

  test("[50.10] the controller's own ServiceAccount is refused, at either level", async () => {
    const since = await auditMark(cluster);
    await using tenancy = await startTenancy(cluster, { selfIn: "watched" });
    const { namespace, self } = tenancy;
    await tenancy.account("deployer", configMapsOnly);
    await tenancy.publish("own", { "a.yaml": configMap("own-object") });
    const stage = { name: "only", sourceRef: { name: "own" } };
    await tenancy.release("whole", { serviceAccountName: self.name, stages: [stage] });
    await tenancy.release("part", {
      serviceAccountName: "deployer",
      stages: [{ ...stage, serviceAccountName: self.name }],
    });
    for (const name of ["whole", "part"]) {
      const stageSet = await untilReady(cluster, { namespace, name }, "False RBACDenied");
      expect(messageOf(stageSet)).toContain(`"${namespace}/${self.name}"`);
    }
    const mints = await auditEvents(cluster, {
      since,
      namespace,
      username: self.username,
      where: (event) => event.subresource === "token" && event.name === self.name,
    });
    expect(mints).toEqual([]);
  });
});
