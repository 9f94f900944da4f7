import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { at } from "../../src/lib/json.ts";
import { testCluster, uniqueName, eventually } from "../support/cluster.ts";
import {
  configMap,
  createStageSet,
  stageSetRef,
  stageStatus,
  startTestController,
  untilReady,
} from "../support/controller.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { recordedIds, requestPass, shardsOf, untilApplied } from "../support/passes.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
const inventoryKind = { apiVersion: "stages.metio.wtf/v1", kind: "StageInventory" } as const;
const roleKind = { apiVersion: "rbac.authorization.k8s.io/v1", kind: "ClusterRole" } as const;

let scene: Scene;
beforeAll(async () => {
  // Three objects per shard, so that a dozen objects make four.
  scene = await startScene(cluster, { clusterWide: true, config: { shardCap: 3 } });
});
afterAll(() => scene[Symbol.asyncDispose]());

const nameIn = (name: string) => ({ namespace: scene.namespace, name });
const mapId = (name: string): string => `${scene.namespace}_${name}__ConfigMap`;
const maps = (prefix: string, from: number, to: number): string =>
  Array.from({ length: to - from }, (_, index) => configMap(`${prefix}-${String(from + index).padStart(2, "0")}`)).join(
    "---\n",
  );
const deleteShard = (name: string): Promise<void> =>
  admin.delete({ apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", metadata: nameIn(name) });
const rebuilds = (name: string) => stageSetEvents(cluster, { ...nameIn(name), reason: "InventoryReconstructed" });

describe.concurrent("lost shards", () => {
  test.each([
    ["all", "lost-all", 3],
    ["one of three", "lost-one", 1],
  ] as const)(
    "[20.17] %s: rebuilt with what is not rendered any more, nothing pruned in that pass, told once, then pruned",
    async (_title, name, lost) => {
      const role = `${name}-${uniqueName("r")}`;
      const dropped = stringify({ ...roleKind, metadata: { name: role }, rules: [] });
      await scene.publish(name, { "a.yaml": maps(name, 0, 8), "role.yaml": dropped });
      await scene.release(name, [{ name: "only", sourceRef: { name } }]);
      const before = await untilReady(cluster, nameIn(name));
      expect(stageStatus(before, "only")).toMatchObject({ entriesCount: 9, shards: 3 });
      const shards = await shardsOf(cluster, nameIn(name));
      expect(shards).toHaveLength(3);
      // While the StageSet rests: shards go, and the next revision drops a kind altogether.
      await admin.patch(
        { apiVersion: "stages.metio.wtf/v1", kind: "StageSet", metadata: nameIn(name) },
        { spec: { suspend: true } },
      );
      await untilReady(cluster, nameIn(name), "False Suspended");
      for (const shard of shards.slice(0, lost)) await deleteShard(shard.metadata.name);
      const next = await scene.publish(name, { "a.yaml": maps(name, 0, 7) });
      const roleRef = { ...roleKind, metadata: { name: role } };
      const lostMap = `${name}-07`;
      // Nothing may be deleted before the record is whole again.
      await admin.patch(
        { apiVersion: "stages.metio.wtf/v1", kind: "StageSet", metadata: nameIn(name) },
        { spec: { suspend: false } },
      );
      await untilApplied(cluster, nameIn(name), { [name]: next.revision });
      const events = await eventually(async () => {
        const seen = await rebuilds(name);
        return seen.length > 0 && seen;
      });
      expect(events).toMatchObject([{ type: "Warning", count: 1 }]);
      expect(events[0]?.note).toContain("only");
      await eventually(
        async () => (await admin.get(roleRef)) === undefined && (await scene.object(lostMap)) === undefined,
      );
      await eventually(async () =>
        expect(await recordedIds(cluster, nameIn(name))).toEqual(
          Array.from({ length: 7 }, (_, index) => mapId(`${name}-0${String(index)}`)),
        ),
      );
      await requestPass(cluster, nameIn(name));
      expect(await rebuilds(name)).toHaveLength(1);
      expect((await rebuilds(name))[0]?.count).toBe(1);
      const names = new Set(shards.map((shard) => shard.metadata.name));
      for (const shard of await shardsOf(cluster, nameIn(name))) expect(names).toContain(shard.metadata.name);
    },
  );

  test("[20.17] kinds that cannot be listed are named, and what they hold is not forgotten while a shard still says it", async () => {
    await using own = await startScene(cluster, { config: { shardCap: 3 } });
    const name = "narrow";
    await own.publish(name, { "a.yaml": maps(name, 0, 4) });
    await own.release(name, [{ name: "only", sourceRef: { name } }]);
    await untilReady(cluster, { namespace: own.namespace, name });
    const [first] = await shardsOf(cluster, { namespace: own.namespace, name });
    await admin.delete({
      apiVersion: "stages.metio.wtf/v1",
      kind: "StageInventory",
      metadata: { name: first?.metadata.name ?? "", namespace: own.namespace },
    });
    await eventually(async () => {
      const [event] = await stageSetEvents(cluster, {
        namespace: own.namespace,
        name,
        reason: "InventoryReconstructed",
      });
      // The ServiceAccount has its rights in one namespace: what has none cannot be listed.
      expect(event?.note).toContain("ClusterRole.rbac.authorization.k8s.io");
      return true;
    });
    await eventually(async () =>
      expect(await recordedIds(cluster, { namespace: own.namespace, name })).toHaveLength(4),
    );
  });
});

describe.concurrent("recovery", () => {
  test("[60.26] a deleted inventory is rebuilt, nothing is pruned in that pass, and the next pass prunes", async () => {
    await using proxy = await startFaultProxy(cluster);
    await using own = await startScene(cluster, { server: proxy.server, caPem: "" });
    const { namespace } = own;
    const name = "deleted";
    await own.publish(name, { "a.yaml": maps(name, 0, 3) });
    await own.release(name, [{ name: "only", sourceRef: { name } }]);
    await untilReady(cluster, { namespace, name });
    await admin.patch(stageSetRef(namespace, name), { spec: { suspend: true } });
    await untilReady(cluster, { namespace, name }, "False Suspended");
    const shards = await shardsOf(cluster, { namespace, name });
    expect(shards).toHaveLength(1);
    for (const { metadata } of shards)
      await admin.delete({ ...inventoryKind, metadata: { namespace, name: metadata.name } });
    const next = await own.publish(name, { "a.yaml": maps(name, 0, 2) });
    /** Passes that ended since the StageSet goes on. */
    const ended = (): number =>
      own.controller.logs.slice(mark).filter((line) => line.includes('"msg":"StageSet synced"')).length;
    const mark = own.controller.logs.length;
    const pruned: { readonly afterPasses: number; readonly target: string }[] = [];
    proxy.onCall = ({ method, target }) => {
      if (method === "DELETE") pruned.push({ afterPasses: ended(), target });
      return undefined;
    };
    await admin.patch(stageSetRef(namespace, name), { spec: { suspend: false } });
    await untilApplied(cluster, { namespace, name }, { [name]: next.revision });
    await eventually(async () => (await own.object(`${name}-02`)) === undefined);
    expect(pruned.map(({ target }) => target.split("?")[0])).toEqual([
      `/api/v1/namespaces/${namespace}/configmaps/${name}-02`,
    ]);
    expect(pruned[0]?.afterPasses).toBe(1);
    expect(await stageSetEvents(cluster, { namespace, name, reason: "InventoryReconstructed" })).toHaveLength(1);
  });

  test("[60.26] an inventory restored without ownerReferences survives the garbage collector and is adopted", async () => {
    await using own = await startScene(cluster);
    const { namespace } = own;
    const name = "restored";
    const spec = { serviceAccountName: "deployer", stages: [{ name: "only", sourceRef: { name } }] };
    await own.publish(name, { "a.yaml": maps(name, 0, 3) });
    await own.release(name, spec.stages);
    await untilReady(cluster, { namespace, name });
    const backup = await shardsOf(cluster, { namespace, name });
    const kept = await own.object(`${name}-00`);
    // The StageSet is lost without a teardown. The garbage collector runs: it takes the shards along.
    await own.controller[Symbol.asyncDispose]();
    await admin.patch(stageSetRef(namespace, name), { metadata: { finalizers: null } });
    await admin.delete(stageSetRef(namespace, name));
    await eventually(async () => (await shardsOf(cluster, { namespace, name })).length === 0);
    // Restored as docs/disaster-recovery.md says; one with the owner of old days shows what would come of it.
    const restored = await Promise.all(
      backup.map(({ metadata: { labels, annotations, name: shard }, spec: content }) =>
        admin.create({
          ...inventoryKind,
          metadata: { name: shard, namespace, ...(labels && { labels }), ...(annotations && { annotations }) },
          spec: content,
        }),
      ),
    );
    const stale = { ...inventoryKind, metadata: { name: "stale-owner", namespace } };
    await admin.create({
      ...stale,
      metadata: { ...stale.metadata, ownerReferences: [...(backup[0]?.metadata.ownerReferences ?? [])] },
      spec: { entries: [] },
    });
    await eventually(async () => (await admin.get(stale)) === undefined);
    const next = await own.publish(name, { "a.yaml": maps(name, 0, 2) });
    const stageSet = await createStageSet(cluster, { namespace, name, spec });
    await using _again = await startTestController(cluster, { namespaces: [namespace] });
    await untilApplied(cluster, { namespace, name }, { [name]: next.revision });
    await eventually(async () => (await own.object(`${name}-02`)) === undefined);
    const adopted = await shardsOf(cluster, { namespace, name });
    expect(adopted.map(({ metadata }) => metadata.uid)).toEqual(restored.map(({ metadata }) => metadata.uid));
    for (const { metadata } of adopted)
      expect(metadata.ownerReferences).toMatchObject([
        { kind: "StageSet", uid: stageSet.metadata.uid, controller: true, blockOwnerDeletion: true },
      ]);
    expect((await own.object(`${name}-00`))?.metadata.uid).toBe(kept?.metadata.uid);
    expect(await stageSetEvents(cluster, { namespace, name, reason: "InventoryReconstructed" })).toEqual([]);
  });
});

describe.concurrent("shards", () => {
  test("[10.32] objects beyond the cap make more shards in order, and fewer objects take the surplus away", async () => {
    const name = "sharded";
    await scene.publish(name, { "a.yaml": maps(name, 0, 8) });
    await scene.release(name, [{ name: "only", sourceRef: { name } }]);
    await untilReady(cluster, nameIn(name));
    const shards = await shardsOf(cluster, nameIn(name));
    expect(shards.map((shard) => shard.metadata.labels?.["stages.metio.wtf/shard"])).toEqual(["0", "1", "2"]);
    expect(shards.map((shard) => shard.metadata.name.slice(0, "sharded-only-00-".length))).toEqual([
      "sharded-only-00-",
      "sharded-only-01-",
      "sharded-only-02-",
    ]);
    const sizes = shards.map((shard) => JSON.stringify(at(shard, "spec", "entries")).match(/"id"/g)?.length);
    expect(sizes).toEqual([3, 3, 2]);
    expect(await recordedIds(cluster, nameIn(name))).toHaveLength(8);
    const next = await scene.publish(name, { "a.yaml": maps(name, 6, 8) });
    const ready = await untilApplied(cluster, nameIn(name), { [name]: next.revision });
    expect(stageStatus(ready, "only")).toMatchObject({ entriesCount: 2, shards: 1 });
    expect(await shardsOf(cluster, nameIn(name))).toHaveLength(1);
    expect(await recordedIds(cluster, nameIn(name))).toEqual([mapId("sharded-06"), mapId("sharded-07")]);
  });
});
