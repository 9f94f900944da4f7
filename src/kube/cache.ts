import { linkSignals } from "../lib/abort.ts";
import { abortable } from "../lib/abortable.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { type Random, systemRandom } from "../lib/random.ts";
import { type Logger, silentLogger } from "../lib/telemetry.ts";
import type { KubeClient } from "./client.ts";
import type { KubeError } from "./error.ts";
import { type CacheChange, type CacheEntry, createObjectStore } from "./object-store.ts";
import type { ApiResource } from "./request.ts";
import { runWatch, silentAfterMs, type WatchPulse } from "./watch.ts";

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

/** A watch that is down for this long makes the cache stale (spec 40 §8.2). */
const staleAfterMs = 10_000;

export interface CacheOptions<T> {
  readonly client: KubeClient;
  readonly resource: ApiResource;
  /** One watch for each; absent: one for all namespaces. */
  readonly namespaces?: readonly string[] | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** Only metadata is sent and given to `project`. */
  readonly metadataOnly?: boolean | undefined;
  /** What is kept of an object; called once per change. An object it throws on is held as absent, and logged. */
  readonly project: (object: KubeObject) => T;
  readonly clock?: Clock | undefined;
  readonly random?: Random | undefined;
  readonly logger?: Logger | undefined;
  /** Each failed attempt to list or watch. */
  readonly onFailure?: ((error: KubeError) => void) | undefined;
}

/** Starts at once; disposing ends the watches and waits for them. */
export function startCache<T>(options: CacheOptions<T>): ResourceCache<T> {
  const clock = options.clock ?? systemClock;
  const logger = options.logger ?? silentLogger;
  const what = { resource: `${options.resource.plural}.${options.resource.group}` };
  const store = createObjectStore<T>({ project: options.project, logger: logger.with(what) });
  const stopped = linkSignals();
  const synced = Promise.withResolvers<undefined>();
  const scopes = options.namespaces === undefined ? [undefined] : [...new Set(options.namespaces)];
  const watches = scopes.map((namespace) => {
    const scope: Scope = {
      pulse: { downSince: clock.monotonic(), heardAt: clock.monotonic() },
      listed: false,
      problem: undefined,
    };
    const held = store.scope(namespace);
    const run = runWatch(
      {
        ...options,
        namespace,
        clock,
        random: options.random ?? systemRandom,
        apply: (effect) => {
          held(effect);
          if (effect.kind !== "commit") return;
          scope.listed = true;
          if (watches.every((watch) => watch.scope.listed)) synced.resolve(undefined);
        },
        onFailure: (error) => {
          if (error.reason !== "Gone" && scope.problem?.reason !== error.reason) {
            logger.warn("watch failed; trying again", {
              ...what,
              ...(namespace === undefined ? {} : { namespace }),
              error,
            });
          }
          scope.problem = error;
          options.onFailure?.(error);
        },
        onOpen: () => {
          scope.problem = undefined;
        },
      },
      scope.pulse,
      stopped.signal,
    );
    return { scope, run };
  });
  const health = (): CacheHealth => {
    if (!watches.every(({ scope }) => scope.listed)) return "unsynced";
    return watches.some(({ scope }) => isStale(scope.pulse, clock.monotonic())) ? "stale" : "fresh";
  };
  if (scopes.length === 0) synced.resolve(undefined);
  return {
    ...store.view,
    get size() {
      return store.view.list().length;
    },
    get synced() {
      return watches.every(({ scope }) => scope.listed);
    },
    whenSynced: async (signal) => {
      await abortable(synced.promise, signal);
    },
    health,
    problem: () => watches.find(({ scope }) => scope.problem !== undefined)?.scope.problem,
    async [Symbol.asyncDispose]() {
      stopped.abort(new CacheClosed("the cache is closed"));
      for (const result of await Promise.allSettled(watches.map(({ run }) => run))) {
        if (result.status === "rejected" && !(result.reason instanceof CacheClosed)) throw result.reason;
      }
    },
  };
}

class CacheClosed extends Error {
  override name = "CacheClosed";
}

interface Scope {
  readonly pulse: WatchPulse;
  listed: boolean;
  problem: KubeError | undefined;
}

function isStale(pulse: WatchPulse, now: number): boolean {
  return (
    (pulse.downSince !== undefined && now - pulse.downSince >= staleAfterMs) || now - pulse.heardAt >= silentAfterMs
  );
}
