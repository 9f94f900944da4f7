import { describe, expect, test } from "vitest";
import { allowed, at, decide, type Options, order, planOf, play, reason, step } from "../../../test/support/ladder.ts";
import { nothingRecorded, stepsLeft } from "./migration-ledger.ts";

describe("the worked examples", () => {
  test("[30.27] – → 1.5.0: adoption, nothing runs", () => {
    const decision = decide(at(undefined), "1.5.0", { rungs: undefined, rules: { approvalMode: "Always" } });
    expect(reason(decision)).toBe("adoption");
    expect(play(at(undefined), decision).deployed).toBe("1.5.0");
  });

  test("[30.27] 1.2.0 → 1.5.0: by stage, and the inverted order is told", () => {
    const decision = decide(at("1.2.0"), "1.5.0");
    expect(order(decision)).toBe("[db] idx, drop [app] split");
    const { inverted, apply } = planOf(decision);
    expect(apply.map(({ rung }) => rung.migration.name)).toEqual(["idx", "split", "drop"]);
    expect([inverted?.higher.migration.name, inverted?.lower.migration.name]).toEqual(["drop", "split"]);
  });

  test.each<[string, string, string]>([
    ["1.3.0", "1.4.1", "[app] split"],
    ["0.9.0", "1.4.0", "[db] idx"],
    ["1.9.0-rc.1", "2.0.0", "[db] v2"],
    ["1.9.0", "2.0.0-rc.1", ""],
    ["2.0.0-rc.1", "2.0.0", "[db] v2"],
    ["v1.4", "1.4.0", ""],
    ["1.4.0", "1.4.9", ""],
  ])("[30.27] %s → %s runs %j", (from, to, expected) => {
    expect(order(decide(at(from), to))).toBe(expected);
  });

  test("[30.27] 1.4.0 → 1.4.9: OnMigrations does not hold, Always does", () => {
    expect(reason(decide(at("1.4.0"), "1.4.9", { rules: { approvalMode: "OnMigrations" } }))).toBe("run");
    expect(reason(decide(at("1.4.0"), "1.4.9", { rules: { approvalMode: "Always" } }))).toBe("held");
  });

  test("[30.27] 1.9.0 → 2.0.0-rc.1 → 2.0.0: the boundary is crossed by the second", () => {
    const rules = { requireMigrationCoverage: true };
    expect(reason(decide(at("1.9.0"), "2.0.0-rc.1", { rules }))).toBe("MigrationCoverageMissing");
    expect(order(decide(at("2.0.0-rc.1"), "2.0.0", { rules }))).toBe("[db] v2");
  });

  test("[30.27] 1.4.2 → 1.2.0, allowed: newest first, split moved to db", () => {
    const decision = decide(at("1.4.2"), "1.2.0", allowed);
    expect(order(decision)).toBe("[db] down split, down idx");
    expect(planOf(decision).unwind.map(({ stage, placed }) => [stage, placed])).toEqual([
      ["app", "db"],
      ["db", "db"],
    ]);
    expect(reason(decide(at("1.4.2"), "1.2.0"))).toBe("DowngradeNotAllowed");
  });

  test("[30.27] 1.5.0 → 1.4.0, allowed: refused for drop", () => {
    const decision = decide(at("1.5.0"), "1.4.0", allowed);
    expect(decision).toMatchObject({
      reason: "DowngradeRequiresMigration",
      message:
        'Cannot go from version 1.5.0 to 1.4.0: migration "drop" to 1.5.0 has no down steps, which makes it irreversible',
    });
  });

  test("[30.27] 1.2.0 → 1.4.0, split fails, back to 1.2.0: unwound if allowed, else left and resumed", () => {
    const begun = play(at("1.2.0"), decide(at("1.2.0"), "1.4.0"), { steps: 3 });
    expect(begun.deployed).toBe("1.2.0");
    expect(order(decide(begun, "1.2.0", allowed))).toBe("[db] down split, down idx");
    const left = decide(begun, "1.2.0");
    expect(order(left)).toBe("");
    expect(planOf(left).leftovers.map(({ migration }) => migration.name)).toEqual(["split", "idx"]);
    const back = play(begun, left);
    expect(back.recorded).toEqual(begun.recorded);
    const again = decide(back, "1.4.0");
    expect(order(again)).toBe("[app] split");
    const [split] = planOf(again).apply;
    expect(split && stepsLeft(split.rung, "up", back.recorded).map(({ name }) => name)).toEqual(["b"]);
    expect(play(back, again)).toEqual({ deployed: "1.4.0", recorded: nothingRecorded });
  });

  test("[30.27] 1.2.0 → 1.4.0, no step of split ran: U is idx alone", () => {
    const begun = play(at("1.2.0"), decide(at("1.2.0"), "1.4.0"), { steps: 2 });
    expect(order(decide(begun, "1.2.0", allowed))).toBe("[db] down idx");
  });

  test("[30.27] 1.4.2 → 1.2.0 in flight, split unwound, back to 1.4.2: split runs again, to its end", () => {
    const begun = play(at("1.4.2"), decide(at("1.4.2"), "1.2.0", allowed), { steps: 1 });
    const back = decide(begun, "1.4.2", allowed);
    expect(order(back)).toBe("[app] split");
    const half = play(begun, back, { steps: 1 });
    expect(order(decide(half, "1.4.2", allowed))).toBe("[app] split");
    expect(play(half, decide(half, "1.4.2", allowed))).toEqual({ deployed: "1.4.2", recorded: nothingRecorded });
  });

  test("[30.27] 1.4.0 → 3.0.0, coverage required: v2 covers it", () => {
    const decision = decide(at("1.4.0"), "3.0.0", { rules: { requireMigrationCoverage: true } });
    expect(order(decision)).toBe("[db] drop, v2");
    const half = play(at("1.4.0"), decision, { steps: 2 });
    expect(order(decide(half, "3.0.0", { rules: { requireMigrationCoverage: true } }))).toBe("");
  });

  test("[30.35] coverage required and only a 1.5.0 migration: 1.4.0 → 2.0.0 is refused, 1.4.0 → 1.5.0 and down are not", () => {
    const options: Options = {
      rules: { requireMigrationCoverage: true, allowDowngrade: true },
      migrations: [{ name: "only", to: "1.5.0", down: [step("a")] }],
    };
    expect(reason(decide(at("1.4.0"), "2.0.0", options))).toBe("MigrationCoverageMissing");
    expect(reason(decide(at("1.4.0"), "1.5.0", options))).toBe("run");
    expect(reason(decide(at("2.0.0"), "1.4.0", options))).toBe("run");
    const empty: Options = { ...options, migrations: [{ name: "nothing", to: "2.0.0-0" }] };
    expect(reason(decide(at("1.4.0"), "2.0.0", empty))).toBe("run");
  });

  test("[30.27] v1.4 → 1.4.0 is no transition; the ladder is not asked for", () => {
    expect(reason(decide(at("v1.4"), "1.4.0", { rungs: undefined, rules: { approvalMode: "Always" } }))).toBe("run");
    expect(reason(decide(at("1.4.0"), "1.4.1", { rungs: undefined }))).toBe("needsLadder");
    const begun = play(at("1.2.0"), decide(at("1.2.0"), "1.4.0"), { steps: 1 });
    expect(reason(decide(begun, "1.2.0", { rungs: undefined }))).toBe("needsLadder");
  });
});
