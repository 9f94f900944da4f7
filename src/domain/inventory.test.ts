import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { asArray, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { planShards, readInventory, shardName, type ShardPlan, type StageRecord } from "./inventory.ts";
import type { RecordedEntry } from "./pass/state.ts";

const idOf = (index: number): string => `apps_cm-${String(index).padStart(5, "0")}__ConfigMap`;
const entry = (id: string, version = "v1"): RecordedEntry => ({ id, version });
const numbered = (count: number): readonly RecordedEntry[] =>
  Array.from({ length: count }, (_, index) => entry(idOf(index)));

const record = (entries: readonly RecordedEntry[], change: Partial<StageRecord> = {}): StageRecord => ({
  stageSet: "shop",
  uid: "u-1",
  namespace: "apps",
  stage: "web",
  stagePosition: 2,
  entries,
  shardCap: 3,
  serviceAccount: "deployer",
  target: "local",
  ...change,
});

/** Every state on the way from what is stored to what is planned, one write after the other. */
function statesOf(before: readonly KubeObject[], plan: ShardPlan): readonly (readonly KubeObject[])[] {
  const states = [before];
  const step = (change: (shards: readonly KubeObject[]) => readonly KubeObject[]): void =>
    void states.push(change(states.at(-1) ?? []));
  for (const shard of plan.create) step((shards) => [...shards, shard]);
  for (const shard of plan.update)
    step((shards) => shards.map((one) => (one.metadata.name === shard.metadata.name ? shard : one)));
  for (const shard of plan.delete) step((shards) => shards.filter((one) => one.metadata.name !== shard.metadata.name));
  return states;
}

function stored(entries: readonly RecordedEntry[], change: Partial<StageRecord> = {}): readonly KubeObject[] {
  return planShards(record(entries, change), []).create;
}

const idsOf = (shard: KubeObject): readonly string[] =>
  asArray(at(shard, "spec", "entries")).map((one) => asText(at(one, "id")) ?? "");

describe("planShards", () => {
  test("[10.32] 12,001 objects with a cap of 5,000 are three shards, named, labelled, ordered and owned", () => {
    const shuffled = [...numbered(12_001)].reverse();
    const { create, update, delete: gone } = planShards(record(shuffled, { shardCap: 5_000 }), []);
    expect([create.length, update.length, gone.length]).toEqual([3, 0, 0]);
    expect(create.map((shard) => idsOf(shard).length)).toEqual([5_000, 5_000, 2_001]);
    expect(create.flatMap(idsOf)).toEqual(numbered(12_001).map(({ id }) => id));
    for (const [index, shard] of create.entries()) {
      const hash = createHash("sha256").update(`4/shop/3/web/${index}`).digest("hex").slice(0, 10);
      expect(shard.metadata).toMatchObject({
        name: `shop-web-0${index}-${hash}`,
        namespace: "apps",
        labels: {
          "stages.metio.wtf/stage-set": "shop",
          "stages.metio.wtf/stage": "web",
          "stages.metio.wtf/shard": String(index),
        },
        ownerReferences: [
          {
            apiVersion: "stages.metio.wtf/v1",
            kind: "StageSet",
            name: "shop",
            uid: "u-1",
            controller: true,
            blockOwnerDeletion: true,
          },
        ],
      });
      expect(shard["spec"]).toMatchObject({ stagePosition: 2 });
    }
    expect(readInventory(create).byStage.get("web")).toMatchObject({ shards: 3, position: 2 });
  });

  test("only shard 0 names the target, every shard the ServiceAccount", () => {
    const annotations = stored(numbered(4)).map((shard) => shard.metadata.annotations);
    expect(annotations).toEqual([
      { "stages.metio.wtf/service-account": "deployer", "stages.metio.wtf/target": "local" },
      { "stages.metio.wtf/service-account": "deployer" },
    ]);
    expect(stored([], { serviceAccount: undefined }).map((shard) => shard.metadata.annotations)).toEqual([
      { "stages.metio.wtf/target": "local" },
    ]);
  });

  test("shard 0 exists also when it is empty", () => {
    expect(stored([]).map(idsOf)).toEqual([[]]);
  });

  test("versions are written without their group", () => {
    const [shard] = stored([entry("apps_web_apps_Deployment", "apps/v1")]);
    expect(at(shard, "spec", "entries")).toEqual([{ id: "apps_web_apps_Deployment", v: "v1" }]);
  });

  test.each([
    ["short names", "shop", "web", /^shop-web-00-[0-9a-f]{10}$/],
    ["a name that ends in a dash where it is cut", "a".repeat(241), "web", /^a{241}-[0-9a-f]{10}$/],
    ["the longest names", "a".repeat(253), "b".repeat(63), /^a{242}-[0-9a-f]{10}$/],
  ])("the name of a shard fits 253 characters: %s", (_title, stageSet, stage, pattern) => {
    const name = shardName(stageSet, stage, 0);
    expect(name).toMatch(pattern);
    expect(name.length).toBeLessThanOrEqual(253);
    expect(shardName(stageSet, stage, 1)).not.toBe(name);
  });

  test("index 100 and more widen the number", () => {
    expect(shardName("shop", "web", 100)).toMatch(/^shop-web-100-[0-9a-f]{10}$/);
  });

  test("a shard is also cut at 1,000,000 bytes of entries", () => {
    const long = Array.from({ length: 5_000 }, (_, index) => entry(`apps_${"x".repeat(240)}${index}__ConfigMap`));
    const shards = stored(long, { shardCap: 5_000 });
    expect(shards.length).toBe(2);
    for (const shard of shards)
      expect(JSON.stringify(at(shard, "spec", "entries")).length).toBeLessThanOrEqual(1_000_000);
  });

  test("nothing is written when nothing differs, and what others put on a shard stays", () => {
    const [shard] = stored(numbered(2));
    if (shard === undefined) throw new Error("no shard");
    const marked: KubeObject = {
      ...shard,
      metadata: {
        ...shard.metadata,
        uid: "s-1",
        resourceVersion: "7",
        labels: { ...shard.metadata.labels, team: "a" },
        annotations: { ...shard.metadata.annotations, note: "b" },
      },
    };
    expect(planShards(record(numbered(2)), [marked])).toEqual({ create: [], update: [], delete: [] });
    const [update] = planShards(record(numbered(3)), [marked]).update;
    expect(update?.metadata).toMatchObject({
      uid: "s-1",
      resourceVersion: "7",
      labels: { team: "a" },
      annotations: { note: "b" },
    });
  });

  test("surplus and misnamed shards go when the others are there; a stolen label is put right", () => {
    const shards = stored(numbered(7));
    const misnamed = shards.map((shard) => ({ ...shard, metadata: { ...shard.metadata, name: "odd" } })).slice(0, 1);
    const plan = planShards(record(numbered(2)), [...shards, ...misnamed]);
    expect(plan.delete.map(({ metadata }) => metadata.name).sort()).toEqual(
      [shardName("shop", "web", 1), shardName("shop", "web", 2), "odd"].sort(),
    );
    const [first] = stored(numbered(2));
    if (first === undefined) throw new Error("no shard");
    const relabelled = { ...first, metadata: { ...first.metadata, labels: { "stages.metio.wtf/stage": "web" } } };
    expect(planShards(record(numbered(2)), [relabelled]).update.map(({ metadata }) => metadata.labels)).toEqual([
      first.metadata.labels,
    ]);
  });
});

const entries = fc
  .uniqueArray(fc.nat({ max: 40 }), { maxLength: 30 })
  .map((numbers) => numbers.map((number) => entry(idOf(number))));
const cap = fc.integer({ min: 1, max: 8 });

describe("any inventory", () => {
  test("reads back as it was written, each shard within its cap and sorted", () => {
    fc.assert(
      fc.property(entries, cap, (written, shardCap) => {
        const shards = stored(written, { shardCap });
        const sorted = written.map(({ id }) => id).sort();
        expect(shards.flatMap(idsOf)).toEqual(sorted);
        expect(shards.every((shard) => idsOf(shard).length <= shardCap)).toBe(true);
        expect(shards.length).toBe(Math.max(1, Math.ceil(written.length / shardCap)));
        const read = readInventory([...shards].reverse()).byStage.get("web");
        expect(read?.entries.map(({ id }) => id)).toEqual(sorted);
        expect(planShards(record([...written].reverse(), { shardCap }), shards)).toEqual({
          create: [],
          update: [],
          delete: [],
        });
      }),
    );
  });

  // A crash between two writes must not orphan an object (spec 20 E1, E2).
  const changes = ["grows", "shrinks", "is cut anew", "changes in every way"] as const;
  test.each(changes)("never lacks an id while it %s, whenever it stops", (how) => {
    fc.assert(
      fc.property(entries, entries, cap, cap, (some, more, shardCap, otherCap) => {
        const all = [...new Map([...some, ...more].map((one) => [one.id, one])).values()];
        const from = how === "shrinks" || how === "is cut anew" ? all : some;
        const to = how === "shrinks" ? some : how === "changes in every way" ? more : all;
        const before = stored(from, { shardCap });
        const next = record(to, { shardCap: how === "grows" || how === "shrinks" ? shardCap : otherCap });
        const kept = new Set(to.map(({ id }) => id));
        const wanted = from.map(({ id }) => id).filter((id) => kept.has(id));
        for (const state of statesOf(before, planShards(next, before))) {
          const present = new Set(state.flatMap(idsOf));
          expect(wanted.filter((id) => !present.has(id))).toEqual([]);
          const read =
            readInventory(state)
              .byStage.get("web")
              ?.entries.map(({ id }) => id) ?? [];
          expect(new Set(read).size, "an id that two shards hold counts once").toBe(read.length);
        }
        const last = statesOf(before, planShards(next, before)).at(-1) ?? [];
        expect(last.flatMap(idsOf).sort()).toEqual([...kept].sort());
      }),
    );
  });
});

describe("readInventory", () => {
  const [shard] = stored(numbered(1));
  const shardOf = (written: readonly unknown[], metadata: object = {}): KubeObject => ({
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageInventory",
    ...shard,
    metadata: { name: "one", ...shard?.metadata, ...metadata },
    spec: { stagePosition: 1, entries: written },
  });

  test("[10.32] a version with its group means the same as without", () => {
    const { byStage } = readInventory([shardOf([{ id: "apps_web_apps_Deployment", v: "apps/v1" }])]);
    expect(byStage.get("web")?.entries).toEqual([entry("apps_web_apps_Deployment")]);
  });

  test.each([[{ v: "v1" }], [{ id: "web", v: "v1" }], [{ id: "apps__apps_Deployment", v: "v1" }], [null], ["x"]])(
    "an entry that cannot be read is skipped and told of: %j",
    (broken) => {
      const { byStage, skipped } = readInventory([shardOf([broken, { id: idOf(1), v: "v1" }])]);
      expect(byStage.get("web")?.entries).toEqual([entry(idOf(1))]);
      expect(skipped).toEqual([expect.objectContaining({ stage: "web" })]);
    },
  );

  test.each([
    ["a namespaced object", "apps_web_apps_Deployment"],
    ["a core object", "apps_settings__ConfigMap"],
    ["a cluster-scoped object", "_my_role_rbac.authorization.k8s.io_ClusterRole"],
  ])("%s is read", (_title, id) => {
    expect(readInventory([shardOf([{ id, v: "v1" }])]).byStage.get("web")?.entries).toEqual([entry(id)]);
  });

  test("shards without a stage are no record; one that is being deleted counts only in a teardown", () => {
    expect(readInventory([shardOf([], { labels: {} })]).byStage.size).toBe(0);
    const going = shardOf([{ id: idOf(1), v: "v1" }], { deletionTimestamp: "2026-01-01T00:00:00Z" });
    expect(readInventory([going]).byStage.size).toBe(0);
    expect(readInventory([going], { terminating: "counted" }).byStage.get("web")?.entries).toEqual([entry(idOf(1))]);
  });
});
