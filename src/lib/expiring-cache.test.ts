import { expect, test } from "vitest";
import { createManualClock } from "./clock.ts";
import { createExpiringCache } from "./expiring-cache.ts";

test("an answer is asked for once while it is kept and while it is on its way, and again afterwards", async () => {
  const clock = createManualClock();
  const cache = createExpiringCache<number>({ clock, most: 10 });
  let asked = 0;
  const load = () => Promise.resolve({ value: ++asked, forMs: 1_000 });
  expect(await Promise.all([cache.get("a", load), cache.get("a", load)])).toEqual([1, 1]);
  clock.advance(999);
  expect(await cache.get("a", load)).toBe(1);
  clock.advance(1);
  expect(await cache.get("a", load)).toBe(2);
});

test("a failure reaches all that asked, and is not kept", async () => {
  const cache = createExpiringCache<number>({ clock: createManualClock(), most: 10 });
  await expect(cache.get("a", () => Promise.reject(new Error("down")))).rejects.toThrow("down");
  expect(await cache.get("a", () => Promise.resolve({ value: 7, forMs: 1 }))).toBe(7);
});

test("no more than so many are kept, the newest", async () => {
  const cache = createExpiringCache<string>({ clock: createManualClock(), most: 2 });
  for (const key of ["a", "b", "c"]) await cache.get(key, () => Promise.resolve({ value: key, forMs: 1_000 }));
  expect(cache.size).toBe(2);
  expect(await cache.get("c", () => Promise.resolve({ value: "anew", forMs: 1_000 }))).toBe("c");
  expect(await cache.get("a", () => Promise.resolve({ value: "anew", forMs: 1_000 }))).toBe("anew");
});
