import type { KubeObject } from "../lib/kube-object.ts";
import type { ResourceCache } from "../kube/cache.ts";
import { inventoryStageSetLabel, stageLabel } from "../api/keys.ts";
import { createFreshest } from "./freshest.ts";
import { createOwnWrites } from "./own-writes.ts";

/** StageInventory shards by StageSet, never older than our own last write. */
export interface InventoryStore extends Disposable {
  /** The same array while nothing changed. */
  shards(namespace: string, stageSet: string): readonly KubeObject[];
  /** Those of one stage. */
  shardsOf(stageSet: { readonly namespace: string; readonly name: string }, stage: string): readonly KubeObject[];
  /**
   * Shards that somebody else deleted, as they last were, while their StageSet exists: the deletion of a namespace or
   * a cascade takes them before the StageSet (spec 20 §12.3).
   */
  lastSeen(namespace: string, stageSet: string): readonly KubeObject[];
  note(shard: KubeObject): void;
  /** We deleted it. */
  noteDeleted(shard: KubeObject): void;
  /** It is gone, and not by us; or what is left of one that is in {@link InventoryStore.lastSeen}. */
  noteMissing(shard: KubeObject): void;
  /** Writes of ours for one StageSet are under way until this is disposed; each must be noted before. */
  writing(namespace: string, stageSet: string): Disposable;
  /** Calls back if somebody else left the shard so; a state seen before the answer to a write of ours is judged after it. */
  judge(shard: KubeObject, foreign: () => void): void;
}

export function createInventoryStore(
  cache: ResourceCache<KubeObject>,
  stageSets: Pick<ResourceCache<KubeObject>, "get" | "subscribe">,
): InventoryStore {
  const freshest = createFreshest(cache);
  /** Names of shards by StageSet, by stage: a StageSet may have thousands, and each write concerns a stage. */
  const names = new Map<string, Map<string, Set<string>>>();
  const listed = new Map<string, readonly KubeObject[]>();
  const own = createOwnWrites();
  const lost = new Map<string, Map<string, KubeObject>>();
  const isOwnWrite = (shard: KubeObject): boolean =>
    own.has(shard.metadata.resourceVersion ?? "") || own.has(`deleted ${shard.metadata.uid ?? ""}`);
  const keyOf = (shard: KubeObject): string =>
    `${shard.metadata.namespace ?? ""}/${shard.metadata.labels?.[inventoryStageSetLabel] ?? ""}`;
  const stageOf = (shard: KubeObject): string => shard.metadata.labels?.[stageLabel] ?? "";
  const add = (shard: KubeObject): void => {
    const key = keyOf(shard);
    const stages = names.get(key) ?? new Map<string, Set<string>>();
    names.set(key, stages);
    stages.set(stageOf(shard), (stages.get(stageOf(shard)) ?? new Set()).add(shard.metadata.name));
    listed.delete(key);
    lost.get(key)?.delete(shard.metadata.name);
  };
  const lose = (shard: KubeObject): void => {
    const { namespace = "", name, labels, ownerReferences } = shard.metadata;
    const owner = stageSets.get(namespace, labels?.[inventoryStageSetLabel] ?? "");
    if (owner === undefined || !ownerReferences?.some(({ uid }) => uid === owner.metadata.uid)) return;
    const key = keyOf(shard);
    lost.set(key, (lost.get(key) ?? new Map<string, KubeObject>()).set(name, shard));
  };
  const afterWrites = (shard: KubeObject, run: () => void): void => own.after(keyOf(shard), run);
  for (const shard of cache.list()) add(shard);
  const subscription = cache.subscribe((change) => {
    if (change.type !== "deleted") {
      add(change.object);
      return;
    }
    const key = keyOf(change.object);
    const stages = names.get(key);
    const known = stages?.get(stageOf(change.object));
    known?.delete(change.name);
    if (known?.size === 0) stages?.delete(stageOf(change.object));
    if (stages?.size === 0) names.delete(key);
    listed.delete(key);
    afterWrites(change.object, () => {
      if (!own.has(`deleted ${change.object.metadata.uid ?? ""}`)) lose(change.object);
    });
  });
  const owners = stageSets.subscribe((change) => {
    if (change.type === "deleted") lost.delete(`${change.namespace}/${change.name}`);
  });
  return {
    shards(namespace, stageSet) {
      const key = `${namespace}/${stageSet}`;
      const before = listed.get(key);
      if (before !== undefined) return before;
      const known = [...(names.get(key)?.values() ?? [])].flatMap((each) => [...each]);
      const shards = known.flatMap((name) => freshest.get(namespace, name) ?? []);
      if (shards.length > 0) listed.set(key, shards);
      return shards;
    },
    shardsOf({ namespace, name }, stage) {
      const known = names.get(`${namespace}/${name}`)?.get(stage) ?? [];
      return [...known].flatMap((shard) => freshest.get(namespace, shard) ?? []);
    },
    lastSeen: (namespace, stageSet) => [...(lost.get(`${namespace}/${stageSet}`)?.values() ?? [])],
    note(shard) {
      freshest.note(shard);
      add(shard);
      own.remember(shard.metadata.resourceVersion ?? "");
    },
    noteDeleted(shard) {
      freshest.noteDeleted(shard);
      listed.delete(keyOf(shard));
      own.remember(`deleted ${shard.metadata.uid ?? ""}`);
    },
    noteMissing(shard) {
      freshest.noteDeleted(shard);
      listed.delete(keyOf(shard));
      lose(shard);
    },
    writing: (namespace, stageSet) => own.writing(`${namespace}/${stageSet}`),
    judge(shard, foreign) {
      afterWrites(shard, () => {
        if (!isOwnWrite(shard)) foreign();
      });
    },
    [Symbol.dispose]: () => {
      subscription[Symbol.dispose]();
      owners[Symbol.dispose]();
      freshest[Symbol.dispose]();
    },
  };
}
