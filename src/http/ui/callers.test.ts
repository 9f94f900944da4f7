import { describe, expect, test } from "vitest";
import { createManualClock } from "../../lib/clock.ts";
import type { HttpRequest } from "../message.ts";
import { createReviewedCallers, mostWaitingPerToken, type Caller, type WantedAccess } from "./callers.ts";
import { mostUnknownWaiting, type AuthenticatedUser } from "./tokens.ts";

const list: WantedAccess = { verb: "list", resource: "stagesets", namespace: "shop", name: "" };
const get: WantedAccess = { ...list, verb: "get", name: "web" };

function bearing(token: string): HttpRequest {
  return {
    method: "GET",
    target: "/",
    header: (name) => (name === "authorization" ? `Bearer ${token}` : undefined),
  };
}

function jwt(of: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "RS256" })}.${part(of)}.c2lnbmVk`;
}

/** Tokens `good-<name>` are `<name>`'s, who may what is in `rights`; others are nobody's. */
function scene() {
  const clock = createManualClock();
  const asked: string[] = [];
  const revoked = new Set<string>();
  const rights = new Set<string>();
  const held: (() => void)[] = [];
  let isHeld = false;
  const callers = createReviewedCallers({
    clock,
    reviews: {
      async authenticate(token) {
        asked.push(token);
        if (isHeld) await new Promise<void>((resolve) => held.push(resolve));
        if (!token.startsWith("good-") || revoked.has(token)) return undefined;
        const user: AuthenticatedUser = { username: token.slice("good-".length), uid: "1", groups: [], extra: {} };
        return user;
      },
      async isAllowed({ username }, { verb, namespace }) {
        asked.push(`${username} ${verb} ${namespace}`);
        if (isHeld) await new Promise<void>((resolve) => held.push(resolve));
        return rights.has(`${username} ${verb} ${namespace}`);
      },
    },
  });
  return {
    clock,
    asked,
    revoked,
    rights,
    callers,
    kindOf: async (token: string): Promise<string> => (await callers.identify(bearing(token))).kind,
    caller: async (token: string): Promise<Caller> => {
      const identified = await callers.identify(bearing(token));
      if (identified.kind !== "caller") throw new Error(`"${token}" is ${identified.kind}`);
      return identified.caller;
    },
    /** From now on the API server answers nothing until it is released. */
    hold: (): void => void (isHeld = true),
    release: (): void => {
      isHeld = false;
      for (const answer of held.splice(0)) answer();
    },
    /** Lets promises settle, and time pass in steps so that those that wait get their turns. */
    pass: async (ms: number, steps = 1): Promise<void> => {
      for (let step = 0; step < steps; step++) {
        await new Promise((resolve) => setImmediate(resolve));
        clock.advance(ms / steps);
      }
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

describe("a token", () => {
  test("is reviewed once a minute, and ends within a minute of being taken away", async () => {
    const { clock, asked, revoked, kindOf, caller } = scene();
    const ann = await caller("good-ann");
    revoked.add("good-ann");
    clock.advance(59_999);
    expect(await kindOf("good-ann")).toBe("caller");
    expect(await ann.isValid()).toBe(true);
    expect(asked).toEqual(["good-ann"]);
    clock.advance(1);
    expect(await ann.isValid()).toBe(false);
    expect(await kindOf("good-ann")).toBe("unauthenticated");
    expect(asked).toEqual(["good-ann", "good-ann"]);
  });

  test("that is nobody's is reviewed again after ten seconds", async () => {
    const { clock, asked, kindOf } = scene();
    for (const [passed, reviews] of [
      [0, 1],
      [9_999, 1],
      [1, 2],
    ] as const) {
      clock.advance(passed);
      expect(await kindOf("bad")).toBe("unauthenticated");
      expect(asked).toHaveLength(reviews);
    }
  });

  test("that can be none is never reviewed", async () => {
    const { asked, kindOf } = scene();
    for (const token of [
      "a".repeat(12 * 1024 + 1),
      "two words",
      "semi;colon",
      "eyJhbGciOiJSUzI1NiJ9",
      "eyJhbGciOiJSUzI1NiJ9.e30.",
      "eyJub25zZW5zZQ.eyJub25zZW5zZQ.c2ln",
      `${jwt({})}.more`,
    ])
      expect(await kindOf(token), token.slice(0, 40)).toBe("unauthenticated");
    expect(asked).toEqual([]);
    await kindOf(jwt({ sub: "somebody" }));
    expect(asked).toHaveLength(1);
  });

  test("that is good is known however many others are tried", async () => {
    const { asked, kindOf, pass } = scene();
    await kindOf("good-ann");
    for (let count = 0; count < 250; count++) {
      const tried = Array.from({ length: 5 }, (_, index) => kindOf(`bad-${count}-${index}`));
      await pass(500, 5);
      await Promise.all(tried);
      if (count % 100 === 99) await kindOf("good-ann");
    }
    expect(asked.filter((each) => each.startsWith("bad-")).length).toBeGreaterThan(1_000);
    const before = asked.length;
    expect(await kindOf("good-ann")).toBe("caller");
    expect(asked.slice(before).every((each) => each === "good-ann")).toBe(true);
    // Once, and once for each of the two minutes that have passed.
    expect(asked.filter((each) => each === "good-ann").length).toBeLessThanOrEqual(3);
  });

  test("that nobody was seen with waits with others like it, so many, and holds up none that is known", async () => {
    const { clock, asked, kindOf, hold, release, pass } = scene();
    await kindOf("good-ann");
    clock.advance(60_000);
    hold();
    const tried = Array.from({ length: 200 }, (_, index) => kindOf(`bad-${index}`));
    await pass(0);
    expect(asked.filter((each) => each.startsWith("bad-"))).toHaveLength(4);
    const known = kindOf("good-ann");
    await pass(0);
    expect(asked.at(-1)).toBe("good-ann");
    release();
    expect(await known).toBe("caller");
    await pass(2_000, 20);
    const kinds = await Promise.all(tried);
    expect(kinds.filter((kind) => kind === "unknown")).toHaveLength(200 - 4 - mostUnknownWaiting);
  });

  test("that nobody was seen with is reviewed ten times a second at most", async () => {
    const { asked, kindOf, pass } = scene();
    for (let second = 0; second < 10; second++) {
      for (let count = 0; count < 30; count++) void kindOf(`bad-${second}-${count}`);
      await pass(1_000, 10);
    }
    expect(asked.length).toBeGreaterThan(90);
    expect(asked.length).toBeLessThanOrEqual(20 + 10 * 10);
  });
});

describe("a right", () => {
  test("that is taken away ends within a minute, one that is given begins after ten seconds, for lists a minute", async () => {
    const { clock, rights, caller } = scene();
    const ann = await caller("good-ann");
    expect([await ann.may(get), await ann.may(list)]).toEqual([false, false]);
    rights.add("ann get shop").add("ann list shop");
    clock.advance(9_999);
    expect(await ann.may(get)).toBe(false);
    clock.advance(1);
    expect([await ann.may(get), await ann.may(list)]).toEqual([true, false]);
    clock.advance(50_000);
    expect([await ann.may(get), await ann.may(list)]).toEqual([true, true]);
    rights.clear();
    clock.advance(9_999);
    expect(await ann.may(get)).toBe(true);
    clock.advance(1);
    expect(await ann.may(get)).toBe(false);
  });

  test("is that of one token: another's verdict is never taken", async () => {
    const { rights, caller } = scene();
    rights.add("ann get shop");
    const [ann, bob] = [await caller("good-ann"), await caller("good-bob")];
    expect([await ann.may(get), await bob.may(get)]).toEqual([true, false]);
    expect([await ann.may(get), await bob.may(get)]).toEqual([true, false]);
  });

  test("has three seconds for its review, not for the wait until its turn", async () => {
    const { rights, caller, hold, release, pass } = scene();
    rights.add("ann list last");
    const ann = await caller("good-ann");
    hold();
    const others = Array.from({ length: 40 }, (_, index) => ann.may({ ...list, namespace: `n-${index}` }));
    const last = ann.may({ ...list, namespace: "last" });
    await pass(4_000, 4);
    release();
    await pass(4_000, 4);
    await Promise.allSettled(others);
    expect(await last).toBe(true);
  });

  test("is asked for so many times at once, beyond which it cannot be told, and others' rights can", async () => {
    const { rights, caller, hold, release, pass } = scene();
    rights.add("bob get shop");
    const [ann, bob] = [await caller("good-ann"), await caller("good-bob")];
    hold();
    const asked = Array.from({ length: mostWaitingPerToken }, (_, index) => ann.may({ ...get, name: `n-${index}` }));
    const settled = Promise.allSettled(asked);
    await expect(ann.may({ ...get, name: "one-more" })).rejects.toThrow("too many");
    const others = bob.may(get);
    release();
    await pass(0);
    expect(await others).toBe(true);
    await pass(60_000, 60);
    expect((await settled).filter(({ status }) => status === "fulfilled")).toHaveLength(mostWaitingPerToken);
    expect(await ann.may({ ...get, name: "one-more" })).toBe(false);
  });
});
