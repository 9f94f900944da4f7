import { describe, expect, test } from "vitest";
import { judgeGate } from "./gate.ts";
import type { PodReadings, PodRestarts } from "./pod-checks.ts";
import type { Promotion, PromotionState } from "./soak.ts";

const now = Date.parse("2026-03-01T12:00:00Z");
const instant = "2026-03-01T12:00:00Z";
const hour = 3_600_000;
const selector = { matchLabels: { app: "web" } };
const restartGate: Promotion = { restartGate: { checks: [{ name: "web", selector }] } };
const eventGate: Promotion = {
  eventGate: { checks: [{ name: "warnings", selector, reasons: ["BackOff"], maxEvents: 5 }] },
};

const metrics = { analysis: undefined, fastTrack: undefined };

const pod = (uid: string, restarts: number, ageMs = hour): PodRestarts => ({ uid, restarts, createdAt: now - ageMs });
const counts = (...pods: readonly PodRestarts[]): PodReadings => ({
  restarts: new Map([["web", pods]]),
  events: new Map(),
});
const events = (count: number): PodReadings => ({ restarts: new Map(), events: new Map([["warnings", count]]) });
const judge = (
  promotion: Promotion,
  state: PromotionState | undefined,
  pods: PodReadings | undefined,
  o: { readonly token?: boolean; readonly ready?: boolean } = {},
): PromotionState =>
  judgeGate({ promotion, state, pods, metrics, retryMs: hour, token: o.token ?? false, ready: o.ready ?? true, now });
/** As the last promotion left it. */
const since = (...pods: readonly PodRestarts[]): PromotionState => {
  const { restartBaseline = [] } = judge(restartGate, undefined, counts(...pods));
  return { restartBaseline };
};

describe("restarts", () => {
  test("[40.14] old pods with 40 that are replaced by pods with 1: one is observed", () => {
    const before = since(pod("a", 40), pod("b", 40));
    expect(before.restartBaseline).toEqual([
      {
        name: "web",
        restarts: 80,
        time: instant,
        pods: [
          { uid: "a", restarts: 40 },
          { uid: "b", restarts: 40 },
        ],
      },
    ]);
    expect(judge(restartGate, before, counts(pod("c", 1, 0)))).toMatchObject({
      phase: "Blocked",
      restartCheck: "web",
      observedRestarts: 1,
    });
  });

  test("[40.14] old pods that survive with what they had never block, one more restart does", () => {
    const before = since(pod("a", 40));
    expect(judge(restartGate, before, counts(pod("a", 40))).phase).toBe("Promoted");
    expect(judge(restartGate, before, counts(pod("a", 41)))).toMatchObject({ phase: "Blocked", observedRestarts: 1 });
    // One that had none when they were counted is not on record.
    expect(judge(restartGate, before, counts(pod("a", 40), pod("b", 2)))).toMatchObject({ observedRestarts: 2 });
  });

  test("without a baseline the first look is counted from, and kept", () => {
    const soak: Promotion = { ...restartGate, soak: "1h" };
    const first = judge(soak, { windowStart: instant }, counts(pod("a", 7)));
    expect(first).toMatchObject({ phase: "Soaking", restartBaseline: [{ name: "web", restarts: 7 }] });
    expect(judge(soak, first, counts(pod("a", 8)))).toMatchObject({ phase: "Blocked", observedRestarts: 1 });
  });

  test("a promotion renews it, also one by a token; what is then unknown is counted anew", () => {
    const soak: Promotion = { ...restartGate, soak: "1h" };
    const before = since(pod("a", 40));
    const blocked = judge(soak, before, counts(pod("a", 45)));
    expect(judge(soak, blocked, counts(pod("a", 45)), { token: true })).toEqual({
      phase: "Promoted",
      since: instant,
      soakUntil: "2026-03-01T13:00:00Z",
      restartBaseline: [{ name: "web", restarts: 45, time: instant, pods: [{ uid: "a", restarts: 45 }] }],
    });
    expect(judge(soak, blocked, undefined, { token: true }).restartBaseline).toBeUndefined();
  });

  test("more than 200 pods: the most restarted are kept, and an older one beyond them is not charged", () => {
    const many = Array.from({ length: 250 }, (_, index) => pod(`p${index}`, index + 1));
    const before = since(...many);
    expect(before.restartBaseline?.[0]?.pods).toHaveLength(200);
    expect(judge(restartGate, before, counts(...many)).phase).toBe("Promoted");
    expect(judge(restartGate, before, counts(...many, pod("new", 3, -2_000)))).toMatchObject({ observedRestarts: 3 });
  });

  test("older records know the sum alone", () => {
    const before: PromotionState = { restartBaseline: [{ name: "web", restarts: 40 }] };
    expect(judge(restartGate, before, counts(pod("a", 1))).phase).toBe("Promoted");
    expect(judge(restartGate, before, counts(pod("a", 42)))).toMatchObject({ observedRestarts: 2 });
  });

  test("the first check in the list that is over its limit is named; clearing it clears its counts", () => {
    const checks = [
      { name: "web", selector, maxRestarts: 5 },
      { name: "jobs", selector },
    ];
    const readings = {
      restarts: new Map([
        ["web", [pod("a", 5)]],
        ["jobs", [pod("b", 1)]],
      ]),
      events: new Map(),
    };
    const zero = { restartBaseline: checks.map(({ name }) => ({ name, restarts: 0, pods: [] })) };
    const blocked = judge({ restartGate: { checks } }, zero, readings);
    expect(blocked).toMatchObject({ restartCheck: "jobs", observedRestarts: 1 });
    const cleared = judge({ soak: "1h", restartGate: { checks: checks.slice(0, 1) } }, blocked, readings);
    expect(cleared).toMatchObject({ phase: "Soaking" });
    expect(Object.keys(cleared)).not.toContain("restartCheck");
  });
});

describe("events", () => {
  test("[40.15] more than are tolerated block, as many do not", () => {
    expect(judge(eventGate, undefined, events(7))).toMatchObject({
      phase: "Blocked",
      eventCheck: "warnings",
      observedEvents: 7,
    });
    expect(judge(eventGate, undefined, events(5)).phase).toBe("Promoted");
  });

  test("restarts are named before events, and a block is derived anew each time", () => {
    const both = { ...restartGate, ...eventGate };
    const readings = { restarts: new Map([["web", [pod("a", 2)]]]), events: new Map([["warnings", 9]]) };
    const blocked = judge(both, { restartBaseline: [{ name: "web", restarts: 0, pods: [] }] }, readings);
    expect(blocked).toMatchObject({ restartCheck: "web" });
    expect(blocked.eventCheck).toBeUndefined();
    expect(
      judge(eventGate, { phase: "Blocked", eventCheck: "warnings", observedEvents: 7 }, events(0), { ready: false }),
    ).toEqual({
      phase: "Soaking",
    });
  });
});

describe("pods that cannot be read", () => {
  test("[40.16] neither advance nor block: the phase before stays, the clock runs", () => {
    expect(judge(restartGate, undefined, undefined)).toEqual({ phase: "Soaking", since: instant });
    const soaked: PromotionState = {
      phase: "Soaking",
      since: "2026-03-01T10:00:00Z",
      soakUntil: "2026-03-01T11:00:00Z",
    };
    expect(judge({ ...restartGate, soak: "1h" }, soaked, undefined)).toEqual(soaked);
    const blocked: PromotionState = { phase: "Blocked", since: instant, restartCheck: "web", observedRestarts: 1 };
    expect(judge(restartGate, blocked, undefined)).toEqual(blocked);
  });
});
