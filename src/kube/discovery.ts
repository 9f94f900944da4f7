import { abortable } from "../lib/abortable.ts";
import type { Clock } from "../lib/clock.ts";
import type { KubeClient } from "./client.ts";
import { aggregatedAccept, type GroupVersion, parseDiscovery, parseResourceList } from "./discovery-parse.ts";
import { isKubeError, KubeError } from "./error.ts";
import type { ApiResource } from "./request.ts";

/** What one cluster serves, cached. */
export interface Discovery {
  /**
   * The kind at the named version, else at the group's preferred one. An unknown kind costs at most one refresh, none
   * when the last was less than 1 s ago.
   *
   * @throws {KubeError} when nothing is cached and the cluster cannot be read
   */
  find(
    kind: { readonly group: string; readonly kind: string; readonly version?: string | undefined },
    o: { readonly signal: AbortSignal },
  ): Promise<ApiResource | undefined>;
  /** The preferred resource of each group that serves a kind of this name. */
  preferredFor(kind: string, o: { readonly signal: AbortSignal }): Promise<readonly ApiResource[]>;
  all(signal: AbortSignal): Promise<readonly ApiResource[]>;
  /** The next look reads anew. */
  invalidate(): void;
}

/** Aggregated API servers that are added or upgraded show within this time even if every kind asked for is known. */
const maxAgeMs = 10 * 60_000;

/** An unknown kind is not looked for again sooner. */
const freshMs = 1000;

/** A server may name what it likes; a large one serves some hundred group versions and some thousand kinds. */
const mostGroupVersions = 1000;
const mostResources = 20_000;
/** Group versions that are read at once. */
const readAtOnce = 8;

interface Snapshot {
  readonly resources: readonly ApiResource[];
  /** By `<group>/<kind>`, the server's order, which is its preference. */
  readonly byKind: ReadonlyMap<string, readonly ApiResource[]>;
  readonly readAt: number;
}

/** Reads nothing until asked. One refresh is in flight at a time, and is not cut short when the first who asked gives up. */
export function createDiscovery({ client, clock }: { readonly client: KubeClient; readonly clock: Clock }): Discovery {
  let snapshot: Snapshot | undefined;
  let refreshing: Promise<Snapshot> | undefined;
  let invalid = false;

  const refresh = (): Promise<Snapshot> => {
    refreshing ??= (async () => {
      const readAt = clock.monotonic();
      invalid = false;
      try {
        snapshot = index(await readResources(client), readAt);
        return snapshot;
      } catch (error) {
        invalid = true;
        throw error;
      } finally {
        refreshing = undefined;
      }
    })();
    return refreshing;
  };
  const current = async (signal: AbortSignal): Promise<Snapshot> => {
    const held = snapshot;
    if (held !== undefined && !invalid && clock.monotonic() - held.readAt < maxAgeMs) return held;
    try {
      return await abortable(refresh(), signal);
    } catch (error) {
      // Kinds rarely vanish: what was known is better than nothing while discovery is down.
      if (held === undefined || signal.aborted) throw error;
      return held;
    }
  };
  /** Looks, and looks again in a fresh reading when nothing was found. */
  const look = async <T>(signal: AbortSignal, pick: (held: Snapshot) => T | undefined): Promise<T | undefined> => {
    const held = await current(signal);
    const found = pick(held);
    if (found !== undefined || clock.monotonic() - held.readAt < freshMs) return found;
    return pick(await abortable(refresh(), signal));
  };
  return {
    find: ({ group, kind, version }, { signal }) =>
      look(signal, (held) =>
        held.byKind.get(`${group}/${kind}`)?.find((resource) => version === undefined || resource.version === version),
      ),
    preferredFor: async (kind, { signal }) => {
      const found = await look(signal, (held) => {
        const first = [...held.byKind.values()]
          .flatMap((list) => list[0] ?? [])
          .filter((resource) => resource.kind === kind);
        return first.length === 0 ? undefined : first;
      });
      return found ?? [];
    },
    all: async (signal) => (await current(signal)).resources,
    invalidate: () => {
      invalid = true;
    },
  };
}

function index(resources: readonly ApiResource[], readAt: number): Snapshot {
  const byKind = new Map<string, ApiResource[]>();
  for (const resource of resources) {
    const key = `${resource.group}/${resource.kind}`;
    const list = byKind.get(key);
    if (list === undefined) byKind.set(key, [resource]);
    else list.push(resource);
  }
  return { resources, byKind, readAt };
}

async function readResources(client: KubeClient): Promise<readonly ApiResource[]> {
  const roots = await Promise.all(["/api", "/apis"].map((path) => readRoot(client, path)));
  return roots.flat();
}

async function readRoot(client: KubeClient, path: string): Promise<readonly ApiResource[]> {
  const answer = parseDiscovery(await client.send({ method: "GET", path, accept: aggregatedAccept }));
  if (answer.kind === "aggregated") {
    refuseMore(answer.resources.length, mostResources, "resources");
    return answer.resources;
  }
  refuseMore(answer.versions.length, mostGroupVersions, "group versions");
  const queue = [...answer.versions.entries()];
  const lists: (readonly ApiResource[])[] = [];
  let found = 0;
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [index, groupVersion] = next;
      const list = await readGroupVersion(client, groupVersion);
      lists[index] = list;
      found += list.length;
      // Whoever is at work stops after the list in hand.
      if (found > mostResources) queue.length = 0;
      refuseMore(found, mostResources, "resources");
    }
  };
  await Promise.all(Array.from({ length: readAtOnce }, worker));
  return lists.flat();
}

async function readGroupVersion(client: KubeClient, { group, version }: GroupVersion): Promise<readonly ApiResource[]> {
  try {
    return parseResourceList(
      await client.send({ method: "GET", path: group === "" ? `/api/${version}` : `/apis/${group}/${version}` }),
    );
  } catch (error) {
    // An aggregated API server that is down takes only its own group away.
    if (isKubeError(error) && group !== "") return [];
    throw error;
  }
}

function refuseMore(count: number, most: number, what: string): void {
  if (count <= most) return;
  throw new KubeError({
    reason: "TooLarge",
    message: `Cannot read what the cluster serves: it has more than ${most} ${what}`,
  });
}
