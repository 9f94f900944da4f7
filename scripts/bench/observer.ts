import type { KubeClient } from "../../src/kube/client.ts";
import { watchObjects } from "../../src/kube/object-watch.ts";
import type { ApiResource } from "../../src/kube/request.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { asArray, asNumber, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";

/** What an outside watch has seen, with its own stamps, monotonic ms. */
export interface Observer extends Disposable {
  /** Resolves when `is` holds for as many objects as expected; with the time of the last one. */
  until(expected: number, is: (object: KubeObject) => boolean): Promise<number>;
  /** First time at which a predicate held for a name. */
  firstSeen(is: (object: KubeObject) => readonly string[]): ReadonlyMap<string, number>;
}

/** Watches a kind in all namespaces from now on. */
export function observe(client: KubeClient, resource: ApiResource): Observer {
  const abort = new AbortController();
  const objects = new Map<string, { readonly object: KubeObject; readonly seenAt: number }>();
  const listeners = new Set<(name: string) => void>();
  const collectors: ((object: KubeObject, at: number) => void)[] = [];
  void watchObjects({
    client,
    resource,
    signal: abort.signal,
    onRefused: () => undefined,
    onEvent: ({ object }) => {
      const now = systemClock.monotonic();
      const name = `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
      objects.set(name, { object, seenAt: now });
      for (const collect of collectors) collect(object, now);
      for (const listener of listeners) listener(name);
    },
  });
  return {
    until(expected, is) {
      const { promise, resolve } = Promise.withResolvers<number>();
      const met = new Map<string, number>();
      // One object per event: the floor of many StageSets waits for each of them at once, and shares the cores with it all.
      const check = (name: string): void => {
        const seen = objects.get(name);
        if (seen === undefined || !is(seen.object)) met.delete(name);
        else if (!met.has(name)) met.set(name, seen.seenAt);
        if (met.size < expected) return;
        listeners.delete(check);
        resolve(Math.max(...met.values()));
      };
      listeners.add(check);
      for (const name of objects.keys()) check(name);
      return promise;
    },
    firstSeen(is) {
      const seen = new Map<string, number>();
      const collect = (object: KubeObject, now: number): void => {
        for (const name of is(object)) if (!seen.has(name)) seen.set(name, now);
      };
      collectors.push(collect);
      return seen;
    },
    [Symbol.dispose]: () => abort.abort(new Error("done")),
  };
}

/** Ready at its generation, with every source at the revision. */
export function isReadyAt(revision: string): (stageSet: KubeObject) => boolean {
  return (stageSet) => {
    const ready = asArray(at(stageSet, "status", "conditions")).find((each) => at(each, "type") === "Ready");
    const applied = at(stageSet, "status", "lastAppliedRevisions");
    return (
      at(ready, "status") === "True" &&
      at(stageSet, "status", "observedGeneration") === stageSet.metadata.generation &&
      typeof applied === "object" &&
      applied !== null &&
      Object.values(applied).every((each) => each === revision)
    );
  };
}

/** All replicas ready at the current generation. */
export function isAvailable(deployment: KubeObject): boolean {
  const replicas = asNumber(at(deployment, "spec", "replicas")) ?? 1;
  const available = asArray(at(deployment, "status", "conditions")).some(
    (each) => at(each, "type") === "Available" && at(each, "status") === "True",
  );
  return (
    available &&
    at(deployment, "status", "observedGeneration") === deployment.metadata.generation &&
    at(deployment, "status", "readyReplicas") === replicas &&
    at(deployment, "status", "updatedReplicas") === replicas
  );
}

export function stagesReady(stageSet: KubeObject): readonly string[] {
  return asArray(at(stageSet, "status", "stages"))
    .filter((stage) => at(stage, "phase") === "Ready")
    .map((stage) => `${stageSet.metadata.name}/${asText(at(stage, "name")) ?? ""}`);
}
