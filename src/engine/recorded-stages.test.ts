import { expect, test } from "vitest";
import { inventoryShardLabel, stageLabel } from "../api/keys.ts";
import type { SkippedEntry } from "../domain/inventory.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { createRecordedStages } from "./recorded-stages.ts";

function shard(stage: string, ids: readonly string[], o: { readonly index?: number; readonly going?: boolean } = {}) {
  const { index = 0, going = false } = o;
  return {
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageInventory",
    metadata: {
      name: `${stage}-${index}`,
      labels: { [stageLabel]: stage, [inventoryShardLabel]: String(index) },
      ...(going ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {}),
    },
    spec: { stagePosition: 0, entries: ids.map((id) => ({ id: `ns_${id}__ConfigMap`, v: "v1" })) },
  } satisfies KubeObject;
}

const idsOf = (records: ReturnType<ReturnType<typeof createRecordedStages>["read"]>) =>
  Object.fromEntries([...records].map(([stage, { entries }]) => [stage, entries.map(({ id }) => id.split("_")[1])]));

test("reads anew what changed, and gives the very same answer while nothing did", () => {
  const skipped: SkippedEntry[] = [];
  const stages = createRecordedStages((entry) => skipped.push(entry));
  const one = shard("one", ["a", "b"]);
  const two = [shard("two", ["c"]), shard("two", ["d"], { index: 1 })];
  const bad = { ...shard("bad", []), spec: { entries: [{ id: "nonsense" }] } };
  const first = stages.read([one, ...two, bad], { deleting: false });
  expect(idsOf(first)).toEqual({ one: ["a", "b"], two: ["c", "d"], bad: [] });
  expect(stages.read([one, ...two, bad], { deleting: false })).toBe(first);

  const changed = stages.read([one, shard("two", ["e"]), bad], { deleting: false });
  expect(idsOf(changed)).toEqual({ one: ["a", "b"], two: ["e"], bad: [] });
  expect(changed.get("one")).toBe(first.get("one"));
  expect(idsOf(first)).toEqual({ one: ["a", "b"], two: ["c", "d"], bad: [] });
  expect(skipped.map(({ stage }) => stage)).toEqual(["bad"]);

  expect(idsOf(stages.read([one], { deleting: false }))).toEqual({ one: ["a", "b"] });
  expect(idsOf(stages.read([], { deleting: false }))).toEqual({});
});

test("a shard that is going counts only while its StageSet goes too, though it is the same object", () => {
  const stages = createRecordedStages(() => undefined);
  const shards = [shard("one", ["a"], { going: true })];
  expect(idsOf(stages.read(shards, { deleting: false }))).toEqual({});
  expect(idsOf(stages.read(shards, { deleting: true }))).toEqual({ one: ["a"] });
  expect(idsOf(stages.read(shards, { deleting: false }))).toEqual({});
});
