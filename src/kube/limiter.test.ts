import { expect, test } from "vitest";
import { createManualClock } from "../lib/clock.ts";
import { createLimiter, throttledForMs } from "./limiter.ts";

/** How many of `count` requests get a place at once; they keep it. */
async function admitted(limiter: ReturnType<typeof createLimiter>, count: number): Promise<number> {
  let got = 0;
  for (let index = 0; index < count; index++)
    limiter.acquire().then(
      () => got++,
      () => undefined,
    );
  for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  return got;
}

test("a cluster that answers 429 has half its share for 10 s, and then all of it", async () => {
  const clock = createManualClock();
  const limiter = createLimiter({ places: 8, clock });
  limiter.throttle();
  expect(await admitted(limiter, 8)).toBe(4);
  expect(limiter.waiting).toBe(4);
  clock.advance(throttledForMs - 1);
  expect(limiter.inFlight).toBe(4);
  clock.advance(1);
  expect(limiter.inFlight).toBe(8);
  expect(limiter.waiting).toBe(0);
});

test("another 429 starts the 10 s anew", async () => {
  const clock = createManualClock();
  const limiter = createLimiter({ places: 4, clock });
  limiter.throttle();
  await admitted(limiter, 4);
  clock.advance(throttledForMs / 2);
  limiter.throttle();
  clock.advance(throttledForMs / 2);
  expect(limiter.inFlight).toBe(2);
  clock.advance(throttledForMs / 2);
  expect(limiter.inFlight).toBe(4);
});

test("places are given in the order in which they were asked for, and an abort gives up the turn", async () => {
  const limiter = createLimiter({ places: 1, clock: createManualClock() });
  const first = await limiter.acquire();
  const order: string[] = [];
  const abort = new AbortController();
  const second = limiter.acquire(abort.signal).then(
    () => order.push("second"),
    () => order.push("second left"),
  );
  const third = limiter.acquire().then(() => order.push("third"));
  abort.abort(new Error("no longer"));
  await second;
  first[Symbol.dispose]();
  await third;
  expect(order).toEqual(["second left", "third"]);
  expect(limiter.inFlight).toBe(1);
});
