import { expect, test } from "vitest";
import { createLadderAhead } from "./ladder-ahead.ts";

test("ladders are looked at ahead one at a time, and each StageSet waits once", async () => {
  const ahead = createLadderAhead();
  const { signal } = new AbortController();
  const looked: string[] = [];
  let running = 0;
  let most = 0;
  const gates = new Map<string, () => void>();
  const look = (name: string) => async (): Promise<void> => {
    most = Math.max(most, ++running);
    looked.push(name);
    await new Promise<void>((resolve) => gates.set(name, resolve));
    running--;
    if (name === "b") throw new Error("unread");
  };
  const runs = ["a", "b", "c"].map((name) => ahead.run(name, look(name), signal));
  const failed = expect(runs[1]).rejects.toThrow("unread");
  expect(await ahead.run("b", look("b"), signal)).toBe(false);
  for (const name of ["a", "b", "c"]) {
    await expect.poll(() => gates.has(name)).toBe(true);
    gates.get(name)?.();
  }
  await failed;
  expect(await Promise.all([runs[0], runs[2]])).toEqual([true, true]);
  expect([looked, most]).toEqual([["a", "b", "c"], 1]);
});

test("one that waits ends with its StageSet's passes", async () => {
  const ahead = createLadderAhead();
  const stop = new AbortController();
  const done = Promise.withResolvers<undefined>();
  const first = ahead.run("a", () => done.promise, new AbortController().signal);
  const second = ahead.run("b", () => Promise.reject(new Error("it looks all the same")), stop.signal);
  stop.abort(new Error("gone"));
  await expect(second).rejects.toThrow("gone");
  done.resolve(undefined);
  expect(await first).toBe(true);
  expect(await ahead.run("b", () => Promise.resolve(), new AbortController().signal)).toBe(true);
});
