import { describe, expect, test } from "vitest";
import type { ResourceCache } from "../kube/cache.ts";
import type { CacheChange } from "../kube/object-store.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { createFreshest } from "./freshest.ts";

function stored(resourceVersion: string, uid = "u"): KubeObject {
  return { apiVersion: "v1", kind: "K", metadata: { namespace: "ns", name: "n", uid, resourceVersion } };
}

/** A cache that shows what it is told. */
function fakeCache() {
  const listeners = new Set<(change: CacheChange<KubeObject>) => void>();
  let held: KubeObject | undefined;
  const cache = {
    get: () => held,
    subscribe: (listener: (change: CacheChange<KubeObject>) => void) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    // The rest of a cache is of no use here.
  } as unknown as ResourceCache<KubeObject>;
  return {
    cache,
    show: (object: KubeObject): void => {
      const type = held === undefined ? "added" : "updated";
      const change = { type, namespace: "ns", name: "n", object, previous: held } as CacheChange<KubeObject>;
      held = object;
      for (const listener of listeners) listener(change);
    },
  };
}

describe("the freshest state of an object", () => {
  test("is never older than our own last write, however far the watch lags behind", () => {
    const { cache, show } = fakeCache();
    using freshest = createFreshest(cache);
    show(stored("8"));
    freshest.note(stored("12"));
    expect(freshest.get("ns", "n")?.metadata.resourceVersion).toBe("12");
    show(stored("9"));
    expect(freshest.get("ns", "n")?.metadata.resourceVersion).toBe("12");
    show(stored("101"));
    expect(freshest.get("ns", "n")?.metadata.resourceVersion).toBe("101");
  });

  test("what we deleted is gone before the watch says so, and a namesake is there", () => {
    const { cache, show } = fakeCache();
    using freshest = createFreshest(cache);
    show(stored("8"));
    freshest.noteDeleted(stored("8"));
    expect(freshest.get("ns", "n")).toBeUndefined();
    show(stored("9", "another"));
    expect(freshest.get("ns", "n")?.metadata.uid).toBe("another");
  });
});
