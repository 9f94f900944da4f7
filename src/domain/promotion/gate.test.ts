import { describe, expect, test } from "vitest";
import { judgeGate } from "./gate.ts";
import type { PodReadings } from "./pod-checks.ts";
import { newGate, withoutSoak, type Promotion, type PromotionState } from "./soak.ts";

const start = Date.parse("2026-03-01T12:00:00Z");
const second = 1_000;
const minute = 60 * second;
const at = (ms: number): string => new Date(start + ms).toISOString().replace(".000Z", "Z");

const judge = (
  promotion: Promotion,
  state: PromotionState | undefined,
  o: { readonly after?: number; readonly ready?: boolean; readonly token?: boolean; readonly pods?: PodReadings } = {},
): PromotionState =>
  judgeGate({
    promotion,
    state,
    token: o.token ?? false,
    ready: o.ready ?? true,
    pods: o.pods,
    metrics: { analysis: undefined, fastTrack: undefined },
    retryMs: 10 * minute,
    now: start + (o.after ?? 0),
  });

const soak: Promotion = { soak: "10m" };
const soaking: PromotionState = { phase: "Soaking", since: at(0), soakUntil: at(10 * minute) };
const manual: Promotion = { requireManualPromotion: true };

describe("the decision table", () => {
  const rows: readonly (readonly [
    title: string,
    promotion: Promotion,
    state: PromotionState | undefined,
    o: Parameters<typeof judge>[2],
    phase: string,
  ])[] = [
    [
      "a: what is promoted stays so, whatever the stage and the spec",
      { ...soak, ...manual },
      { phase: "Promoted" },
      { ready: false },
      "Promoted",
    ],
    ["b: a token ends a soak", soak, soaking, { after: minute, token: true }, "Promoted"],
    ["b: a token stands for the manual promotion", manual, { phase: "AwaitingManual" }, { token: true }, "Promoted"],
    ["b: a token passes a block", soak, { ...soaking, phase: "Blocked" }, { token: true }, "Promoted"],
    ["b: a token passes a stage that is not ready", soak, soaking, { token: true, ready: false }, "Promoted"],
    ["f: a soak begins", soak, undefined, {}, "Soaking"],
    ["f: a soak goes on", soak, soaking, { after: 10 * minute - 1 }, "Soaking"],
    [
      "f: a block that is over goes on with the soak",
      soak,
      { ...soaking, phase: "Blocked" },
      { after: minute },
      "Soaking",
    ],
    ["f before h", { ...soak, ...manual }, soaking, { after: minute }, "Soaking"],
    [
      "h: what has soaked awaits its promotion",
      { ...soak, ...manual },
      soaking,
      { after: 10 * minute },
      "AwaitingManual",
    ],
    ["h: no soak at all", manual, undefined, {}, "AwaitingManual"],
    ["h before i", manual, undefined, { ready: false }, "AwaitingManual"],
    ["i: what has soaked waits until it is ready", soak, soaking, { after: 11 * minute, ready: false }, "Soaking"],
    ["i: nothing before: Soaking", {}, undefined, { ready: false }, "Soaking"],
    ["j: what has soaked is promoted", soak, soaking, { after: 10 * minute }, "Promoted"],
    ["j: a gate that asks for nothing", {}, undefined, {}, "Promoted"],
    ["j: the manual promotion is no longer required", {}, { phase: "AwaitingManual" }, {}, "Promoted"],
    ["unset: a soak that is not positive", { soak: "0s" }, undefined, {}, "Promoted"],
  ];
  test.each(rows)("%s", (_title, promotion, state, o, phase) => {
    expect(judge(promotion, state, o).phase).toBe(phase);
  });
});

describe("the soak clock", () => {
  test("[40.11] runs for all of its time: rounding to seconds never shortens it", () => {
    const state = judge(soak, undefined, { after: 1 });
    expect(state).toMatchObject({ phase: "Soaking", since: at(second), soakUntil: at(second + 10 * minute) });
    expect(judge(soak, state, { after: 10 * minute + 1 }).phase).toBe("Soaking");
    expect(judge(soak, state, { after: 10 * minute + second }).phase).toBe("Promoted");
    expect(judge({ soak: "1500ms" }, undefined).soakUntil).toBe(at(2 * second));
  });

  test("starts when the stage is ready, not before", () => {
    const state = judge(soak, { windowStart: at(0) }, { ready: false });
    expect(state).toEqual({ windowStart: at(0), phase: "Soaking" });
    expect(judge(soak, state, { after: minute })).toMatchObject({ since: at(minute), soakUntil: at(11 * minute) });
  });

  test("[40.11] another identity begins another soak, and keeps nothing but what restarts are counted from", () => {
    const restartBaseline = [{ name: "web", restarts: 3 }];
    const next = newGate(soak, { ...soaking, phase: "Promoted", restartBaseline }, start + 500);
    expect(next).toEqual({ windowStart: at(0), restartBaseline });
    expect(judge(soak, next, { after: minute })).toMatchObject({ phase: "Soaking", since: at(minute) });
    expect(newGate(undefined, soaking, start)).toBeUndefined();
  });

  test("a dip keeps the clock", () => {
    const dipped = judge(soak, soaking, { after: 5 * minute, ready: false });
    expect(dipped).toEqual(soaking);
    expect(judge(soak, dipped, { after: 10 * minute }).phase).toBe("Promoted");
  });

  test("a stage that fails, or is not ready for too long, soaks anew", () => {
    const rest = withoutSoak({ ...soaking, windowStart: at(0) }, start + minute);
    expect(rest).toEqual({ windowStart: at(0) });
    expect(judge(soak, rest, { after: 2 * minute })).toMatchObject({
      since: at(2 * minute),
      soakUntil: at(12 * minute),
    });
    // Ready too late: it had soaked, and then failed before it was promoted.
    expect(withoutSoak(soaking, start + 11 * minute)).toEqual({});
  });

  test.each([
    ["Promoted", { ...soaking, phase: "Promoted" }],
    ["AwaitingManual", { ...soaking, phase: "AwaitingManual" }],
    ["Analyzing", { ...soaking, phase: "Analyzing" }],
    ["Blocked after the soak", { ...soaking, phase: "Blocked", soakUntil: at(-minute) }],
    ["not at its gate", { windowStart: at(0) }],
    ["none", undefined],
  ])("a soak that is over stays over: %s", (_title, state) => {
    expect(withoutSoak(state, start)).toEqual(state);
  });

  test("a block neither pauses nor restarts it", () => {
    const blocked: PromotionState = { ...soaking, phase: "Blocked" };
    expect(judge(soak, blocked, { after: 9 * minute })).toEqual(soaking);
    expect(judge(soak, blocked, { after: 10 * minute }).phase).toBe("Promoted");
    expect(withoutSoak(blocked, start + minute)).toEqual({});
  });

  test("edited, it ends at its start plus the new time; removed, it is over", () => {
    expect(judge({ soak: "20m" }, soaking, { after: 15 * minute })).toMatchObject({ soakUntil: at(20 * minute) });
    expect(judge({ soak: "5m" }, soaking, { after: 6 * minute }).phase).toBe("Promoted");
    const without = judge(manual, soaking, { after: minute });
    expect(without).toEqual({ phase: "AwaitingManual", since: at(0) });
    expect(judge({ ...manual, soak: "1h" }, without, { after: 2 * minute }).phase).toBe("AwaitingManual");
  });

  test("a clock that jumps back lengthens it, one that jumps forward ends it", () => {
    expect(judge(soak, soaking, { after: -100 * minute }).phase).toBe("Soaking");
    expect(judge(soak, soaking, { after: 100 * minute }).phase).toBe("Promoted");
  });
});
