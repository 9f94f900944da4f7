import { describe, expect, test } from "vitest";
import { createManualClock } from "./clock.ts";
import { createFairLimiter, type FairLimiter, type FairLimiterOptions } from "./fair-limiter.ts";

function limiterOf(options: Partial<FairLimiterOptions> = {}) {
  const clock = createManualClock();
  const limiter = createFairLimiter({
    clock,
    burst: 2,
    perSecond: 10,
    places: 100,
    placesPerGroup: 100,
    ...options,
  });
  return { clock, limiter };
}

const never = new AbortController().signal;

/** Asks for each group in order; gives what was granted so far. */
function queue(limiter: FairLimiter, groups: readonly string[]) {
  const granted: { readonly group: string; readonly place: Disposable }[] = [];
  for (const group of groups)
    limiter.acquire(group, never).then(
      (place) => granted.push({ group, place }),
      () => undefined,
    );
  const settled = async (): Promise<string> => {
    await new Promise((resolve) => setImmediate(resolve));
    return granted.map(({ group }) => group).join("");
  };
  return { granted, settled };
}

describe("turns", () => {
  test("a burst is given at once, what comes after it at the rate", async () => {
    const { clock, limiter } = limiterOf();
    const { settled } = queue(limiter, ["a", "a", "a", "a"]);
    expect(await settled()).toBe("aa");
    clock.advance(99);
    expect(await settled()).toBe("aa");
    clock.advance(1);
    expect(await settled()).toBe("aaa");
    clock.advance(100);
    expect(await settled()).toBe("aaaa");
    expect(limiter.waiting).toBe(0);
  });

  test("a pause gives back no more than the burst", async () => {
    const { clock, limiter } = limiterOf();
    expect(await queue(limiter, ["a", "a"]).settled()).toBe("aa");
    clock.advance(3_600_000);
    expect(await queue(limiter, ["a", "a", "a"]).settled()).toBe("aa");
  });

  test("a group that wants much takes one turn while each other group takes one", async () => {
    const { clock, limiter } = limiterOf();
    const { settled } = queue(limiter, ["a", "a", "a", "a", "a", "a", "a", "a", "b", "c", "b"]);
    expect(await settled()).toBe("aa");
    for (let turn = 0; turn < 5; turn++) clock.advance(100);
    expect(await settled()).toBe("aaabcab");
  });
});

describe("places", () => {
  test("no more are held than there are, nor by one group than its share", async () => {
    const { limiter } = limiterOf({ burst: 100, places: 3, placesPerGroup: 2 });
    const { granted, settled } = queue(limiter, ["a", "a", "a", "b", "c"]);
    expect(await settled()).toBe("aab");
    granted[2]?.place[Symbol.dispose]();
    granted[2]?.place[Symbol.dispose](); // Twice is once.
    expect(await settled()).toBe("aabc");
    granted[0]?.place[Symbol.dispose]();
    expect(await settled()).toBe("aabca");
  });

  test("one that gives up takes no turn and no place", async () => {
    const { clock, limiter } = limiterOf({ burst: 1, places: 1 });
    const first = await limiter.acquire("a", never);
    const impatient = new AbortController();
    const given = limiter.acquire("b", impatient.signal);
    const { settled } = queue(limiter, ["c"]);
    impatient.abort(new Error("gone"));
    await expect(given).rejects.toThrow("gone");
    await expect(limiter.acquire("b", impatient.signal)).rejects.toThrow("gone");
    first[Symbol.dispose]();
    clock.advance(100);
    expect(await settled()).toBe("c");
    expect(limiter.waiting).toBe(0);
  });
});
