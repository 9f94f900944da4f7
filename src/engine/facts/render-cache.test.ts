import { expect, test } from "vitest";
import type { Built } from "../../build/build-stage.ts";
import { createRenderCache } from "./render-cache.ts";

function built(bytes: number, unscoped = false): Built {
  const body = new Uint8Array(bytes);
  const controls = { force: false, keepExisting: false, prune: "enabled", reconcile: "enabled", ignored: [] };
  const object = { id: "x", group: "", version: "v1", kind: "ConfigMap", namespace: "a", name: "x", hash: "h", body };
  return { objects: [{ ...object, controls, helmHook: false }], hooks: [], unscoped } as unknown as Built;
}

test("it never holds more than its bytes, the least recently used go first", async () => {
  const cache = createRenderCache({ maxBytes: 14_000 });
  for (const key of ["a", "b", "c"]) await cache.get(key, () => Promise.resolve(built(2_000)));
  expect(cache.peek("a")).toBeDefined();
  await cache.get("d", () => Promise.resolve(built(2_000)));
  expect(cache.peek("b")).toBeUndefined();
  expect(cache.peek("a")).toBeDefined();
  await cache.get("huge", () => Promise.resolve(built(20_000)));
  expect(cache.peek("huge")).toBeUndefined();
});

test("what a StageSet that is gone had is forgotten, and nothing else", async () => {
  const cache = createRenderCache({ maxBytes: 14_000 });
  for (const key of ["u1 a", "u1 b", "u12 a"]) await cache.get(key, () => Promise.resolve(built(2_000)));
  cache.release("u1");
  expect(["u1 a", "u1 b", "u12 a"].map((key) => cache.peek(key) !== undefined)).toEqual([false, false, true]);
  await cache.get("u2 a", () => Promise.resolve(built(2_000)));
  await cache.get("u2 b", () => Promise.resolve(built(2_000)));
  expect(cache.peek("u12 a")).toBeDefined();
});

test("concurrent builds of one key are one, and what depends on kinds not served yet is built again", async () => {
  const cache = createRenderCache({ maxBytes: 10_000 });
  let builds = 0;
  const build = (): Promise<Built> => {
    builds++;
    return Promise.resolve(built(10, true));
  };
  await Promise.all([cache.get("a", build), cache.get("a", build)]);
  expect(builds).toBe(1);
  await cache.get("a", build);
  expect(builds).toBe(2);
});

test("a failed build is not kept", async () => {
  const cache = createRenderCache({ maxBytes: 10_000 });
  await expect(cache.get("a", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
  await expect(cache.get("a", () => Promise.resolve(built(1)))).resolves.toBeDefined();
});

test("what is built ahead is kept for those who come later, and nobody waits for it", async () => {
  const cache = createRenderCache({ maxBytes: 10_000 });
  const slow = Promise.withResolvers<Built>();
  const ahead = cache.getAhead("a", () => slow.promise);
  const own = built(1);
  expect(await cache.get("a", () => Promise.resolve(own))).toBe(own);
  slow.resolve(built(2));
  await ahead;
  expect(cache.peek("a")).toBe(own);
  await cache.getAhead("b", () => Promise.resolve(built(3)));
  expect(cache.peek("b")).toBeDefined();
  await cache.getAhead("b", () => Promise.reject(new Error("it is kept")));
  await cache.getAhead("c", () => Promise.resolve(built(3, true)));
  expect(cache.peek("c")).toBeUndefined();
});
