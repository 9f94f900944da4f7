import type { KubeObject } from "../lib/kube-object.ts";
import type { ResourceCache } from "../kube/cache.ts";
import type { CacheChange } from "../kube/object-store.ts";
import { isOlderVersion } from "../kube/resource-version.ts";

/**
 * Objects as the API server last told us, by watch or by answering our own write, whichever is newer: a pass never
 * works on something older than the controller's own last write (spec 20 step 1).
 */
export interface Freshest extends Disposable {
  get(namespace: string, name: string): KubeObject | undefined;
  /** The answer to a write of ours. */
  note(object: KubeObject): void;
  /** A delete of ours that the API server acknowledged. */
  noteDeleted(object: KubeObject): void;
}

/** True when `a` is at least as new as `b`. */
export function atLeastAsNew(a: KubeObject, b: KubeObject): boolean {
  return !isOlderVersion(a.metadata.resourceVersion ?? "0", b.metadata.resourceVersion ?? "0");
}

/** Keeps own writes only until the cache has caught up with them. */
export function createFreshest(cache: ResourceCache<KubeObject>): Freshest {
  const written = new Map<string, KubeObject>();
  const deleted = new Map<string, string>();
  const keyOf = (namespace: string, name: string): string => `${namespace}/${name}`;
  const subscription = cache.subscribe((change: CacheChange<KubeObject>) => {
    const key = keyOf(change.namespace, change.name);
    const own = written.get(key);
    if (own !== undefined && (change.type === "deleted" || atLeastAsNew(change.object, own))) written.delete(key);
    if (change.type === "deleted" || deleted.get(key) !== change.object.metadata.uid) deleted.delete(key);
  });
  return {
    get(namespace, name) {
      const key = keyOf(namespace, name);
      const cached = cache.get(namespace, name);
      if (cached !== undefined && cached.metadata.uid === deleted.get(key)) return undefined;
      const own = written.get(key);
      if (own === undefined) return cached;
      return cached !== undefined && atLeastAsNew(cached, own) ? cached : own;
    },
    note(object) {
      const key = keyOf(object.metadata.namespace ?? "", object.metadata.name);
      const cached = cache.get(object.metadata.namespace ?? "", object.metadata.name);
      if (cached === undefined || !atLeastAsNew(cached, object)) written.set(key, object);
    },
    noteDeleted(object) {
      const key = keyOf(object.metadata.namespace ?? "", object.metadata.name);
      written.delete(key);
      if (object.metadata.uid !== undefined) deleted.set(key, object.metadata.uid);
    },
    [Symbol.dispose]: () => subscription[Symbol.dispose](),
  };
}
