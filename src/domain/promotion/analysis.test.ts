import { describe, expect, test } from "vitest";
import { sourceError, type MetricAnswer } from "../metrics/metric-answer.ts";
import type { GateMetrics } from "./analysis.ts";
import { judgeGate } from "./gate.ts";
import type { Promotion, PromotionState } from "./soak.ts";

const start = Date.parse("2026-03-01T12:00:00Z");
const minute = 60_000;
const at = (ms: number): string => new Date(start + ms).toISOString().replace(".000Z", "Z");
const source = { prometheus: { address: "http://prometheus.example", query: "up" } };
const checks = [{ name: "errors", source, threshold: { max: "0.1" } }];
const analysis: Promotion = { analysis: { checks, interval: "1m", failureLimit: 2 } };
const value = (number: number): MetricAnswer => ({ kind: "value", value: number });
const broken = sourceError("the source answered status 503");

interface Look {
  readonly after?: number;
  readonly ready?: boolean;
  readonly analysis?: GateMetrics["analysis"];
  readonly fastTrack?: MetricAnswer;
}
const judge = (promotion: Promotion, state: PromotionState | undefined, o: Look = {}): PromotionState =>
  judgeGate({
    promotion,
    state,
    token: false,
    ready: o.ready ?? true,
    pods: undefined,
    metrics: { analysis: o.analysis, fastTrack: o.fastTrack },
    now: start + (o.after ?? 0),
    retryMs: 10 * minute,
  });

describe("an analysis", () => {
  test("without an answer yet holds, with a good one lets pass", () => {
    const asked = judge(analysis, undefined);
    expect(asked).toEqual({ phase: "Analyzing", since: at(0) });
    expect(judge(analysis, asked, { analysis: [value(0.1)], after: 500 })).toEqual({
      phase: "Promoted",
      since: at(0),
      analysisFailures: 0,
      lastAnalysis: { time: at(1_000), passed: true, checks: [{ name: "errors", value: "0.1", ok: true }] },
    });
  });

  test("[40.13] only a due evaluation counts: the third failure in a row blocks, recovery lifts it, the deadline stays", () => {
    const promotion: Promotion = { ...analysis, soak: "10m" };
    let state = judge(promotion, undefined, { analysis: [value(5)] });
    expect(state).toMatchObject({ phase: "Soaking", analysisFailures: 1, soakUntil: at(10 * minute) });
    for (let wake = 1; wake <= 10; wake++)
      state = judge(promotion, state, { analysis: [value(5)], after: wake * 5_000 });
    expect(state.analysisFailures).toBe(1);
    state = judge(promotion, state, { analysis: [value(5)], after: minute });
    expect(state).toMatchObject({ phase: "Soaking", analysisFailures: 2 });
    state = judge(promotion, state, { analysis: [value(5)], after: 2 * minute });
    expect(state).toMatchObject({ phase: "Blocked", analysisFailures: 3 });
    // Nothing is due, or nothing is answered: it stays blocked.
    expect(judge(promotion, state, { after: 9 * minute }).phase).toBe("Blocked");
    state = judge(promotion, state, { analysis: [value(0)], after: 9 * minute });
    expect(state).toMatchObject({ phase: "Soaking", analysisFailures: 0, soakUntil: at(10 * minute) });
    expect(judge(promotion, state, { after: 10 * minute }).phase).toBe("Promoted");
  });

  test("a failure within the limit keeps what has soaked from being promoted", () => {
    const state = judge(analysis, undefined, { analysis: [value(5)] });
    expect(state).toMatchObject({ phase: "Analyzing", analysisFailures: 1 });
    expect(judge({ ...analysis, requireManualPromotion: true }, state, { after: 1_000 }).phase).toBe("Analyzing");
  });

  test.each([
    ["Hold", false, 1],
    [undefined, false, 1],
    ["Allow", true, 0],
  ] as const)("a source that cannot be read with onSourceError %s", (onSourceError, ok, analysisFailures) => {
    const promotion: Promotion = {
      analysis: { checks, failureLimit: 2, ...(onSourceError === undefined ? {} : { onSourceError }) },
    };
    expect(judge(promotion, undefined, { analysis: [broken] })).toMatchObject({
      analysisFailures,
      lastAnalysis: { passed: ok, checks: [{ name: "errors", ok, error: "the source answered status 503" }] },
    });
  });

  test.each([
    [{ min: "1", max: "2" }, 1, true],
    [{ min: "1", max: "2" }, 2, true],
    [{ min: "1", max: "2" }, 0.99, false],
    [{ min: "1", max: "2" }, 2.01, false],
    [{ min: "-1e2" }, -100, true],
    [{ max: "0" }, 1e-9, false],
  ])("bounds are inclusive: %j, %d", (threshold, number, ok) => {
    const promotion: Promotion = { analysis: { checks: [{ name: "errors", source, threshold }] } };
    expect(judge(promotion, undefined, { analysis: [value(number)] }).lastAnalysis?.passed).toBe(ok);
  });

  test("a dry run records and never holds", () => {
    const promotion: Promotion = { analysis: { checks, dryRun: true } };
    expect(judge(promotion, undefined, { analysis: [value(5)] })).toMatchObject({
      phase: "Promoted",
      analysisFailures: 1,
      lastAnalysis: { passed: false },
    });
  });
});

describe("a fast track", () => {
  const promotion: Promotion = { soak: "30m", fastTrack: { source, max: "0.5", after: "5m" } };
  const soaking = judge(promotion, undefined);

  test("[40.12] a good metric ends the soak, not before `after`", () => {
    expect(judge(promotion, soaking, { fastTrack: value(0), after: 5 * minute - 1 }).phase).toBe("Soaking");
    expect(judge(promotion, soaking, { fastTrack: value(0.5), after: 5 * minute }).phase).toBe("Promoted");
  });

  test("[40.12] one that is bad or cannot be read means to soak for all of the time", () => {
    for (const fastTrack of [value(0.51), broken, undefined]) {
      const look = fastTrack === undefined ? {} : { fastTrack };
      expect(judge(promotion, soaking, { ...look, after: 29 * minute })).toEqual(soaking);
      expect(judge(promotion, soaking, { ...look, after: 30 * minute }).phase).toBe("Promoted");
    }
  });

  test("ends the soak alone", () => {
    const manual = { ...promotion, requireManualPromotion: true };
    const awaiting = judge(manual, soaking, { fastTrack: value(0), after: 5 * minute });
    expect(awaiting.phase).toBe("AwaitingManual");
    expect(judge(manual, awaiting, { fastTrack: value(9), after: 6 * minute }).phase).toBe("AwaitingManual");
  });
});
