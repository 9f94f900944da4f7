import { expect, test } from "vitest";
import { MigrationWorld, shownCall } from "../../../test/support/migration-world.ts";
import { lastCompletion, withNewStamp } from "../actions/last-completion.ts";

const sourceRef = { name: "app" };
const work = { name: "work", wait: {} };
const spec = {
  stages: [{ name: "db", sourceRef, actions: { pre: [{ name: "each", wait: {} }] } }],
  version: { value: "1.0.0", allowDowngrade: true },
  migrations: [{ name: "idx", to: "1.1.0", stage: "db", actions: [work], down: [work] }],
};

/** The stamps of the runs of one call, in their order. */
function stampsOf(world: MigrationWorld, shown: string): readonly string[] {
  const stamps: string[] = [];
  world.onRun = (call) => {
    if (shownCall(call) === shown) stamps.push(call.after);
  };
  return stamps;
}

test("a step that runs again, after it was unwound, is no run of before", () => {
  const world = new MigrationWorld(spec);
  world.pass();
  const stamps = stampsOf(world, "up db idx/work");
  for (const value of ["1.1.0", "1.0.0", "1.1.0"]) {
    world.edit({ version: { ...spec.version, value } });
    world.pass();
    expect(world.ready).toBe("True Succeeded");
  }
  expect(stamps).toHaveLength(2);
  expect(new Set(stamps).size).toBe(2);
});

test("an action at a revision that returns is no run of before", () => {
  const world = new MigrationWorld(spec);
  const stamps = stampsOf(world, "pre db each");
  for (const revision of ["r1", "r2", "r1"]) {
    world.revision = revision;
    world.pass();
  }
  expect(stamps).toHaveLength(3);
  expect(new Set(stamps).size).toBe(3);
});

test("what goes on after a failure or a crash is the run of before", () => {
  const world = new MigrationWorld({ ...spec });
  world.pass();
  const stamps = stampsOf(world, "up db idx/work");
  world.failing.add("up db idx/work");
  world.edit({ version: { ...spec.version, value: "1.1.0" } });
  world.pass();
  world.pass("time");
  world.crash();
  world.failing.clear();
  world.pass("start");
  expect(world.ready).toBe("True Succeeded");
  expect(stamps.length).toBeGreaterThanOrEqual(3);
  expect(new Set(stamps).size).toBe(1);
});

test("a Lifetime action has the state of its StageLedger for a stamp, which every write of it changes", () => {
  const lifetime = { ...work, scope: "Lifetime" } as const;
  const status = { lastActionCompletion: "2026-03-01T10:00:00.000Z" };
  const ledger = { uid: "u", resourceVersion: "7", baseline: [], status: {} };
  expect(lastCompletion(lifetime, { status, ledger })).toBe("7");
  expect(lastCompletion(work, { status, ledger })).toBe(status.lastActionCompletion);
});

test("a stamp never comes back, also where the clock does", () => {
  const at = Date.parse("2026-03-01T10:00:00Z");
  const first = withNewStamp({}, at);
  const second = withNewStamp(first, at - 60_000);
  expect(second.lastActionCompletion).toBe("2026-03-01T10:00:00.001Z");
  for (const lastActionCompletion of ["nonsense", "+275760-09-13T00:00:00.000Z"])
    expect(withNewStamp({ lastActionCompletion }, at).lastActionCompletion).toBe("2026-03-01T10:00:00.000Z");
});
