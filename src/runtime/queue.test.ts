import fc from "fast-check";
import { expect, test } from "vitest";
import { createManualClock } from "../lib/clock.ts";
import { createQueue, type Turn } from "./queue.ts";

/** A queue whose passes end when told to. */
function scene(concurrency: number, mayBegin: () => boolean = () => true) {
  const clock = createManualClock();
  const running = new Map<string, () => void>();
  const turns: Turn<string>[] = [];
  let doubled = false;
  const queue = createQueue<string>({
    clock,
    concurrency,
    mayBegin,
    isOwed: (causes) => causes.has("owed"),
    groupOf: (key) => key.slice(0, key.indexOf("/")),
    run: (turn) => {
      doubled ||= running.has(turn.key);
      turns.push(turn);
      return new Promise((resolve) => running.set(turn.key, resolve));
    },
  });
  const end = async (key: string): Promise<void> => {
    running.get(key)?.();
    running.delete(key);
    for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  };
  return { clock, queue, running, turns, end, keys: () => turns.map((turn) => turn.key), wasDoubled: () => doubled };
}

test("a namespace with many ready passes does not delay another's first one by more than one of its own", async () => {
  const { queue, keys, end } = scene(2);
  for (let index = 0; index < 10; index++) queue.add(`busy/${index}`, "spec");
  queue.add("quiet/only", "spec");
  expect(keys()).toEqual(["busy/0", "busy/1"]);
  await end("busy/0");
  expect(keys().at(-1)).toBe("quiet/only");
});

test("a running pass gives its place up between two steps to a namespace that has none", async () => {
  const { queue, turns, keys, end } = scene(1);
  queue.add("busy/0", "spec");
  queue.add("busy/1", "spec");
  queue.add("quiet/only", "spec");
  let resumed = false;
  const breathing = turns[0]?.breathe().then(() => (resumed = true));
  await Promise.resolve();
  expect(keys()).toEqual(["busy/0", "quiet/only"]);
  expect(resumed).toBe(false);
  await end("quiet/only");
  await end("busy/1");
  await breathing;
  expect(resumed).toBe(true);
});

test("work elsewhere holds no place, a group has a share of it of its own, and it ends in a place", async () => {
  const { queue, turns, keys, end } = scene(1);
  const { signal } = new AbortController();
  const begun: string[] = [];
  const finish = new Map<string, () => void>();
  const settled = async (): Promise<void> => {
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  };
  /** Starts the key, which goes elsewhere at once. */
  const goes = async (key: string): Promise<{ readonly done: Promise<void> | undefined }> => {
    queue.add(key, "spec");
    expect(keys().at(-1)).toBe(key);
    const done = turns.at(-1)?.elsewhere(() => {
      begun.push(key);
      return new Promise<void>((resolve) => finish.set(key, resolve));
    }, signal);
    await settled();
    expect(queue.running).toBe(0);
    return { done };
  };
  const hung = ["hung/0", "hung/1", "hung/2", "hung/3", "hung/4"];
  const first = await goes(hung[0] ?? "");
  for (const key of hung.slice(1)) await goes(key);
  // The fifth waits for one of the four before it, of its own group alone.
  expect(begun).toEqual(hung.slice(0, 4));
  await goes("elsewhere/0");
  expect(begun.at(-1)).toBe("elsewhere/0");
  queue.add("quiet/only", "spec");
  expect(keys().at(-1)).toBe("quiet/only");
  finish.get("hung/0")?.();
  await settled();
  expect(begun.at(-1)).toBe("hung/4");
  expect(queue.depth).toBe(1);
  await end("quiet/only");
  await first.done;
  expect(queue.running).toBe(1);
  await end("hung/0");
  expect(queue.running).toBe(0);
});

test("work elsewhere ends with the queue", async () => {
  const { queue, turns, end } = scene(1);
  const abort = new AbortController();
  queue.add("hung/0", "spec");
  const hung = turns[0]?.elsewhere(
    () => new Promise((_, reject) => abort.signal.addEventListener("abort", () => reject(new Error("stopping")))),
    abort.signal,
  );
  await Promise.resolve();
  await Promise.resolve();
  const stopped = queue.stop();
  abort.abort();
  await expect(hung).rejects.toThrow("stopping");
  await end("hung/0");
  await stopped;
});

test("an event during a pass makes exactly one more, with every cause that came", async () => {
  const { clock, queue, turns, keys, end } = scene(4);
  queue.add("a/a", "spec");
  queue.add("a/a", "source");
  queue.add("a/a", "dependency");
  await end("a/a");
  clock.advance(100);
  expect(keys()).toEqual(["a/a", "a/a"]);
  expect([...(turns[1]?.causes ?? [])]).toEqual(["source", "dependency"]);
  await end("a/a");
  clock.advance(1_000);
  expect(turns).toHaveLength(2);
});

test("the earliest of an event and a time wins", async () => {
  const { clock, queue, turns, end } = scene(4);
  queue.wakeAt("a/a", 50_000, "time");
  queue.add("a/a", "source");
  expect(turns).toHaveLength(1);
  await end("a/a");
  queue.wakeAt("a/a", clock.monotonic() + 500, "time");
  clock.advance(499);
  expect(turns).toHaveLength(1);
  clock.advance(1);
  expect(turns).toHaveLength(2);
});

test("never twice in flight, never above the limit, nothing is lost", async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("add" as const), key: fc.integer({ min: 0, max: 5 }) }),
    fc.record({ kind: fc.constant("end" as const), key: fc.integer({ min: 0, max: 5 }) }),
    fc.record({ kind: fc.constant("wait" as const), key: fc.integer({ min: 1, max: 300 }) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const { clock, queue, running, turns, end, wasDoubled } = scene(3);
      const nameOf = (key: number): string => `ns${key % 2}/${key}`;
      const added = new Set<string>();
      for (const { kind, key } of steps) {
        if (kind === "add") {
          added.add(nameOf(key));
          queue.add(nameOf(key), "spec");
        } else if (kind === "end") await end(nameOf(key));
        else clock.advance(key);
        expect(wasDoubled()).toBe(false);
        expect(running.size).toBeLessThanOrEqual(3);
        expect(queue.running).toBe(running.size);
      }
      // Everything that was asked for is run to its end.
      for (let round = 0; round < 40; round++) {
        clock.advance(200);
        for (const key of [...running.keys()]) await end(key);
      }
      expect(running.size).toBe(0);
      expect(queue.depth).toBe(0);
      for (const key of added) expect(turns.some((turn) => turn.key === key)).toBe(true);
    }),
    { numRuns: 200 },
  );
});

test("a pass that only waits for an answer gives its place away, and goes on when there is one again", async () => {
  const { queue, turns, keys, end } = scene(1);
  queue.add("a/0", "spec");
  queue.add("a/1", "spec");
  const answer = Promise.withResolvers<string>();
  let result = "";
  const away = turns[0]?.away(() => answer.promise).then((value) => (result = value));
  expect(keys()).toEqual(["a/0", "a/1"]);
  queue.add("a/0", "source");
  answer.resolve("yes");
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  expect(result).toBe("");
  expect(queue.running).toBe(1);
  await end("a/1");
  await away;
  expect(result).toBe("yes");
  expect(keys()).toEqual(["a/0", "a/1"]);
});

test("no more passes are under way than four times the places", async () => {
  const { queue, turns, keys } = scene(2);
  for (let index = 0; index < 20; index++) queue.add(`a/${index}`, "spec");
  const never = new Promise<void>(() => undefined);
  for (let index = 0; index < 20; index++) {
    const away = turns[index]?.away(() => never);
    expect(away === undefined).toBe(index >= 8);
  }
  expect(keys()).toHaveLength(8);
  await Promise.resolve();
});

test("a failure of what is waited for comes back with the place, also when the queue was stopped meanwhile", async () => {
  const { queue, turns, end } = scene(1);
  queue.add("a/0", "spec");
  const answer = Promise.withResolvers<string>();
  const away = turns[0]?.away(() => answer.promise);
  const stopped = queue.stop();
  answer.reject(new Error("refused"));
  await expect(away).rejects.toThrow("refused");
  expect(queue.running).toBe(1);
  await end("a/0");
  await stopped;
});

test("while memory is short no pass begins beside another, those under way take turns, and room lets others begin", async () => {
  const short = { now: false };
  const { queue, turns, keys, end } = scene(2, () => !short.now);
  queue.add("a/0", "spec");
  let back = false;
  const answer = Promise.withResolvers<undefined>();
  const away = turns[0]?.away(() => answer.promise).then(() => (back = true));
  short.now = true;
  queue.add("b/0", "spec");
  queue.add("c/0", "spec");
  // The first one waits for an answer and still holds what it read.
  expect(keys()).toEqual(["a/0"]);
  answer.resolve(undefined);
  await away;
  expect([keys(), back]).toEqual([["a/0"], true]);
  await end("a/0");
  expect(keys()).toEqual(["a/0", "b/0"]);
  short.now = false;
  queue.reconsider();
  expect(keys()).toEqual(["a/0", "b/0", "c/0"]);
});

test("while memory is short one pass of a group, and four of a place, may wait for somebody else's servers", async () => {
  const short = { now: false };
  const { queue, turns, keys, end } = scene(1, () => !short.now);
  const answers = new Map<string, () => void>();
  const goElsewhere = async (): Promise<void> => {
    const turn = turns.at(-1);
    void turn?.elsewhere(
      () => new Promise<void>((resolve) => answers.set(turn.key, resolve)),
      new AbortController().signal,
    );
    for (let tick = 0; tick < 10; tick++) await Promise.resolve();
  };
  queue.add("a/0", "spec");
  await goElsewhere();
  short.now = true;
  for (const group of ["a", "b", "c", "d", "e"]) for (const index of [1, 2]) queue.add(`${group}/${index}`, "spec");
  for (let pass = 0; pass < 6; pass++) await goElsewhere();
  expect(keys()).toEqual(["a/0", "b/1", "c/1", "d/1"]);
  answers.get("b/1")?.();
  for (let tick = 0; tick < 10; tick++) await Promise.resolve();
  await end("b/1");
  expect(keys().slice(4)).toEqual(["e/1"]);
});

test("what is owed begins beside others while memory is short, in a place of its own", async () => {
  let isEnough = true;
  const { queue, keys, end } = scene(2, () => isEnough);
  queue.add("a/0", "spec");
  isEnough = false;
  queue.add("a/1", "spec");
  queue.add("b/0", "owed");
  queue.add("b/1", "owed");
  expect(keys()).toEqual(["a/0", "b/0"]);
  await end("b/0");
  expect(keys()).toEqual(["a/0", "b/0", "b/1"]);
  await end("b/1");
  expect(keys()).toHaveLength(3);
  await end("a/0");
  expect(keys().at(-1)).toBe("a/1");
});
