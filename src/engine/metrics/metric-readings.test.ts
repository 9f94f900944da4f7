import { describe, expect, test } from "vitest";
import type { MetricAnswer } from "../../domain/metrics/metric-answer.ts";
import { createManualClock } from "../../lib/clock.ts";
import { createMetricReadings, type MetricQuestion } from "./metric-readings.ts";

const key = { namespace: "apps", name: "shop" };
const question = (more: Partial<MetricQuestion> = {}): MetricQuestion => ({
  name: "budget",
  source: { webhook: { url: "http://slo/", jsonPath: "{.left}" } },
  as: { kind: "controller" },
  maxAgeMs: 60_000,
  ...more,
});

/** Readings whose queries are answered by the test. */
function start() {
  const clock = createManualClock();
  const open: { readonly signal: AbortSignal; readonly answer: (by: MetricAnswer | Error) => void }[] = [];
  const told = { woken: 0, failed: 0, logged: 0 };
  const count = (): void => {
    told.logged++;
  };
  const logger = { debug: count, info: count, warn: count, error: count, with: () => logger };
  const readings = createMetricReadings({
    read: (_source, { signal }) =>
      new Promise((resolve, reject) => {
        open.push({ signal, answer: (by) => (by instanceof Error ? reject(by) : resolve(by)) });
      }),
    access: () => Promise.reject(new Error("no Secret is to be read")),
    clock,
    logger,
    wake: () => {
      told.woken++;
    },
    failed: () => {
      told.failed++;
    },
  });
  const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return { clock, open, told, readings, settled };
}

describe("readings of metric sources", () => {
  test("a question is asked once, and its answer wakes the StageSet and is used until it is too old", async () => {
    const { clock, open, told, readings, settled } = start();
    for (let look = 0; look < 3; look++) expect(readings.latest(key, question())).toBeUndefined();
    expect(open).toHaveLength(1);
    clock.advance(90_000); // It is young when it comes, however long that took.
    open[0]?.answer({ kind: "value", value: 1 });
    await settled();
    expect(told).toEqual({ woken: 1, failed: 0, logged: 0 });
    expect(readings.latest(key, question())?.answer).toEqual({ kind: "value", value: 1 });
    clock.advance(59_999);
    expect(readings.latest(key, question())).toBeDefined();
    clock.advance(1);
    expect(readings.latest(key, question())).toBeUndefined();
    expect(open).toHaveLength(2);
  });

  test("an interval of nothing is one of a second", async () => {
    const { clock, open, readings, settled } = start();
    readings.latest(key, question({ maxAgeMs: 0 }));
    open[0]?.answer({ kind: "value", value: 1 });
    await settled();
    clock.advance(999);
    expect(readings.latest(key, question({ maxAgeMs: 0 }))).toBeDefined();
    clock.advance(1);
    expect(readings.latest(key, question({ maxAgeMs: 0 }))).toBeUndefined();
  });

  test("another source, or another identity, is another question: what was asked before is dropped", async () => {
    const { open, told, readings, settled } = start();
    readings.latest(key, question());
    readings.latest(key, question({ as: { kind: "serviceAccount", name: "deployer" } }));
    expect(open.map(({ signal }) => signal.aborted)).toEqual([true, false]);
    open[0]?.answer({ kind: "value", value: 1 });
    await settled();
    expect(told.woken).toBe(0);
    open[1]?.answer({ kind: "value", value: 2 });
    await settled();
    const asked = question({ as: { kind: "serviceAccount", name: "deployer" } });
    expect(readings.latest(key, asked)?.answer).toEqual({ kind: "value", value: 2 });
  });

  test("what gave no number is counted and an answer like others; so is a bug, which is logged", async () => {
    const { open, told, readings, settled } = start();
    readings.latest(key, question());
    open[0]?.answer({ kind: "sourceError", problem: "the server answered 404, want 2xx" });
    readings.latest(key, question({ name: "other" }));
    open[1]?.answer(new TypeError("a bug"));
    await settled();
    expect(told).toEqual({ woken: 2, failed: 2, logged: 1 });
    expect(readings.latest(key, question({ name: "other" }))?.answer).toMatchObject({ kind: "sourceError" });
  });

  test("a StageSet that is gone, and the end, drop what is under way", async () => {
    const { open, told, readings, settled } = start();
    readings.latest(key, question());
    readings.release(key);
    readings.latest({ ...key, name: "other" }, question());
    readings[Symbol.dispose]();
    expect(open.map(({ signal }) => signal.aborted)).toEqual([true, true]);
    for (const { answer } of open) answer({ kind: "value", value: 1 });
    await settled();
    expect(told.woken).toBe(0);
  });
});
