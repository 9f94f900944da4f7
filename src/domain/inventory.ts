import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import {
  inventoryShardLabel,
  inventoryStageSetLabel,
  serviceAccountAnnotation,
  stageLabel,
  targetAnnotation,
} from "../api/keys.ts";
import { apiVersion } from "../api/group.ts";
import { deepEqual } from "../lib/equal.ts";
import { asArray, asNumber, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { parseObjectId } from "./object-id.ts";
import type { RecordedEntry, RecordedStage } from "./pass/state.ts";

/** Entries of one shard in bytes of JSON, at most: an object must fit etcd's request limit (spec 20 §8.1). */
const largestShardBytes = 1_000_000;
const longestName = 253;

/** An inventory entry that cannot be read: skipped, never fatal (spec 10 §7). */
export interface SkippedEntry {
  readonly stage: string;
  readonly shard: string;
  readonly id: string;
}

export interface StageRecord {
  readonly stageSet: string;
  readonly uid: string;
  readonly namespace: string;
  readonly stage: string;
  readonly stagePosition: number;
  readonly entries: readonly RecordedEntry[];
  /** Entries per shard, at most. */
  readonly shardCap: number;
  /** Recorded on each shard; undefined: applied as the controller. */
  readonly serviceAccount: string | undefined;
  /** Recorded on shard 0: `local` or the kubeConfig reference. */
  readonly target: string;
}

/** What has to be written, in this order, so that no id is ever missing from all shards. */
export interface ShardPlan {
  readonly create: readonly KubeObject[];
  readonly update: readonly KubeObject[];
  readonly delete: readonly KubeObject[];
}

/** The StageInventory objects of one stage as they should be, against those that exist (spec 10 §7). */
export function planShards(record: StageRecord, existing: readonly KubeObject[]): ShardPlan {
  const byName = new Map(existing.map((shard) => [shard.metadata.name, shard]));
  const create: KubeObject[] = [];
  const update = new Map<number, ShardUpdate>();
  const shards = cut(record);
  for (const [index, entries] of shards.entries()) {
    const name = shardName(record.stageSet, record.stage, index);
    const before = byName.get(name);
    byName.delete(name);
    const wanted = shardObject(record, { name, index, entries, before });
    if (before === undefined) create.push(wanted);
    else if (!sameContent(before, wanted)) update.set(index, { before, wanted });
  }
  return { create, update: takersFirst(shards, update), delete: [...byName.values()] };
}

interface ShardUpdate {
  readonly before: KubeObject;
  readonly wanted: KubeObject;
}

/**
 * A shard that takes an id from another is written before that one, so that a crash in between loses none. There is
 * always such an order: ids are sorted, so if one crosses a boundary between shards upwards, none crosses it downwards.
 */
function takersFirst(
  shards: readonly (readonly RecordedEntry[])[],
  updates: ReadonlyMap<number, ShardUpdate>,
): readonly KubeObject[] {
  if (updates.size < 2) return [...updates.values()].map(({ wanted }) => wanted);
  const takers = new Map(shards.flatMap((entries, index) => entries.map(({ id }) => [id, index] as const)));
  const ordered = new Map<number, KubeObject>();
  const visited = new Set<number>();
  const visit = (index: number): void => {
    const update = updates.get(index);
    if (update === undefined || visited.has(index)) return;
    visited.add(index);
    for (const entry of asArray(at(update.before, "spec", "entries"))) {
      const taker = takers.get(asText(at(entry, "id")) ?? "");
      if (taker !== undefined) visit(taker);
    }
    ordered.set(index, update.wanted);
  };
  for (const index of updates.keys()) visit(index);
  return [...ordered.values()];
}

/** The name of a shard; existing installations find their shards by it. */
export function shardName(stageSet: string, stage: string, index: number): string {
  const input = `${utf8ToBytes(stageSet).length}/${stageSet}/${utf8ToBytes(stage).length}/${stage}/${index}`;
  const hash = bytesToHex(sha256(utf8ToBytes(input))).slice(0, 10);
  const readable = `${stageSet}-${stage}-${String(index).padStart(2, "0")}`;
  return `${readable.slice(0, longestName - hash.length - 1).replace(/-+$/, "")}-${hash}`;
}

/** Entries in order of their ids, in runs that fit a shard; at least one run, which may be empty. */
function cut({ entries, shardCap }: StageRecord): readonly (readonly RecordedEntry[])[] {
  const sorted = [...entries].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  const shards: RecordedEntry[][] = [[]];
  let bytes = 0;
  for (const entry of sorted) {
    const size = utf8ToBytes(entry.id).length + entry.version.length + 20;
    const last = shards.at(-1);
    if (last === undefined || last.length >= shardCap || (last.length > 0 && bytes + size > largestShardBytes)) {
      shards.push([entry]);
      bytes = size;
    } else {
      last.push(entry);
      bytes += size;
    }
  }
  return shards;
}

function shardObject(
  record: StageRecord,
  shard: {
    readonly name: string;
    readonly index: number;
    readonly entries: readonly RecordedEntry[];
    readonly before: KubeObject | undefined;
  },
): KubeObject {
  const { before } = shard;
  const { [serviceAccountAnnotation]: _account, ...foreignAnnotations } = before?.metadata.annotations ?? {};
  const annotations = {
    ...foreignAnnotations,
    ...(record.serviceAccount === undefined ? {} : { [serviceAccountAnnotation]: record.serviceAccount }),
    ...(shard.index === 0 ? { [targetAnnotation]: record.target } : {}),
  };
  return {
    apiVersion,
    kind: "StageInventory",
    metadata: {
      name: shard.name,
      namespace: record.namespace,
      ...(before?.metadata.uid === undefined ? {} : { uid: before.metadata.uid }),
      ...(before?.metadata.resourceVersion === undefined ? {} : { resourceVersion: before.metadata.resourceVersion }),
      labels: {
        ...before?.metadata.labels,
        [inventoryStageSetLabel]: record.stageSet,
        [stageLabel]: record.stage,
        [inventoryShardLabel]: String(shard.index),
      },
      annotations,
      ownerReferences: [
        {
          apiVersion,
          kind: "StageSet",
          name: record.stageSet,
          uid: record.uid,
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
    },
    spec: {
      stagePosition: record.stagePosition,
      entries: shard.entries.map((entry) => ({ id: entry.id, v: shortVersion(entry.version) })),
    },
  };
}

function sameContent(before: KubeObject, wanted: KubeObject): boolean {
  return (
    deepEqual(before["spec"], wanted["spec"]) &&
    deepEqual(before.metadata.labels ?? {}, wanted.metadata.labels) &&
    deepEqual(before.metadata.annotations ?? {}, wanted.metadata.annotations) &&
    deepEqual(before.metadata.ownerReferences ?? [], wanted.metadata.ownerReferences)
  );
}

/**
 * What is recorded, by stage; older inventories spell a version `apps/v1`, which means `v1`. A shard that is being
 * deleted counts only when its StageSet is, too: else it is about to be lost.
 */
export function readInventory(
  shards: readonly KubeObject[],
  { terminating = "lost" }: { readonly terminating?: "lost" | "counted" } = {},
): {
  readonly byStage: ReadonlyMap<string, RecordedStage>;
  readonly skipped: readonly SkippedEntry[];
} {
  const byStage = new Map<string, RecordedStage>();
  const skipped: SkippedEntry[] = [];
  const known = new Map<string, Set<string>>();
  for (const shard of [...shards].sort(byShardIndex)) {
    const stage = shard.metadata.labels?.[stageLabel];
    if (stage === undefined) continue;
    if (shard.metadata.deletionTimestamp !== undefined && terminating === "lost") continue;
    const before = byStage.get(stage);
    const seen = known.get(stage) ?? new Set<string>();
    known.set(stage, seen);
    const entries: RecordedEntry[] = [];
    for (const entry of asArray(at(shard, "spec", "entries"))) {
      const id = asText(at(entry, "id")) ?? "";
      if (parseObjectId(id) === undefined) skipped.push({ stage, shard: shard.metadata.name, id });
      // An id that was on its way from one shard to another is in both.
      else if (!seen.has(id)) entries.push({ id, version: shortVersion(asText(at(entry, "v")) ?? "") });
      seen.add(id);
    }
    byStage.set(stage, {
      stage,
      position: before?.position ?? asNumber(at(shard, "spec", "stagePosition")) ?? 0,
      entries: before === undefined ? entries : [...before.entries, ...entries],
      shards: (before?.shards ?? 0) + 1,
      serviceAccount: before?.serviceAccount ?? shard.metadata.annotations?.[serviceAccountAnnotation],
      target: before?.target ?? shard.metadata.annotations?.[targetAnnotation],
    });
  }
  return { byStage, skipped };
}

function byShardIndex(a: KubeObject, b: KubeObject): number {
  const indexOf = (shard: KubeObject): number => Number(shard.metadata.labels?.[inventoryShardLabel] ?? "0");
  return indexOf(a) - indexOf(b) || (a.metadata.name < b.metadata.name ? -1 : 1);
}

function shortVersion(version: string): string {
  return version.slice(version.lastIndexOf("/") + 1);
}
