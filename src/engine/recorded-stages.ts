import { stageLabel } from "../api/keys.ts";
import { readInventory, type SkippedEntry } from "../domain/inventory.ts";
import type { RecordedStage } from "../domain/pass/state.ts";
import type { KubeObject } from "../lib/kube-object.ts";

/** What is read of one StageSet's shards. */
export interface RecordedStages {
  /**
   * The records by stage. A pass asks before every step, and each write changes a shard or two of perhaps thousands: only
   * stages of which a shard is another object than the last time are read again.
   */
  read(shards: readonly KubeObject[], o: { readonly deleting: boolean }): ReadonlyMap<string, RecordedStage>;
}

interface Known {
  readonly shards: readonly KubeObject[];
  readonly record: RecordedStage | undefined;
}

export function createRecordedStages(onSkipped: (entry: SkippedEntry) => void): RecordedStages {
  let last: { readonly deleting: boolean; readonly shards: readonly KubeObject[] } | undefined;
  let known = new Map<string, Known>();
  let byStage: ReadonlyMap<string, RecordedStage> = new Map();
  return {
    read(shards, { deleting }) {
      if (last?.deleting === deleting && sameObjects(last.shards, shards)) return byStage;
      const before = last?.deleting === deleting ? known : new Map<string, Known>();
      const fresh = new Map<string, Known>();
      const records = new Map<string, RecordedStage>();
      for (const [stage, own] of shardsByStage(shards)) {
        const earlier = before.get(stage);
        const entry = earlier !== undefined && sameObjects(earlier.shards, own) ? earlier : readStage(own, deleting);
        fresh.set(stage, entry);
        if (entry.record !== undefined) records.set(stage, entry.record);
      }
      last = { deleting, shards };
      known = fresh;
      byStage = records;
      return byStage;
    },
  };

  function readStage(shards: readonly KubeObject[], deleting: boolean): Known {
    const { byStage: read, skipped } = readInventory(shards, { terminating: deleting ? "counted" : "lost" });
    for (const entry of skipped) onSkipped(entry);
    return { shards, record: [...read.values()][0] };
  }
}

function shardsByStage(shards: readonly KubeObject[]): ReadonlyMap<string, readonly KubeObject[]> {
  const grouped = new Map<string, KubeObject[]>();
  for (const shard of shards) {
    const stage = shard.metadata.labels?.[stageLabel];
    if (stage === undefined) continue;
    const group = grouped.get(stage);
    if (group === undefined) grouped.set(stage, [shard]);
    else group.push(shard);
  }
  return grouped;
}

function sameObjects(a: readonly KubeObject[], b: readonly KubeObject[]): boolean {
  return a === b || (a.length === b.length && a.every((object, index) => object === b[index]));
}
