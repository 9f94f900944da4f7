import { describe, expect, test } from "vitest";
import type { ErrorBudget } from "../../api/stage-set.ts";
import type { MetricAnswer } from "../metrics/metric-answer.ts";
import { judgeBudget, type BudgetFreeze } from "./budget.ts";

const start = Date.parse("2026-03-01T10:00:00Z");
const source = { webhook: { url: "http://slo/", jsonPath: "{.left}" } };
const budget = (more: Partial<ErrorBudget> = {}): ErrorBudget => ({
  source,
  freezeThreshold: "0",
  resumeThreshold: "0.05",
  ...more,
});
const error: MetricAnswer = { kind: "sourceError", problem: "the server answered 404, want 2xx" };
const value = (number: number): MetricAnswer => ({ kind: "value", value: number });

/** Judges one answer after the other, a minute apart, each with the record the one before left. */
function judged(of: ErrorBudget, answers: readonly MetricAnswer[], first?: BudgetFreeze) {
  let record = first;
  return answers.map((answer, minute) => {
    const now = start + minute * 60_000;
    const verdict = judgeBudget({ budget: of, stage: undefined, record, answer, counted: false, now });
    const again = { budget: of, stage: undefined, record: verdict.record, answer, counted: true, now };
    expect(judgeBudget(again), "judged again with its own record").toEqual(verdict);
    record = verdict.record;
    return verdict;
  });
}
const reasons = (of: ErrorBudget, answers: readonly MetricAnswer[], first?: BudgetFreeze) =>
  judged(of, answers, first).map(({ hold }) => hold?.reason ?? "-");

describe("a budget with freezeThreshold 0 and resumeThreshold 0.05", () => {
  test("[40.6] freezes below 0 only, stays frozen below 0.05, and resumes at it; since is when it froze", () => {
    const verdicts = judged(budget(), [value(0.02), value(0), value(-0.1), value(0.03), value(0.05), value(0.03)]);
    expect(verdicts.map(({ hold }) => hold?.reason ?? "-")).toEqual([
      "-",
      "-",
      "BudgetExhausted",
      "BudgetExhausted",
      "-",
      "-",
    ]);
    const since = "2026-03-01T10:02:00Z";
    expect(verdicts.map(({ record }) => record)).toEqual([
      undefined,
      undefined,
      { remaining: "-0.1", freezeThreshold: "0", resumeThreshold: "0.05", since },
      { remaining: "0.03", freezeThreshold: "0", resumeThreshold: "0.05", since },
      undefined,
      undefined,
    ]);
    expect(verdicts[3]?.hold?.message).toBe(
      "error budget is exhausted: 0.03 remaining, frozen below 0, resumes at 0.05",
    );
  });

  test("without resumeThreshold it resumes where it freezes, and the record says so", () => {
    const plain: ErrorBudget = { source, freezeThreshold: "0.1" };
    const [frozen, resumed] = judged(plain, [value(0.09), value(0.1)]);
    expect(frozen?.record).toMatchObject({ freezeThreshold: "0.1", resumeThreshold: "0.1" });
    expect(resumed?.record).toBeUndefined();
  });

  test("remaining is the shortest decimal, also of very small and very large numbers", () => {
    const always = budget({ freezeThreshold: "1e300", resumeThreshold: "1e300" });
    expect(judged(always, [1 / 3, 1e-9, 1e21, -0, 5].map(value)).map(({ record }) => record?.remaining)).toEqual([
      "0.3333333333333333",
      "1e-9",
      "1e+21",
      "0",
      "5",
    ]);
  });

  test("the message of a stage's budget names the stage", () => {
    const verdict = judgeBudget({
      budget: budget(),
      stage: "two",
      record: undefined,
      answer: value(-1),
      counted: false,
      now: start,
    });
    expect(verdict.hold?.message).toMatch(/^error budget of stage "two" is exhausted: -1 remaining/);
  });
});

describe("a source that cannot be read", () => {
  test("[40.7] Allow: a freeze stays for one and two failures, opens at the third; a number in between starts anew", () => {
    expect(reasons(budget(), [value(-1), error, error, error, error])).toEqual([
      "BudgetExhausted",
      "BudgetExhausted",
      "BudgetExhausted",
      "-",
      "-",
    ]);
    const verdicts = judged(budget(), [value(-1), error, error, value(-2), error, error, error]);
    expect(verdicts.map(({ record }) => record?.sourceErrors)).toEqual([undefined, 1, 2, undefined, 1, 2, undefined]);
    expect(verdicts.map(({ hold }) => hold !== undefined)).toEqual([true, true, true, true, true, true, false]);
  });

  test("[40.7] Allow: what is not frozen proceeds; Hold: it is held, and a freeze stays on record", () => {
    expect(reasons(budget(), [error, error])).toEqual(["-", "-"]);
    expect(reasons(budget({ onSourceError: "Hold" }), [error])).toEqual(["BudgetSourceUnavailable"]);
    const held = judged(budget({ onSourceError: "Hold" }), [value(-1), error, error, error, error]);
    expect(held.map(({ hold }) => hold?.reason)).toEqual([
      "BudgetExhausted",
      ...Array.from({ length: 4 }, () => "BudgetSourceUnavailable"),
    ]);
    expect(held.at(-1)?.record).toEqual(held[0]?.record);
    expect(held.at(-1)?.hold?.message).toBe("error budget cannot be read: the server answered 404, want 2xx");
  });
});

describe("a dry run", () => {
  test("is on record and holds nothing, whatever its source says", () => {
    for (const onSourceError of ["Allow", "Hold"] as const) {
      const verdicts = judged(budget({ dryRun: true, onSourceError }), [value(-1), error, value(-2), value(1)]);
      expect(verdicts.every(({ hold }) => hold === undefined)).toBe(true);
      expect(verdicts.map(({ record }) => record?.remaining)).toEqual(["-1", "-1", "-2", undefined]);
      expect(verdicts[0]?.record?.dryRun).toBe(true);
    }
  });

  test("a freeze on record becomes one of a dry run with the next number, and the other way round", () => {
    const [frozen] = judged(budget(), [value(-1)]);
    const [dry] = judged(budget({ dryRun: true }), [value(-1)], frozen?.record);
    expect(dry?.record).toEqual({ ...frozen?.record, dryRun: true });
    const [enforced] = judged(budget(), [value(-1)], dry?.record);
    expect(enforced?.record).toEqual(frozen?.record);
  });
});
