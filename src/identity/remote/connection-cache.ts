import type { Clock } from "../../lib/clock.ts";
import type { RemoteConnection } from "./connection.ts";

/** Connections kept at most, least recently used first out (spec 50 §2.3). */
export const mostConnections = 500;
const idleMs = 30 * 60_000;
const sweepMs = 60_000;

/** What leads to a cluster, and as whom: nothing of a connection is ever shared between two of these. */
export interface ConnectionName {
  readonly namespace: string;
  /** What `spec.kubeConfig` names, and which entry of it. */
  readonly reference: string;
  /** The ServiceAccount of the namespace that uses it; undefined: the controller. */
  readonly account: string | undefined;
}

export interface ConnectionUse {
  /** uid and resourceVersion, so that a namesake is another one. */
  readonly version: string;
  /** The StageSet that uses it. */
  readonly owner: string;
}

/** Connections to remote clusters, of every tenant. Holds no socket open itself. */
export interface ConnectionCache extends Disposable {
  /** The connection for this version of what the reference names. Those for others are retired, of every identity. */
  get(name: ConnectionName, use: ConnectionUse): RemoteConnection | undefined;
  /** Keeps a new one, unless somebody else was quicker, and gives the one to use. */
  add(name: ConnectionName, use: ConnectionUse, connection: RemoteConnection): RemoteConnection;
  /** What is held must not be used any more, if it still is this. */
  drop(name: ConnectionName, connection: RemoteConnection): void;
  /** The StageSet is gone: what it alone used is retired. */
  release(owner: string): void;
  readonly size: number;
}

interface Entry {
  readonly name: ConnectionName;
  readonly version: string;
  readonly connection: RemoteConnection;
  readonly owners: Set<string>;
  usedAt: number;
}

export function createConnectionCache({ clock }: { readonly clock: Clock }): ConnectionCache {
  // In the order of their last use.
  const entries = new Map<string, Entry>();
  /** Keys by namespace and reference, whatever the identity. */
  const ofReference = new Map<string, Set<string>>();
  let sweep: Disposable | undefined;

  const referenceKey = (name: ConnectionName): string => JSON.stringify([name.namespace, name.reference]);
  const keyOf = (name: ConnectionName): string =>
    JSON.stringify([name.namespace, name.reference, name.account ?? null]);
  const remove = (entry: Entry): void => {
    const key = keyOf(entry.name);
    if (entries.get(key) === entry) entries.delete(key);
    const reference = referenceKey(entry.name);
    const keys = ofReference.get(reference);
    keys?.delete(key);
    if (keys?.size === 0) ofReference.delete(reference);
    entry.connection.retire();
  };
  const removeIdle = (): void => {
    sweep = undefined;
    for (const entry of entries.values()) {
      if (clock.monotonic() - entry.usedAt < idleMs) break;
      remove(entry);
    }
    if (entries.size > 0) sweep = clock.timer(sweepMs, removeIdle);
  };
  const get = (name: ConnectionName, { version, owner }: ConnectionUse): RemoteConnection | undefined => {
    for (const other of ofReference.get(referenceKey(name)) ?? []) {
      const entry = entries.get(other);
      if (entry !== undefined && entry.version !== version) remove(entry);
    }
    const key = keyOf(name);
    const known = entries.get(key);
    if (known === undefined) return undefined;
    known.owners.add(owner);
    known.usedAt = clock.monotonic();
    entries.delete(key);
    entries.set(key, known);
    return known.connection;
  };
  return {
    get,
    add(name, use, connection) {
      const known = get(name, use);
      if (known !== undefined) {
        connection.retire();
        return known;
      }
      const { version, owner } = use;
      entries.set(keyOf(name), { name, version, connection, owners: new Set([owner]), usedAt: clock.monotonic() });
      const reference = referenceKey(name);
      ofReference.set(reference, (ofReference.get(reference) ?? new Set()).add(keyOf(name)));
      for (const oldest of entries.values()) {
        if (entries.size <= mostConnections) break;
        remove(oldest);
      }
      sweep ??= clock.timer(sweepMs, removeIdle);
      return connection;
    },
    drop(name, connection) {
      const entry = entries.get(keyOf(name));
      if (entry?.connection === connection) remove(entry);
    },
    release(owner) {
      for (const entry of entries.values()) if (entry.owners.delete(owner) && entry.owners.size === 0) remove(entry);
    },
    get size() {
      return entries.size;
    },
    [Symbol.dispose]() {
      sweep?.[Symbol.dispose]();
      for (const entry of entries.values()) entry.connection.retire();
      entries.clear();
      ofReference.clear();
    },
  };
}
