import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { asArray, at } from "../../src/lib/json.ts";
import { eventually, testCluster, uniqueName } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { startFaultProxy, type Fault, type SeenCall } from "../support/fault-proxy.ts";
import { deployment } from "../support/manifests.ts";
import { recordedIds, requestPass, shardsOf, untilApplied } from "../support/passes.ts";
import { deploymentKind, startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
const roleKind = { apiVersion: "rbac.authorization.k8s.io/v1", kind: "ClusterRole" } as const;

let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster, { clusterWide: true });
});
afterAll(() => scene[Symbol.asyncDispose]());

const nameIn = (name: string) => ({ namespace: scene.namespace, name });
const mapRef = (name: string) => ({ apiVersion: "v1", kind: "ConfigMap", metadata: nameIn(name) });
const mapId = (name: string): string => `${scene.namespace}_${name}__ConfigMap`;
const uidOf = async (name: string): Promise<string | undefined> => (await scene.object(name))?.metadata.uid;
const isGone = (name: string): Promise<unknown> =>
  eventually(async () => (await scene.object(name)) === undefined, { timeoutMs: 20_000 });
const stage = (name: string, source: string, more: Readonly<Record<string, unknown>> = {}) => ({
  name,
  sourceRef: { name: source },
  ...more,
});
const patchStages = (name: string, stages: readonly unknown[]): Promise<unknown> =>
  admin.patch(stageSetRef(scene.namespace, name), { spec: { stages } });

describe.concurrent("what no stage renders any more", () => {
  test("[20.11] X dropped by a run that fails in stage 2 is deleted by the next one that succeeds", async () => {
    const stages = [stage("one", "later-one"), stage("two", "later-two", { timeout: "2s", onTimeout: "Rollback" })];
    await scene.publish("later-one", { "a.yaml": configMap("later-kept"), "x.yaml": configMap("later-x") });
    const good = await scene.publish("later-two", { "a.yaml": configMap("later-two") });
    await scene.release("later", stages, { retryInterval: "1s" });
    await untilReady(cluster, nameIn("later"));
    await scene.publish("later-two", { "a.yaml": deployment("later-stuck", { pods: { neverReady: "true" } }) });
    await untilReady(cluster, nameIn("later"), "False StageFailed");
    const one = await scene.publish("later-one", { "a.yaml": configMap("later-kept", { k: "2" }) });
    const failed = await eventually(
      async () => {
        const stageSet = await scene.get("later");
        expect(stageStatus(stageSet, "one")).toMatchObject({ phase: "Ready", appliedRevision: one.revision });
        expect(readyOf(stageSet)).toBe("False StageFailed");
        return stageSet ?? false;
      },
      { timeoutMs: 20_000 },
    );
    expect(messageOf(failed)).toMatch(/^stage "two" verify: /);
    expect(await scene.object("later-kept")).toMatchObject({ data: { k: "2" } });
    expect(await uidOf("later-x")).toBeDefined();
    expect(await recordedIds(cluster, { ...nameIn("later"), stage: "one" })).toContain(mapId("later-x"));
    const third = await scene.publish("later-two", { "a.yaml": configMap("later-two", { k: "3" }) });
    await untilApplied(cluster, nameIn("later"), { "later-one": one.revision, "later-two": third.revision });
    await isGone("later-x");
    expect(await scene.object("later-stuck", deploymentKind)).toBeUndefined();
    expect(await recordedIds(cluster, nameIn("later"))).toEqual([mapId("later-kept"), mapId("later-two")].sort());
    expect(good.revision).not.toBe(third.revision);
  });

  test("[20.16] a ClusterRole with an underscore in its name is recorded and pruned", async () => {
    const role = `my_role_${uniqueName("r")}`;
    const manifest = stringify({ ...roleKind, metadata: { name: role }, rules: [] });
    await scene.publish("underscore", { "a.yaml": manifest, "b.yaml": configMap("underscore") });
    await scene.release("underscore", [stage("only", "underscore")]);
    await untilReady(cluster, nameIn("underscore"));
    expect(await recordedIds(cluster, nameIn("underscore"))).toContain(
      `_${role}_rbac.authorization.k8s.io_ClusterRole`,
    );
    const next = await scene.publish("underscore", { "b.yaml": configMap("underscore") });
    await untilApplied(cluster, nameIn("underscore"), { underscore: next.revision });
    expect(await admin.get({ ...roleKind, metadata: { name: role } })).toBeUndefined();
    expect(await recordedIds(cluster, nameIn("underscore"))).toEqual([mapId("underscore")]);
  });

  test("[20.16] [10.32] an entry of a version that is not served, or spelled with its group, is pruned", async () => {
    await scene.publish("versions", { "a.yaml": deployment("versions"), "b.yaml": configMap("versions-kept") });
    await scene.release("versions", [stage("only", "versions")]);
    await untilReady(cluster, nameIn("versions"));
    const [shard] = await shardsOf(cluster, nameIn("versions"));
    for (const v of ["v1beta1", "apps/v1"]) {
      const entries = asArray(at(shard, "spec", "entries")).map((entry) =>
        String(at(entry, "id")).endsWith("_Deployment") ? { id: at(entry, "id"), v } : entry,
      );
      await admin.patch(
        { apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", metadata: nameIn(shard?.metadata.name ?? "") },
        { spec: { entries } },
      );
      const next = await scene.publish("versions", { "b.yaml": configMap("versions-kept", { dropped: v }) });
      await untilApplied(cluster, nameIn("versions"), { versions: next.revision });
      await eventually(async () => (await scene.object("versions", deploymentKind)) === undefined);
      expect(await recordedIds(cluster, nameIn("versions"))).toEqual([mapId("versions-kept")]);
      const back = await scene.publish("versions", {
        "a.yaml": deployment("versions"),
        "b.yaml": configMap("versions-kept", { back: v }),
      });
      await untilApplied(cluster, nameIn("versions"), { versions: back.revision });
    }
  });

  test("an entry of a kind that is not served any more, and a malformed one, leave the record", async () => {
    await scene.publish("leftover", { "a.yaml": configMap("leftover") });
    await scene.release("leftover", [stage("only", "leftover")]);
    await untilReady(cluster, nameIn("leftover"));
    const [shard] = await shardsOf(cluster, nameIn("leftover"));
    const entries = [
      ...asArray(at(shard, "spec", "entries")),
      { id: `${scene.namespace}_thing_gone.example.com_Thing`, v: "v1" },
      { id: "nonsense", v: "v1" },
    ];
    await admin.patch(
      { apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", metadata: nameIn(shard?.metadata.name ?? "") },
      { spec: { entries } },
    );
    await eventually(async () => expect(await recordedIds(cluster, nameIn("leftover"))).toEqual([mapId("leftover")]));
    expect(await scene.controller.metrics()).toMatch(
      new RegExp(`stageset_inventory_skipped_entries_total\\{[^}]*namespace="${scene.namespace}"[^}]*\\} [1-9]`),
    );
  });

  test("[20.15] stripped owner labels, and prune: Disabled by manifest or live, outlive the render and the StageSet", async () => {
    const disabled = stringify({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "survive-manifest", annotations: { "stages.metio.wtf/prune": "Disabled" } },
    });
    const twin = stringify({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "survive-twin", labels: { "kustomize.toolkit.fluxcd.io/prune": "disabled" } },
    });
    const names = ["survive-manifest", "survive-twin", "survive-live", "survive-stripped"];
    const all = {
      "a.yaml": disabled,
      "b.yaml": twin,
      "c.yaml": configMap("survive-live"),
      "d.yaml": configMap("survive-stripped"),
      "e.yaml": configMap("survive-none"),
    };
    const twice = await Promise.all(
      ["survive-prune", "survive-teardown"].map(async (name) => {
        const own = Object.fromEntries(
          Object.entries(all).map(([file, text]) => [file, text.replaceAll("survive-", `${name}-`)]),
        );
        await scene.publish(name, own);
        await scene.release(name, [stage("only", name)]);
        await untilReady(cluster, nameIn(name));
        await admin.patch(mapRef(`${name}-live`), {
          metadata: { annotations: { "stages.metio.wtf/prune": "disabled" } },
        });
        // Else a watch would have the label put back.
        await admin.patch(stageSetRef(scene.namespace, name), { spec: { suspend: true } });
        await untilReady(cluster, nameIn(name), "False Suspended");
        await admin.patch(mapRef(`${name}-stripped`), { metadata: { labels: { "stages.metio.wtf/name": null } } });
        return name;
      }),
    );
    expect(twice).toHaveLength(2);
    const empty = await scene.publish("survive-prune", { "a.yaml": "[]" });
    await admin.patch(stageSetRef(scene.namespace, "survive-prune"), { spec: { suspend: false } });
    await untilApplied(cluster, nameIn("survive-prune"), { "survive-prune": empty.revision });
    await admin.delete(stageSetRef(scene.namespace, "survive-teardown"));
    await eventually(async () => (await scene.get("survive-teardown")) === undefined);
    for (const name of twice) {
      for (const each of names) expect(await uidOf(each.replace("survive-", `${name}-`)), each).toBeDefined();
      expect(await uidOf(`${name}-none`)).toBeUndefined();
    }
    expect(await recordedIds(cluster, nameIn("survive-prune"))).toEqual([]);
  });

  test("owner labels stripped from an object that is still rendered are put back", async () => {
    await scene.publish("stripped", { "a.yaml": configMap("stripped") });
    await scene.release("stripped", [stage("only", "stripped")]);
    await untilReady(cluster, nameIn("stripped"));
    await admin.patch(mapRef("stripped"), { metadata: { labels: { "stages.metio.wtf/name": null } } });
    await requestPass(cluster, nameIn("stripped"));
    await eventually(async () => {
      const labels = (await scene.object("stripped"))?.metadata.labels;
      return labels?.["stages.metio.wtf/name"] === "stripped";
    });
  });

  test("prune: false lets what a stage drops stay, and takes it off the record", async () => {
    await scene.publish("unpruned", { "a.yaml": configMap("unpruned-a"), "b.yaml": configMap("unpruned-b") });
    await scene.release("unpruned", [stage("only", "unpruned", { prune: false })]);
    await untilReady(cluster, nameIn("unpruned"));
    const next = await scene.publish("unpruned", { "a.yaml": configMap("unpruned-a") });
    await untilApplied(cluster, nameIn("unpruned"), { unpruned: next.revision });
    await eventually(async () => expect(await recordedIds(cluster, nameIn("unpruned"))).toEqual([mapId("unpruned-a")]));
    expect((await scene.object("unpruned-b"))?.metadata.labels).toMatchObject({ "stages.metio.wtf/name": "unpruned" });
    await admin.delete(stageSetRef(scene.namespace, "unpruned"));
    await eventually(async () => (await scene.get("unpruned")) === undefined);
    expect((await scene.object("unpruned-a"))?.metadata.labels).toMatchObject({ "stages.metio.wtf/name": "unpruned" });
  });

  test("[20.18] an empty artifact or a wrong path fails the stage by name and deletes nothing; `[]` prunes all", async () => {
    await scene.publish("empty", { "app/a.yaml": configMap("empty-a") });
    await scene.release("empty", [stage("only", "empty", { path: "./app" })], { retryInterval: "1s" });
    await untilReady(cluster, nameIn("empty"));
    const uid = await uidOf("empty-a");
    for (const files of [{ "README.md": "nothing here" }, { "other/a.yaml": configMap("empty-a") }]) {
      await scene.publish("empty", files);
      const failed = await eventually(async () => {
        const stageSet = await scene.get("empty");
        expect(at(stageStatus(stageSet, "only"), "phase")).toBe("Failed");
        return stageSet ?? false;
      });
      expect(messageOf(failed)).toMatch(/^stage "only" build: .*app/);
      expect(await uidOf("empty-a")).toBe(uid);
      const good = await scene.publish("empty", {
        "app/a.yaml": configMap("empty-a", { after: Object.keys(files)[0] ?? "" }),
      });
      await untilApplied(cluster, nameIn("empty"), { empty: good.revision });
    }
    await scene.publish("empty", { "README.md": "no manifest at all" });
    await admin.patch(stageSetRef(scene.namespace, "empty"), { spec: { stages: [stage("only", "empty")] } });
    const none = await untilReady(cluster, nameIn("empty"), "False StageFailed");
    expect(messageOf(none)).toMatch(/^stage "only" build: .*no manifests/);
    expect(await uidOf("empty-a")).toBe(uid);
    const list = await scene.publish("empty", { "a.yaml": "[]" });
    const ready = await untilApplied(cluster, nameIn("empty"), { empty: list.revision });
    expect(await uidOf("empty-a")).toBeUndefined();
    expect(at(stageStatus(ready, "only"), "entriesCount")).toBe(0);
  });
});

describe.concurrent("objects that move", () => {
  test("[20.13] from stage 2 to stage 1: the uid stays, and only the new stage records it", async () => {
    const moved = configMap("moving");
    await scene.publish("move-one", { "a.yaml": configMap("move-one") });
    await scene.publish("move-two", { "a.yaml": configMap("move-two"), "m.yaml": moved });
    await scene.release("move", [stage("one", "move-one"), stage("two", "move-two")]);
    await untilReady(cluster, nameIn("move"));
    const uid = await uidOf("moving");
    // Either source alone would have the object twice, or not at all: a new generation takes both.
    await admin.patch(stageSetRef(scene.namespace, "move"), { spec: { suspend: true } });
    const [one, two] = await Promise.all([
      scene.publish("move-one", { "a.yaml": configMap("move-one"), "m.yaml": moved }),
      scene.publish("move-two", { "a.yaml": configMap("move-two") }),
    ]);
    await admin.patch(stageSetRef(scene.namespace, "move"), { spec: { suspend: false } });
    await untilApplied(cluster, nameIn("move"), { "move-one": one.revision, "move-two": two.revision });
    expect(await uidOf("moving")).toBe(uid);
    expect((await scene.object("moving"))?.metadata.labels).toMatchObject({ "stages.metio.wtf/stage": "one" });
    expect(await recordedIds(cluster, { ...nameIn("move"), stage: "one" })).toContain(mapId("moving"));
    expect(await recordedIds(cluster, { ...nameIn("move"), stage: "two" })).not.toContain(mapId("moving"));
    // And back.
    await admin.patch(stageSetRef(scene.namespace, "move"), { spec: { suspend: true } });
    const [back, again] = await Promise.all([
      scene.publish("move-one", { "a.yaml": configMap("move-one") }),
      scene.publish("move-two", { "a.yaml": configMap("move-two"), "m.yaml": moved }),
    ]);
    await admin.patch(stageSetRef(scene.namespace, "move"), { spec: { suspend: false } });
    await untilApplied(cluster, nameIn("move"), { "move-one": back.revision, "move-two": again.revision });
    expect(await uidOf("moving")).toBe(uid);
    expect(await recordedIds(cluster, { ...nameIn("move"), stage: "one" })).not.toContain(mapId("moving"));
  });

  test("[20.13] to another StageSet, which applies it before the first drops it: the uid stays", async () => {
    await scene.publish("giver", { "a.yaml": configMap("given"), "b.yaml": configMap("giver") });
    await scene.publish("taker", { "b.yaml": configMap("taker") });
    await Promise.all([
      scene.release("giver", [stage("only", "giver")]),
      scene.release("taker", [stage("only", "taker")]),
    ]);
    await Promise.all([untilReady(cluster, nameIn("giver")), untilReady(cluster, nameIn("taker"))]);
    const uid = await uidOf("given");
    const taken = await scene.publish("taker", { "a.yaml": configMap("given"), "b.yaml": configMap("taker") });
    await untilApplied(cluster, nameIn("taker"), { taker: taken.revision });
    // Until one gives it up the last writer wins, in turns; each says who the other is.
    await requestPass(cluster, nameIn("giver"));
    await eventually(async () => {
      const [event] = await stageSetEvents(cluster, { ...nameIn("giver"), reason: "DriftCorrected" });
      expect(event?.note).toContain(`StageSet "${scene.namespace}/taker"`);
      return true;
    });
    const dropped = await scene.publish("giver", { "b.yaml": configMap("giver") });
    await untilApplied(cluster, nameIn("giver"), { giver: dropped.revision });
    expect(await uidOf("given")).toBe(uid);
    await eventually(async () => expect(await recordedIds(cluster, nameIn("giver"))).toEqual([mapId("giver")]));
    await requestPass(cluster, nameIn("taker"));
    expect((await scene.object("given"))?.metadata).toMatchObject({
      uid,
      labels: { "stages.metio.wtf/name": "taker" },
    });
    // The labels say whose it is: now the taker's deletion takes it along.
    await admin.delete(stageSetRef(scene.namespace, "giver"));
    await eventually(async () => (await scene.get("giver")) === undefined);
    expect(await uidOf("given")).toBe(uid);
    await admin.delete(stageSetRef(scene.namespace, "taker"));
    await isGone("given");
  });

  test("[20.13] with their stage renamed: the uid stays, the old name's shards go, and what it alone had is deleted", async () => {
    await scene.publish("rename", { "a.yaml": configMap("renamed"), "b.yaml": configMap("rename-old") });
    await scene.release("rename", [stage("before", "rename")]);
    await untilReady(cluster, nameIn("rename"));
    const uid = await uidOf("renamed");
    await scene.publish("rename-next", { "a.yaml": configMap("renamed") });
    await patchStages("rename", [stage("after", "rename-next")]);
    await eventually(async () => {
      const stageSet = await scene.get("rename");
      expect(at(stageStatus(stageSet, "after"), "phase")).toBe("Ready");
      expect(stageStatus(stageSet, "before")).toBeUndefined();
      return true;
    });
    await isGone("rename-old");
    expect(await uidOf("renamed")).toBe(uid);
    await eventually(async () => expect(await shardsOf(cluster, { ...nameIn("rename"), stage: "before" })).toEqual([]));
    expect((await scene.object("renamed"))?.metadata.labels).toMatchObject({ "stages.metio.wtf/stage": "after" });
  });

  test("two StageSets deleted at once leave nothing behind of what both claim", async () => {
    for (const name of ["claims-a", "claims-b"]) {
      await scene.publish(name, { "a.yaml": configMap("claimed"), "b.yaml": configMap(name) });
      await scene.release(name, [stage("only", name)]);
      await untilReady(cluster, nameIn(name));
    }
    await Promise.all(["claims-a", "claims-b"].map((name) => admin.delete(stageSetRef(scene.namespace, name))));
    await eventually(
      async () => (await scene.get("claims-a")) === undefined && (await scene.get("claims-b")) === undefined,
    );
    expect(await uidOf("claimed")).toBeUndefined();
  });

  test("stages reordered: nothing is deleted, and positions are rewritten", async () => {
    const names = ["order-a", "order-b", "order-c"];
    for (const name of names) await scene.publish(name, { "a.yaml": configMap(name) });
    await scene.release(
      "order",
      names.map((name) => stage(name, name)),
    );
    await untilReady(cluster, nameIn("order"));
    const uids = await Promise.all(names.map(uidOf));
    await patchStages(
      "order",
      [...names].reverse().map((name) => stage(name, name)),
    );
    await untilReady(cluster, nameIn("order"));
    expect(await Promise.all(names.map(uidOf))).toEqual(uids);
    const positions = (await shardsOf(cluster, nameIn("order"))).map((shard) => at(shard, "spec", "stagePosition"));
    expect(positions).toEqual([2, 1, 0]);
  });
});

describe("stages that left the spec", () => {
  test("[20.14] their objects go after all other stages verified, last position first", async () => {
    const names = ["left-a", "left-b", "left-c", "left-d"];
    for (const name of names) await scene.publish(name, { "a.yaml": configMap(name) });
    await scene.release(
      "left",
      names.map((name) => stage(name, name)),
      { retryInterval: "1s" },
    );
    await untilReady(cluster, nameIn("left"));
    // Finalizers make the order visible: each stage waits for the one before.
    for (const name of names) await admin.patch(mapRef(name), { metadata: { finalizers: ["example.com/hold"] } });
    await scene.publish("left-a", {
      "a.yaml": configMap("left-a"),
      "d.yaml": deployment("left", { pods: { readyAfter: "2s" } }),
    });
    await patchStages("left", [stage("left-a", "left-a"), stage("left-d", "left-d")]);
    const deleting = async (name: string): Promise<boolean> =>
      (await scene.object(name))?.metadata.deletionTimestamp !== undefined;
    await eventually(
      async () => {
        const ready = await scene.object("left", deploymentKind);
        const isVerified = at(ready, "status", "readyReplicas") === 1;
        const isDeleting = (await deleting("left-b")) || (await deleting("left-c"));
        if (isDeleting) expect(at(stageStatus(await scene.get("left"), "left-a"), "phase")).toBe("Ready");
        return isVerified && isDeleting;
      },
      { intervalMs: 20 },
    );
    expect([await deleting("left-b"), await deleting("left-c")]).toEqual([false, true]);
    const ready = await untilReady(cluster, nameIn("left"));
    expect(at(ready, "status", "stages")).toHaveLength(2);
    expect(await deleting("left-b")).toBe(false);
    expect(await shardsOf(cluster, { ...nameIn("left"), stage: "left-c" })).toHaveLength(1);
    await admin.patch(mapRef("left-c"), { metadata: { finalizers: null } });
    await eventually(() => deleting("left-b"));
    await admin.patch(mapRef("left-b"), { metadata: { finalizers: null } });
    await eventually(async () => {
      expect(await shardsOf(cluster, { ...nameIn("left"), stage: "left-b" })).toEqual([]);
      expect(await shardsOf(cluster, { ...nameIn("left"), stage: "left-c" })).toEqual([]);
      return true;
    });
    expect([await uidOf("left-b"), await uidOf("left-c")]).toEqual([undefined, undefined]);
    for (const name of ["left-a", "left-d"]) await admin.patch(mapRef(name), { metadata: { finalizers: null } });
  });
});

test("a record that cannot be written when something was pruned fails the run, which backs off and goes on", async () => {
  await using proxy = await startFaultProxy(cluster);
  await using own = await startScene(cluster, { server: proxy.server });
  const { namespace } = own;
  await own.publish("full", { "a.yaml": configMap("full-a"), "b.yaml": configMap("full-b") });
  await own.release("full", [stage("only", "full")], { retryInterval: "1s" });
  await untilReady(cluster, { namespace, name: "full" });
  let refused = 0;
  const refuse = ({ method, target }: SeenCall): Fault | undefined => {
    if (method !== "PUT" || !target.includes("/stageinventories/")) return undefined;
    refused++;
    const body = {
      kind: "Status",
      apiVersion: "v1",
      status: "Failure",
      code: 500,
      reason: "InternalError",
      message: "x",
    };
    return { kind: "answer", status: 500, body };
  };
  proxy.onCall = refuse;
  const { revision } = await own.publish("full", { "a.yaml": configMap("full-a") });
  const failed = await untilReady(cluster, { namespace, name: "full" }, "False StageFailed");
  expect(messageOf(failed)).toMatch(/^stage "only" record inventory: /);
  // Attempts of one request, and of a few passes; without an end there would be thousands.
  expect(refused).toBeLessThan(50);
  proxy.onCall = undefined;
  await untilApplied(cluster, { namespace, name: "full" }, { full: revision });
  expect(await recordedIds(cluster, { namespace, name: "full" })).toEqual([`${namespace}_full-a__ConfigMap`]);

  proxy.onCall = refuse;
  const before = refused;
  await admin.delete(stageSetRef(namespace, "full"));
  await eventually(() => refused > before + 1);
  expect(refused).toBeLessThan(before + 50);
  proxy.onCall = undefined;
  await eventually(async () => (await own.get("full")) === undefined, { timeoutMs: 30_000 });
});
