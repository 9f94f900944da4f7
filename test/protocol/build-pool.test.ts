import { afterEach, describe, expect, test } from "vitest";
import { createComputePool, type ComputePool, type RunOptions } from "../../src/compute/pool.ts";
import { type Clock, createManualClock, systemClock } from "../../src/lib/clock.ts";

let pools: ComputePool[] = [];
afterEach(async () => {
  await Promise.all(pools.map((pool) => pool[Symbol.asyncDispose]()));
  pools = [];
});

function start(
  size: number,
  o: { readonly clock?: Clock; readonly idleMs?: number; readonly mayBegin?: () => boolean } = {},
): ComputePool {
  const workerUrl = new URL("build-crash-worker.ts", import.meta.url);
  const pool = createComputePool({ clock: systemClock, workerUrl, size, ...o });
  pools.push(pool);
  return pool;
}

const options = (more: Partial<RunOptions> = {}): RunOptions => ({
  signal: new AbortController().signal,
  timeoutMs: 20_000,
  queue: "team",
  ...more,
});

describe("the compute pool", () => {
  test.each([
    ["TimedOut", "loop", 100],
    ["TimedOut", "hang", 100],
    ["Crashed", "exit", 20_000],
    ["OutOfMemory", "hog", 20_000],
    ["Failed", "fail", 20_000],
    ["Failed", "unknown", 20_000],
  ])("fails as %s when a job is %s, and goes on", async (reason, job, timeoutMs) => {
    const pool = start(1);
    await expect(pool.run(job, undefined, options({ timeoutMs }))).rejects.toMatchObject({
      name: "ComputeError",
      reason,
    });
    expect(await pool.run("echo", 1, options())).toBe(1);
  });

  test("lets a job that did not have the processor take longer by the clock", async () => {
    const pool = start(1);
    // The first job also pays for the start of its worker.
    await pool.run("echo", undefined, options());
    expect(await pool.run("nap", undefined, options({ timeoutMs: 100 }))).toBe("rested");
  });

  test("tells nothing of what a job's error says", async () => {
    const error: unknown = await start(1)
      .run("fail", undefined, options())
      .catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(Error);
    expect(JSON.stringify([String(error), error instanceof Error ? error.cause : ""])).not.toContain("secret");
  });

  test("gives workers no environment", async () => {
    expect(await start(1).run("env", undefined, options())).toEqual([]);
  });

  test("takes turns between queues, in order inside one", async () => {
    const pool = start(1);
    const order: unknown[] = [];
    const run = (queue: string, input: string): Promise<unknown> =>
      pool.run("echo", input, options({ queue })).then((output) => order.push(output));
    await Promise.all([run("a", "a1"), run("a", "a2"), run("a", "a3"), run("b", "b1"), run("c", "c1"), run("b", "b2")]);
    expect(order).toEqual(["a1", "a2", "b1", "c1", "a3", "b2"]);
  });

  test("runs one exclusive job at a time, others beside it", async () => {
    const pool = start(2);
    const stop = new AbortController();
    const first = pool.run("hang", undefined, options({ exclusive: true, signal: stop.signal }));
    const second = pool.run("echo", "second", options({ exclusive: true }));
    expect(await pool.run("echo", "beside", options())).toBe("beside");
    stop.abort(new Error("enough"));
    await expect(first).rejects.toThrow("enough");
    expect(await second).toBe("second");
  });

  test("drops a waiting job, and kills a running one, when aborted", async () => {
    const pool = start(1);
    const [running, waiting] = [new AbortController(), new AbortController()];
    const one = pool.run("loop", undefined, options({ signal: running.signal }));
    const two = pool.run("echo", 2, options({ signal: waiting.signal }));
    const three = pool.run("echo", 3, options());
    waiting.abort(new Error("two"));
    await expect(two).rejects.toThrow("two");
    running.abort(new Error("one"));
    await expect(one).rejects.toThrow("one");
    expect(await three).toBe(3);
    await expect(pool.run("echo", 4, options({ signal: running.signal }))).rejects.toThrow("one");
  });

  test("ends a worker that had no job for a while, and starts another for the next", async () => {
    const clock = createManualClock();
    const pool = start(1, { clock, idleMs: 1_000 });
    const first = await pool.run("thread", undefined, options());
    clock.advance(999);
    expect(await pool.run("thread", undefined, options())).toBe(first);
    clock.advance(999);
    expect(await pool.run("thread", undefined, options())).toBe(first);
    clock.advance(1_000);
    expect(await pool.run("thread", undefined, options())).not.toBe(first);
  });

  test("fails what runs and waits when disposed", async () => {
    const pool = start(1);
    const jobs = [pool.run("loop", 1, options()), pool.run("echo", 2, options())];
    const failed = Promise.allSettled(jobs);
    await pool[Symbol.asyncDispose]();
    for (const job of await failed) expect(job).toMatchObject({ status: "rejected", reason: { name: "Shutdown" } });
    await expect(pool.run("echo", 3, options())).rejects.toMatchObject({ name: "Shutdown" });
  });
});

describe("while memory is short", () => {
  test("no job starts beside another, and room lets it start", async () => {
    const short = { now: false };
    const pool = start(2, { mayBegin: () => !short.now });
    const stop = new AbortController();
    const first = pool.run("hang", undefined, options({ signal: stop.signal }));
    short.now = true;
    const order: string[] = [];
    const second = pool.run("echo", "second", options()).then(() => order.push("second"));
    const third = pool.run("thread", undefined, options({ background: true })).then(() => order.push("third"));
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(order).toEqual([]);
    short.now = false;
    pool.reconsider();
    await Promise.all([second, third]);
    expect(order).toEqual(["second", "third"]);
    stop.abort(new Error("enough"));
    await expect(first).rejects.toThrow("enough");
  });

  test("what nobody waits for gives way and does not start, and one job at a time goes on", async () => {
    const short = { now: false };
    const pool = start(2, { mayBegin: () => !short.now });
    const given = pool.run("hang", undefined, options({ background: true }));
    short.now = true;
    const later = pool.run("echo", "later", options({ background: true }));
    const wanted = pool.run("echo", 1, options());
    await expect(given).rejects.toMatchObject({ reason: "Overloaded" });
    expect(await wanted).toBe(1);
    short.now = false;
    pool.reconsider();
    expect(await later).toBe("later");
  });

  test("idle workers end when asked to", async () => {
    const pool = start(1);
    const before = await pool.run("thread", undefined, options());
    pool.retireIdle();
    expect(await pool.run("thread", undefined, options())).not.toBe(before);
  });
});

describe("jobs in the background", () => {
  const background = (more: Partial<RunOptions> = {}): RunOptions => options({ background: true, ...more });

  test("run one at a time beside others", async () => {
    const pool = start(2);
    const stop = new AbortController();
    const first = pool.run("hang", undefined, background({ signal: stop.signal }));
    const second = pool.run("echo", "second", background());
    expect(await pool.run("echo", "beside", options())).toBe("beside");
    stop.abort(new Error("enough"));
    await expect(first).rejects.toThrow("enough");
    expect(await second).toBe("second");
  });

  test("wait while others do, and give way when others come", async () => {
    const pool = start(1);
    const order: unknown[] = [];
    const run = (input: string, o: RunOptions): Promise<unknown> =>
      pool.run("echo", input, o).then((output) => order.push(output));
    await Promise.all([run("a", options()), run("late", background()), run("b", options()), run("c", options())]);
    expect(order).toEqual(["a", "b", "c", "late"]);
    const given = pool.run("loop", undefined, background());
    const wanted = pool.run("echo", 1, options());
    await expect(given).rejects.toMatchObject({ name: "ComputeError", reason: "Overloaded" });
    expect(await wanted).toBe(1);
  });

  test("give the memory back that an exclusive job needs", async () => {
    const pool = start(2);
    const given = pool.run("hang", undefined, background({ exclusive: true }));
    const wanted = pool.run("echo", 1, options({ exclusive: true }));
    await expect(given).rejects.toMatchObject({ reason: "Overloaded" });
    expect(await wanted).toBe(1);
  });

  test("end when they are not wanted any more", async () => {
    const pool = start(1);
    const [one, two] = [new AbortController(), new AbortController()];
    const running = pool.run("loop", undefined, background({ signal: one.signal }));
    const waiting = pool.run("echo", 1, background({ signal: two.signal }));
    two.abort(new Error("two"));
    await expect(waiting).rejects.toThrow("two");
    one.abort(new Error("one"));
    await expect(running).rejects.toThrow("one");
    expect(await pool.run("echo", 2, background())).toBe(2);
  });
});
