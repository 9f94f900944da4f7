import type { KubeError } from "./error.ts";

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

/**
 * `unsynced`: not every namespace was listed to its end yet. `stale`: a watch is down for 10 s, or silent (no event, no
 * bookmark) for 120 s (spec 40 §8.2).
 */
export type CacheHealth = "unsynced" | "fresh" | "stale";

/** The objects of one kind as one identity sees them, kept by watches until disposed. */
export interface ResourceCache<T> extends AsyncDisposable {
  get(namespace: string, name: string): T | undefined;
  entry(namespace: string, name: string): CacheEntry<T> | undefined;
  list(): readonly T[];
  readonly size: number;
  /** Every namespace was really listed once. */
  readonly synced: boolean;
  /** @throws the signal's reason, when it aborts first */
  whenSynced(signal: AbortSignal): Promise<void>;
  health(): CacheHealth;
  /** Why the last list or watch failed; undefined while all is well. */
  problem(): KubeError | undefined;
  /** Changes from now on, in order; state before is in {@link ResourceCache.list}. A listener that throws is logged. */
  subscribe(listener: (change: CacheChange<T>) => void): Disposable;
}
