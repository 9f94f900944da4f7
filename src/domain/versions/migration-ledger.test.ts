import { describe, expect, test } from "vitest";
import type { Migration } from "../../api/stage-set.ts";
import {
  afterRun,
  completionKey,
  nothingRecorded,
  readLedger,
  type Recorded,
  rungsOf,
  stepKey,
  stepsLeft,
  unmatchedEntries,
  withCompletion,
  withStep,
} from "./migration-ledger.ts";

const step = (name: string) => ({ name, wait: { duration: "1s" } });
const migration = (name: string, rest: Partial<Migration> = {}): Migration => ({
  name,
  to: "1.2.0",
  actions: [step("copy"), step("down"), step("swap/all")],
  down: [step("copy")],
  ...rest,
});
const one = (name = "split") => {
  const rungs = rungsOf([migration(name)]);
  const [rung] = rungs;
  if (rung === undefined) throw new Error("no rung");
  return { rungs, rung };
};
const record = (rungs: ReturnType<typeof rungsOf>, recorded: Recorded, index = 0) => {
  const rung = rungs[index];
  return rung && readLedger(rungs, recorded).get(rung);
};

describe("entries of the migration ledger", () => {
  test.each(["split", "a@b", "a/b", "a@0123456789ab", "a@0123456789ab/down", "ä ö", "down"])(
    "name %j: both directions are told apart, also with a step named like one",
    (name) => {
      const { rungs, rung } = one(name);
      const prefix = `${name}@${rung.digest}`;
      expect(completionKey(rung, "up")).toBe(prefix);
      expect(completionKey(rung, "down")).toBe(`${prefix}/down`);
      expect(stepKey(rung, "up", step("swap/all"))).toBe(`${prefix}/swap/all`);
      expect(stepKey(rung, "down", step("copy"))).toBe(`${prefix}/down/copy`);
      // `…/down` is a complete unwinding in one list and a step up in the other.
      expect(record(rungs, { migrations: [`${prefix}/down`], actions: [] })).toEqual({
        up: "none",
        down: "complete",
        changed: false,
      });
      expect(record(rungs, { migrations: [], actions: [`${prefix}/down`] })).toEqual({
        up: "begun",
        down: "none",
        changed: false,
      });
      expect(record(rungs, { migrations: [], actions: [`${prefix}/down/copy`] })).toEqual({
        up: "none",
        down: "begun",
        changed: false,
      });
      expect(record(rungs, { migrations: [prefix], actions: [] })).toEqual({
        up: "complete",
        down: "none",
        changed: false,
      });
    },
  );

  test("an entry of one migration counts for no other whose name it begins with", () => {
    const rungs = rungsOf([migration("a"), migration("a@0123456789ab/b")]);
    const recorded = { migrations: [`a@0123456789ab/b@${rungs[1]?.digest ?? ""}`], actions: [] };
    expect(record(rungs, recorded, 0)).toEqual({ up: "none", down: "none", changed: false });
    expect(record(rungs, recorded, 1)?.up).toBe("complete");
  });

  test.each(["split@0123456789ab", "split@0123456789ab/copy"])("another digest: %j is begun and changed", (entry) => {
    const { rungs } = one();
    const list = entry.endsWith("copy") ? "actions" : "migrations";
    expect(record(rungs, { ...nothingRecorded, [list]: [entry] })).toEqual({
      up: "begun",
      down: "none",
      changed: true,
    });
  });

  test.each([
    "split",
    "split@",
    "split@0123",
    "split@0123456789abc",
    "split@0123456789aG",
    "splits@0123456789ab",
    "",
    "/",
  ])("%j is no entry of it", (entry) => {
    const { rungs } = one();
    const recorded = { migrations: [entry], actions: [entry] };
    expect(record(rungs, recorded)).toEqual({ up: "none", down: "none", changed: false });
    expect(unmatchedEntries(rungs, recorded)).toEqual([entry, entry]);
  });

  test("the first entry of a direction drops the other's; completing drops other digests'", () => {
    const { rungs, rung } = one();
    const foreign = { migrations: ["other@0123456789ab"], actions: ["split@0123456789ab/copy"] };
    const begun = withStep(rungs, foreign, { rung, direction: "up", action: step("copy") });
    expect(begun.actions).toEqual(["split@0123456789ab/copy", stepKey(rung, "up", step("copy"))]);
    expect(stepsLeft(rung, "up", begun).map(({ name }) => name)).toEqual(["down", "swap/all"]);
    expect(withStep(rungs, begun, { rung, direction: "up", action: step("copy") })).toEqual(begun);
    const complete = withCompletion(rungs, begun, { rung, direction: "up" });
    expect(complete).toEqual({
      migrations: ["other@0123456789ab", completionKey(rung, "up")],
      actions: [stepKey(rung, "up", step("copy"))],
    });
    const turned = withStep(rungs, complete, { rung, direction: "down", action: step("copy") });
    expect(turned).toEqual({ migrations: ["other@0123456789ab"], actions: [stepKey(rung, "down", step("copy"))] });
    expect(unmatchedEntries(rungs, turned)).toEqual(["other@0123456789ab"]);
  });

  test("after a run only leftovers stay on record", () => {
    const rungs = rungsOf([migration("a"), migration("b")]);
    const [a, b] = rungs;
    if (a === undefined || b === undefined) throw new Error("no rungs");
    let recorded = withCompletion(rungs, nothingRecorded, { rung: a, direction: "up" });
    recorded = withStep(rungs, recorded, { rung: b, direction: "up", action: step("copy") });
    expect(afterRun(rungs, recorded, [])).toEqual(nothingRecorded);
    expect(afterRun(rungs, recorded, [b])).toEqual({ migrations: [], actions: [stepKey(b, "up", step("copy"))] });
  });

  test("10,000 hostile entries are read in time in proportion to their length", () => {
    const rungs = rungsOf(Array.from({ length: 200 }, (_, index) => migration(`m${index}`)));
    const actions = Array.from({ length: 10_000 }, (_, index) => `m${index}${"@0123456789ab/".repeat(20)}`);
    expect(readLedger(rungs, { migrations: [], actions }).size).toBe(200);
    expect(record(rungs, { migrations: [], actions }, 199)?.up).toBe("begun");
  });
});
