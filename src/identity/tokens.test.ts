import { expect, test } from "vitest";
import { createManualClock } from "../lib/clock.ts";
import { createTokenCache, type MintedToken } from "./tokens.ts";

const account = { namespace: "apps", name: "deployer" };
const never = new AbortController().signal;

/** A mint whose answers the test gives, one after another. */
function scriptedMint() {
  const calls: {
    readonly name: string;
    readonly signal: AbortSignal;
    readonly answer: PromiseWithResolvers<MintedToken>;
  }[] = [];
  return {
    calls,
    mint: ({ name }: { readonly name: string }, { signal }: { readonly signal: AbortSignal }) => {
      const answer = Promise.withResolvers<MintedToken>();
      calls.push({ name, signal, answer });
      return answer.promise;
    },
    resolve: (index: number, token: string, lifeMs = 3_600_000) => calls[index]?.answer.resolve({ token, lifeMs }),
    reject: (index: number, error: Error) => calls[index]?.answer.reject(error),
  };
}

test("[50.6] 50 callers on one ServiceAccount cause one TokenRequest", async () => {
  const { calls, mint, resolve } = scriptedMint();
  const tokens = createTokenCache({ mint, clock: createManualClock() });
  const waiting = Array.from({ length: 50 }, () => tokens.get(account, { signal: never }));
  resolve(0, "t1");
  expect(new Set(await Promise.all(waiting))).toEqual(new Set(["t1"]));
  expect(await tokens.get(account, { signal: never })).toBe("t1");
  expect(calls).toHaveLength(1);
});

test("[50.6] a token with 600 s of life is renewed before it expires, whatever the wall clock does", async () => {
  const { calls, mint, resolve } = scriptedMint();
  const clock = createManualClock(1_000_000);
  const tokens = createTokenCache({ mint, clock });
  const first = tokens.get(account, { signal: never });
  resolve(0, "t1", 600_000);
  await first;
  clock.setNow(9_000_000_000);
  clock.advance(479_999);
  expect(await tokens.get(account, { signal: never })).toBe("t1");
  expect(calls).toHaveLength(1);
  clock.advance(1);
  const second = tokens.get(account, { signal: never });
  resolve(1, "t2", 600_000);
  expect(await second).toBe("t2");
});

test("[50.6] a token with an hour of life is renewed 300 s before its end", async () => {
  const { calls, mint, resolve } = scriptedMint();
  const clock = createManualClock();
  const tokens = createTokenCache({ mint, clock });
  const first = tokens.get(account, { signal: never });
  clock.advance(2000);
  resolve(0, "t1");
  await first;
  // Life counts from before the request: 3,300 s after it, not after its answer.
  clock.advance(3_297_999);
  await tokens.get(account, { signal: never });
  expect(calls).toHaveLength(1);
  clock.advance(1);
  const second = tokens.get(account, { signal: never });
  resolve(1, "t2");
  expect(await second).toBe("t2");
});

test("[50.7] the first waiter of a mint is cancelled: the others still get the token", async () => {
  const { calls, mint, resolve } = scriptedMint();
  const tokens = createTokenCache({ mint, clock: createManualClock() });
  const abort = new AbortController();
  const first = tokens.get(account, { signal: abort.signal });
  const second = tokens.get(account, { signal: never });
  abort.abort(new Error("superseded"));
  await expect(first).rejects.toThrow("superseded");
  expect(calls[0]?.signal.aborted).toBe(false);
  resolve(0, "t1");
  expect(await second).toBe("t1");
  expect(calls).toHaveLength(1);
});

test("[50.7] an eviction during a mint: the waiter gets its token and the next call mints again", async () => {
  const { calls, mint, resolve } = scriptedMint();
  const tokens = createTokenCache({ mint, clock: createManualClock() });
  const first = tokens.get(account, { signal: never });
  tokens.evict(account);
  const second = tokens.get(account, { signal: never });
  expect(calls).toHaveLength(2);
  resolve(0, "t1");
  expect(await first).toBe("t1");
  resolve(1, "t2");
  expect(await second).toBe("t2");
  expect(await tokens.get(account, { signal: never })).toBe("t2");
});

test("[50.7] an eviction during a mint is not undone when the mint ends after no one else asked", async () => {
  const { calls, mint, resolve } = scriptedMint();
  const tokens = createTokenCache({ mint, clock: createManualClock() });
  const first = tokens.get(account, { signal: never });
  tokens.evict(account);
  resolve(0, "t1");
  expect(await first).toBe("t1");
  const second = tokens.get(account, { signal: never });
  resolve(1, "t2");
  expect(await second).toBe("t2");
  expect(calls).toHaveLength(2);
});

test("a 401 of an old token does not evict its successor", async () => {
  const { calls, mint, resolve } = scriptedMint();
  const tokens = createTokenCache({ mint, clock: createManualClock() });
  const first = tokens.get(account, { signal: never });
  resolve(0, "t1");
  await first;
  tokens.evict(account, "t0");
  expect(await tokens.get(account, { signal: never })).toBe("t1");
  tokens.evict(account, "t1");
  const second = tokens.get(account, { signal: never });
  resolve(1, "t2");
  expect(await second).toBe("t2");
  expect(calls).toHaveLength(2);
});

test("a mint ends after 30 s by itself, and its failure is not kept", async () => {
  const { calls, mint, resolve } = scriptedMint();
  const clock = createManualClock();
  const tokens = createTokenCache({ mint, clock });
  const first = tokens.get(account, { signal: never });
  clock.advance(30_000);
  await expect(first).rejects.toThrow("longer than 30000 ms");
  const second = tokens.get(account, { signal: never });
  resolve(1, "t1");
  expect(await second).toBe("t1");
  expect(calls).toHaveLength(2);
});

test("different ServiceAccounts mint in parallel", async () => {
  const { calls, mint, resolve } = scriptedMint();
  const tokens = createTokenCache({ mint, clock: createManualClock() });
  const a = tokens.get(account, { signal: never });
  const b = tokens.get({ ...account, name: "other" }, { signal: never });
  expect(calls.map((call) => call.name)).toEqual(["deployer", "other"]);
  resolve(1, "b");
  expect(await b).toBe("b");
  resolve(0, "a");
  expect(await a).toBe("a");
});

test("while renewal fails, a token that still lives is used, and not after its end", async () => {
  const { mint, resolve, reject } = scriptedMint();
  const clock = createManualClock();
  const tokens = createTokenCache({ mint, clock });
  const first = tokens.get(account, { signal: never });
  resolve(0, "t1", 600_000);
  await first;
  clock.advance(500_000);
  const second = tokens.get(account, { signal: never });
  reject(1, new Error("api server away"));
  expect(await second).toBe("t1");
  clock.advance(100_000);
  const third = tokens.get(account, { signal: never });
  reject(2, new Error("api server away"));
  await expect(third).rejects.toThrow("away");
});
