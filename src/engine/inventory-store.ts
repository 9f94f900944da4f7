import type { KubeObject } from "../lib/kube-object.ts";
import type { ResourceCache } from "../kube/cache.ts";
import { inventoryStageSetLabel } from "../api/keys.ts";
import { createFreshest } from "./freshest.ts";

/** StageInventory shards by StageSet, never older than our own last write. */
export interface InventoryStore extends Disposable {
  shards(namespace: string, stageSet: string): readonly KubeObject[];
  note(shard: KubeObject): void;
  noteDeleted(shard: KubeObject): void;
  /** Writes of ours for one StageSet are under way until this is disposed; each must be noted before. */
  writing(namespace: string, stageSet: string): Disposable;
  /** Calls back if somebody else left the shard so; a state seen before the answer to a write of ours is judged after it. */
  judge(shard: KubeObject, foreign: () => void): void;
}

/** Own writes remembered for {@link InventoryStore.judge}; a forgotten one costs one needless pass. */
const mostRemembered = 20_000;

export function createInventoryStore(cache: ResourceCache<KubeObject>): InventoryStore {
  const freshest = createFreshest(cache);
  const names = new Map<string, Set<string>>();
  const own = new Set<string>();
  const remember = (mark: string): void => {
    own.add(mark);
    const oldest = own.values().next().value;
    if (own.size > mostRemembered && oldest !== undefined) own.delete(oldest);
  };
  const underWay = new Map<string, { count: number; readonly after: (() => void)[] }>();
  const isOwnWrite = (shard: KubeObject): boolean =>
    own.has(shard.metadata.resourceVersion ?? "") || own.has(`deleted ${shard.metadata.uid ?? ""}`);
  const keyOf = (shard: KubeObject): string =>
    `${shard.metadata.namespace ?? ""}/${shard.metadata.labels?.[inventoryStageSetLabel] ?? ""}`;
  const add = (shard: KubeObject): void => {
    const key = keyOf(shard);
    names.set(key, (names.get(key) ?? new Set()).add(shard.metadata.name));
  };
  for (const shard of cache.list()) add(shard);
  const subscription = cache.subscribe((change) => {
    if (change.type !== "deleted") {
      add(change.object);
      return;
    }
    const key = keyOf(change.object);
    const known = names.get(key);
    known?.delete(change.name);
    if (known?.size === 0) names.delete(key);
  });
  return {
    shards(namespace, stageSet) {
      const known = names.get(`${namespace}/${stageSet}`) ?? new Set<string>();
      return [...known].flatMap((name) => freshest.get(namespace, name) ?? []);
    },
    note(shard) {
      freshest.note(shard);
      add(shard);
      remember(shard.metadata.resourceVersion ?? "");
    },
    noteDeleted(shard) {
      freshest.noteDeleted(shard);
      remember(`deleted ${shard.metadata.uid ?? ""}`);
    },
    writing(namespace, stageSet) {
      const key = `${namespace}/${stageSet}`;
      const writes = underWay.get(key) ?? { count: 0, after: [] };
      underWay.set(key, writes);
      writes.count++;
      return {
        [Symbol.dispose]: () => {
          if (--writes.count > 0) return;
          underWay.delete(key);
          for (const judge of writes.after) judge();
        },
      };
    },
    judge(shard, foreign) {
      const judge = (): void => {
        if (!isOwnWrite(shard)) foreign();
      };
      const writes = underWay.get(keyOf(shard));
      if (writes === undefined) judge();
      else writes.after.push(judge);
    },
    [Symbol.dispose]: () => {
      subscription[Symbol.dispose]();
      freshest[Symbol.dispose]();
    },
  };
}
