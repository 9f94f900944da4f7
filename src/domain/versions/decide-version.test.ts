import { describe, expect, test } from "vitest";
import {
  allowed,
  at,
  decide,
  ladder,
  type Options,
  order,
  planOf,
  play,
  reason,
  step,
} from "../../../test/support/ladder.ts";
import { rungsOf } from "./migration-ledger.ts";
import { pendingMigrations } from "./plan-transition.ts";

const digestOf = (name: string) => rungsOf(ladder).find(({ migration }) => migration.name === name)?.digest;

describe("what is refused, held and adopted", () => {
  test.each([
    ["", undefined, {}, 'spec.version.value is empty, want a version such as "1.2.0"'],
    ["latest", "1.0.0", {}, 'spec.version.value is "latest", want a version such as "1.2.0"'],
    ["1.0.0", "main", {}, 'the deployed version, status.version, is "main", want a version such as "1.2.0"'],
    [
      "1.0.0",
      undefined,
      { "stages.metio.wtf/baseline-version": "x" },
      'the annotation stages.metio.wtf/baseline-version is "x", want a version such as "1.2.0"',
    ],
  ])("InvalidVersion: %j from %j", (wanted, deployed, annotations, message) => {
    expect(decide(at(deployed), wanted, { annotations })).toMatchObject({ reason: "InvalidVersion", message });
  });

  test("baseline-version stands in for what is deployed, and only while nothing is", () => {
    const annotations = { "stages.metio.wtf/baseline-version": "1.2.0" };
    expect(order(decide(at(undefined), "1.5.0", { annotations }))).toBe("[db] idx, drop [app] split");
    expect(reason(decide(at(undefined), "v1.2", { annotations }))).toBe("adoption");
    expect(order(decide(at("1.4.0"), "1.5.0", { annotations }))).toBe("[db] drop");
  });

  test("a stage that is not there is told with the migration; an anchor comes before a name", () => {
    const migrations = [{ name: "lost", to: "1.1.0", stage: "old" }];
    expect(decide(at("1.0.0"), "1.1.0", { migrations })).toMatchObject({
      reason: "MigrationStageNotFound",
      message: 'Cannot place migration "lost": "old" is neither the migrationAnchor nor the name of a stage',
    });
    const anchored = [{ name: "db" }, { name: "app", migrationAnchor: "old" }];
    const plan = planOf(decide(at("1.0.0"), "1.1.0", { migrations, stages: anchored }));
    expect(plan.apply.map(({ placed }) => placed)).toEqual(["app"]);
    // Of no concern while it is not crossed.
    expect(reason(decide(at("1.1.0"), "1.2.0", { migrations }))).toBe("run");
  });

  test("equal boundaries: in the order of the ladder, unwound in reverse", () => {
    const migrations = ["a", "b", "c"].map((name) => ({ name, to: "1.1.0", down: [step("x")] }));
    expect(order(decide(at("1.0.0"), "1.1.0", { migrations }))).toBe("[db] a, b, c");
    expect(order(decide(at("1.1.0"), "1.0.0", { migrations, ...allowed }))).toBe("[db] down c, down b, down a");
  });

  test("pending migrations say what runs, unwindings first", () => {
    const plan = planOf(decide(at("1.4.2"), "1.2.0", allowed));
    expect(pendingMigrations(plan)).toEqual([
      {
        name: "split",
        to: "1.4.0",
        from: ">=1.0.0, <1.4.0",
        stage: "db",
        actions: ["wait"],
        digest: digestOf("split"),
      },
      { name: "idx", to: "1.3.0", stage: "db", actions: ["wait"], digest: digestOf("idx") },
    ]);
  });

  const always = { approvalMode: "Always" } as const;
  const approved = (version: string) => ({ annotations: { "stages.metio.wtf/approved-version": version } });
  test.each<[string, Options, string]>([
    ["nobody approved", {}, "held"],
    ["v2.0.0 for 2.0.0", approved("v2.0.0"), "run"],
    ["2 for 2.0.0", approved(" 2 "), "run"],
    ["another version", approved("2.0.1"), "held"],
    ["nonsense", approved("yes"), "held"],
    ["a directed rollback", { directed: true }, "run"],
    ["a stage was entered for it", { stageVersions: ["1.2.0", "2.0"] }, "run"],
    ["a stage was entered for another one", { stageVersions: ["1.2.0", "1.9.0"] }, "held"],
  ])("approval: %s", (_title, options, expected) => {
    expect(reason(decide(at("1.2.0"), "2.0.0", { ...options, rules: always }))).toBe(expected);
  });

  test("what has begun goes on without the annotation; it covers no other version", () => {
    const begun = play(at("1.2.0"), decide(at("1.2.0"), "1.5.0"), { steps: 1 });
    expect(reason(decide(begun, "1.5.0", { rules: always }))).toBe("run");
    expect(reason(decide(begun, "1.6.0", { rules: always, stageVersions: ["1.5.0"] }))).toBe("held");
    const left = play(at("1.2.0"), decide(at("1.2.0"), "1.4.0"), { steps: 3 });
    expect(reason(decide(left, "1.2.1", { rules: always }))).toBe("held");
  });

  test("the message names version, migrations and annotation", () => {
    expect(decide(at("1.2.0"), "v1.5", { rules: { approvalMode: "OnMigrations" } })).toMatchObject({
      kind: "held",
      message:
        'version 1.5.0 waits for approval, with 3 migrations to run: set the annotation stages.metio.wtf/approved-version to "1.5.0"',
    });
  });

  test("builds of one version: no transition, but another version to approve", () => {
    expect(order(decide(at("1.4.0+a"), "1.4.0+b"))).toBe("");
    expect(reason(decide(at("1.4.0+a"), "1.4.0+b", { rules: always }))).toBe("held");
  });
});
