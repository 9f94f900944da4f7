import type { KubeObject } from "../lib/kube-object.ts";
import type { Logger } from "../lib/telemetry.ts";
import { isOlderVersion } from "./resource-version.ts";
import type { StoreEffect } from "./watch-step.ts";

/** One change of a cached object. */
export interface CacheChange<T> {
  readonly type: "added" | "updated" | "deleted";
  /** Empty for cluster-scoped kinds. */
  readonly namespace: string;
  readonly name: string;
  /** For `deleted`: the last known state. */
  readonly object: T;
  readonly previous?: T;
}

export interface CacheEntry<T> {
  readonly object: T;
  readonly uid: string;
  readonly resourceVersion: string;
}

/** What is kept of the objects of one kind. */
export interface ObjectStore<T> {
  /** Takes the effects of the watch of one namespace, or of all when undefined. */
  scope(namespace: string | undefined): (effect: StoreEffect) => void;
  readonly view: {
    get(namespace: string, name: string): T | undefined;
    entry(namespace: string, name: string): CacheEntry<T> | undefined;
    list(): readonly T[];
    subscribe(listener: (change: CacheChange<T>) => void): Disposable;
  };
}

interface Held<T> extends CacheEntry<T> {
  readonly namespace: string;
  readonly name: string;
}

export function createObjectStore<T>({
  project,
  logger,
}: {
  readonly project: (object: KubeObject) => T;
  readonly logger: Logger;
}): ObjectStore<T> {
  const held = new Map<string, Held<T>>();
  const listeners = new Set<{ readonly call: (change: CacheChange<T>) => void }>();
  let listed: readonly T[] | undefined;

  const tell = (change: CacheChange<T>): void => {
    listed = undefined;
    for (const listener of listeners) {
      try {
        listener.call(change);
      } catch (error) {
        logger.error("a listener of a watch failed", { error });
      }
    }
  };
  const remove = (entry: Held<T>, last: T): void => {
    held.delete(keyOf(entry.namespace, entry.name));
    const { namespace, name } = entry;
    tell({ type: "deleted", namespace, name, object: last, previous: entry.object });
  };
  const put = (object: KubeObject, by: "list" | "event"): void => {
    const { name, namespace = "", uid = "", resourceVersion = "" } = object.metadata;
    const previous = held.get(keyOf(namespace, name));
    // A list repeats what a watch has brought already.
    if (previous?.uid === uid && previous.resourceVersion === resourceVersion && resourceVersion !== "") return;
    // A list is what the server says now, even when that is older, as after a restore from backup.
    if (by === "event" && isOvertaken(resourceVersion, previous)) return;
    const projected = projectObject(object);
    if (projected === undefined) {
      if (previous !== undefined) remove(previous, previous.object);
      return;
    }
    held.set(keyOf(namespace, name), { object: projected.value, uid, resourceVersion, namespace, name });
    tell(
      previous === undefined
        ? { type: "added", namespace, name, object: projected.value }
        : { type: "updated", namespace, name, object: projected.value, previous: previous.object },
    );
  };
  const projectObject = (object: KubeObject): { readonly value: T } | undefined => {
    try {
      return { value: project(object) };
    } catch (error) {
      const { namespace, name } = object.metadata;
      logger.error("cannot read a watched object", { namespace, name, error });
      return undefined;
    }
  };
  const drop = (object: KubeObject): void => {
    const { name, namespace = "", resourceVersion = "" } = object.metadata;
    const previous = held.get(keyOf(namespace, name));
    if (isOvertaken(resourceVersion, previous)) return;
    if (previous !== undefined) remove(previous, projectObject(object)?.value ?? previous.object);
  };
  return {
    scope: (scopeNamespace) => {
      let seen: Set<string> | undefined;
      return (effect) => {
        switch (effect.kind) {
          case "begin":
            seen = new Set();
            return;
          case "put":
            seen?.add(keyOf(effect.object.metadata.namespace ?? "", effect.object.metadata.name));
            put(effect.object, seen === undefined ? "event" : "list");
            return;
          case "drop":
            drop(effect.object);
            return;
          case "commit":
            for (const [key, entry] of held) {
              const ours = scopeNamespace === undefined || entry.namespace === scopeNamespace;
              if (ours && seen?.has(key) !== true) remove(entry, entry.object);
            }
            seen = undefined;
        }
      };
    },
    view: {
      get: (namespace, name) => held.get(keyOf(namespace, name))?.object,
      entry: (namespace, name) => held.get(keyOf(namespace, name)),
      list: () => (listed ??= [...held.values()].map((entry) => entry.object)),
      subscribe: (call) => {
        const listener = { call };
        listeners.add(listener);
        return { [Symbol.dispose]: () => void listeners.delete(listener) };
      },
    },
  };
}

/** An event older than what is held: if it counted, nothing would come after it to put things right. */
function isOvertaken(resourceVersion: string, held: CacheEntry<unknown> | undefined): boolean {
  return held !== undefined && isOlderVersion(resourceVersion, held.resourceVersion);
}

/** Neither part may hold a slash. */
function keyOf(namespace: string, name: string): string {
  return `${namespace}/${name}`;
}
