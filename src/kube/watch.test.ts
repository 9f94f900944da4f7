import fc from "fast-check";
import { expect, test } from "vitest";
import type { KubeObject } from "../lib/kube-object.ts";
import { silentLogger } from "../lib/telemetry.ts";
import { KubeError } from "./error.ts";
import { createObjectStore } from "./object-store.ts";
import { backoffMs } from "./watch.ts";
import { parsePage, parseWatchEvent, startOfWatch, stepWatch, type WatchPosition } from "./watch-step.ts";

const resource = { group: "", version: "v1", kind: "ConfigMap", plural: "configmaps", namespaced: true, verbs: [] };

interface Change {
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: KubeObject;
  readonly version: number;
}

function configMap(name: string, version: number): KubeObject {
  const metadata = { name, namespace: "a", uid: `u-${name}`, resourceVersion: String(version) };
  return { apiVersion: "v1", kind: "ConfigMap", metadata, value: version };
}

/** A server that keeps its history, and forgets it when told to. */
function createServer() {
  const objects = new Map<string, KubeObject>();
  let history: Change[] = [];
  let version = 1;
  let oldest = 1;
  return {
    objects,
    write(name: string, action: "set" | "delete") {
      const present = objects.has(name);
      if (action === "delete" && !present) return;
      version++;
      const object = configMap(name, version);
      const type = action === "delete" ? "DELETED" : present ? "MODIFIED" : "ADDED";
      if (action === "delete") objects.delete(name);
      else objects.set(name, object);
      history.push({ type, object, version });
    },
    forget() {
      history = [];
      oldest = version;
    },
    snapshot: () => ({ version, objects: [...objects.values()] }),
    changesAfter: (from: number): readonly Change[] | undefined =>
      from < oldest ? undefined : history.filter((change) => change.version > from),
    version: () => version,
  };
}

const gone = new KubeError({ reason: "Gone", message: "too old", httpStatus: 410 });
const lost = new KubeError({ reason: "Unreachable", message: "lost" });

const action = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      name: fc.constantFrom("p", "q", "r", "s", "t"),
      action: fc.constantFrom("set" as const, "delete" as const),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("deliver" as const), count: fc.integer({ min: 0, max: 4 }) }) },
  { weight: 2, arbitrary: fc.constant({ kind: "cut" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "forget" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "bookmark" as const }) },
);

test("any split of a list, cut stream, lost page token or forgotten version gives the same objects", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), fc.integer({ min: 1, max: 3 }), (actions, pageSize) => {
      const server = createServer();
      const store = createObjectStore({ project: (object) => object, logger: silentLogger });
      const mirror = new Map<string, KubeObject>();
      store.view.subscribe((change) => {
        expect(change.previous).toBe(mirror.get(change.name));
        expect(change.type).toBe(
          change.previous === undefined ? "added" : change.type === "added" ? "updated" : change.type,
        );
        if (change.type === "deleted") mirror.delete(change.name);
        else mirror.set(change.name, change.object);
      });
      const apply = store.scope(undefined);
      let position: WatchPosition = startOfWatch;
      let pages: { readonly version: number; readonly objects: readonly KubeObject[] } | undefined;
      const feed = (input: Parameters<typeof stepWatch>[1]): void => {
        const step = stepWatch(position, input);
        for (const effect of step.effects) apply(effect);
        position = step.position;
      };
      const page = (): void => {
        if (position.kind !== "list") return;
        if (position.page === undefined) pages = server.snapshot();
        if (pages === undefined) {
          feed({ kind: "failed", error: gone });
          return;
        }
        const from = Number(position.page ?? 0);
        const to = position.whole ? Infinity : from + pageSize;
        feed({
          kind: "page",
          items: pages.objects.slice(from, to),
          resourceVersion: String(pages.version),
          ...(to < pages.objects.length ? { continue: String(to) } : {}),
        });
      };
      const deliver = (count: number): void => {
        for (let i = 0; i < count; i++) {
          if (position.kind === "list") {
            page();
            continue;
          }
          const changes = server.changesAfter(Number(position.resourceVersion));
          if (changes === undefined) {
            feed({ kind: "event", event: { type: "ERROR", error: gone } });
            continue;
          }
          const [change] = changes;
          if (change !== undefined) feed({ kind: "event", event: change });
        }
      };
      for (const next of actions) {
        if (next.kind === "write") server.write(next.name, next.action);
        else if (next.kind === "deliver") deliver(next.count);
        else if (next.kind === "cut") feed({ kind: "failed", error: lost });
        else if (next.kind === "forget") {
          server.forget();
          pages = undefined;
        } else if (position.kind === "watch" && server.changesAfter(Number(position.resourceVersion))?.length === 0) {
          feed({ kind: "event", event: { type: "BOOKMARK", resourceVersion: String(server.version()) } });
        }
      }
      deliver(200);
      const sorted = (map: ReadonlyMap<string, KubeObject>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
      expect(sorted(new Map(store.view.list().map((object) => [object.metadata.name, object])))).toEqual(
        sorted(server.objects),
      );
      expect(sorted(mirror)).toEqual(sorted(server.objects));
    }),
    { numRuns: 500 },
  );
});

test("a page token that ran out makes the next list one page", () => {
  const second: WatchPosition = { kind: "list", page: "t", whole: false };
  expect(stepWatch(second, { kind: "failed", error: gone }).position).toEqual({ kind: "list", whole: true });
  expect(stepWatch(second, { kind: "failed", error: lost }).position).toEqual(second);
});

test("a version in the server's future is given up", () => {
  const future = new KubeError({ reason: "Timeout", message: "Too large resource version", httpStatus: 504 });
  expect(stepWatch({ kind: "watch", resourceVersion: "9" }, { kind: "failed", error: future }).position).toEqual(
    startOfWatch,
  );
});

test("list items get the type they come without", () => {
  const page = parsePage(resource, {
    metadata: { resourceVersion: "5", continue: "" },
    items: [{ metadata: { name: "x" } }, 7],
  });
  expect(page.items).toEqual([{ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "x" } }]);
  expect(page).not.toHaveProperty("continue");
});

test("an ERROR event carries the status it holds", () => {
  const value = { type: "ERROR", object: { kind: "Status", code: 410, reason: "Expired", message: "too old" } };
  expect(parseWatchEvent(resource, value)).toMatchObject({ type: "ERROR", error: { reason: "Gone" } });
  expect(parseWatchEvent(resource, { type: "NEW", object: {} })).toBeUndefined();
});

test("backoff grows from 0.5 s to 30 s, and to 3 s for what an install brings", () => {
  const middle = () => 0.5;
  const waits = [1, 2, 3, 8, 50].map((failures) => backoffMs(lost, failures, middle));
  expect(waits).toEqual([500, 1000, 2000, 30_000, 30_000]);
  expect(backoffMs(gone, 1, middle)).toBe(0);
  expect(backoffMs(gone, 2, middle)).toBe(1000);
  expect(backoffMs(new KubeError({ reason: "NotServed", message: "", httpStatus: 404 }), 9, middle)).toBe(3000);
});

test("an object that cannot be read is absent, and a listener that throws stops nobody", () => {
  const store = createObjectStore({
    project: (object) => {
      if (object["value"] === 3) throw new Error("malformed");
      return object.metadata.resourceVersion;
    },
    logger: silentLogger,
  });
  const seen: string[] = [];
  store.view.subscribe(() => {
    throw new Error("listener");
  });
  store.view.subscribe((change) => seen.push(change.type));
  const apply = store.scope("a");
  apply({ kind: "put", object: configMap("x", 2) });
  apply({ kind: "put", object: configMap("x", 3) });
  expect(store.view.get("a", "x")).toBeUndefined();
  expect(seen).toEqual(["added", "deleted"]);
});

test("an event that was overtaken changes nothing, a list does", () => {
  const store = createObjectStore({ project: (object) => object["value"], logger: silentLogger });
  const apply = store.scope("a");
  const x = (version: number, uid = "u-x"): KubeObject => {
    const object = configMap("x", version);
    return { ...object, metadata: { ...object.metadata, uid } };
  };
  apply({ kind: "put", object: x(10) });
  apply({ kind: "put", object: x(9) });
  expect(store.view.get("a", "x")).toBe(10);
  apply({ kind: "put", object: x(12, "another") });
  apply({ kind: "drop", object: x(11) });
  expect(store.view.get("a", "x")).toBe(12);
  apply({ kind: "begin" });
  apply({ kind: "put", object: x(8) });
  apply({ kind: "commit" });
  expect(store.view.get("a", "x")).toBe(8);
  apply({ kind: "drop", object: x(9) });
  expect(store.view.get("a", "x")).toBeUndefined();
});

test("a list of one namespace leaves other namespaces alone", () => {
  const store = createObjectStore({ project: (object) => object.metadata.name, logger: silentLogger });
  const [a, b] = [store.scope("a"), store.scope("b")];
  a({ kind: "put", object: configMap("x", 2) });
  b({ kind: "begin" });
  b({ kind: "commit" });
  expect(store.view.list()).toEqual(["x"]);
  a({ kind: "begin" });
  a({ kind: "commit" });
  expect(store.view.list()).toEqual([]);
});
