import { expect, test } from "vitest";
import { MigrationWorld } from "../../../test/support/migration-world.ts";
import { stageEntry } from "../status.ts";

const sourceRef = { name: "app" };
const actions = { post: [{ name: "seed", scope: "Version", wait: {} } as const] };
const spec = {
  stages: [
    { name: "db", sourceRef, actions },
    { name: "app", sourceRef },
  ],
  version: { value: "1.0.0" },
};

const phaseOf = (world: MigrationWorld, stage: string) => stageEntry(world.status, stage)?.phase;

/** As five passes leave it that ended in a failure of a Lifetime action. */
function halt(world: MigrationWorld): void {
  world.status = { ...world.status, actionFailureCount: 5 };
  world.crash();
}

test("a stage with Version actions to run does not become Ready under the halt of actions", () => {
  const world = new MigrationWorld(spec);
  world.pass();
  world.edit({ version: { value: "1.1.0" } });
  world.revision = "r2";
  world.failing.add("post db seed");
  world.pass();
  expect(phaseOf(world, "db")).toBe("Failed");
  halt(world);
  world.pass("start");
  world.pass("time");
  expect(world.ready).toBe("False ActionDirty");
  expect(phaseOf(world, "db")).not.toBe("Ready");
  world.failing.clear();
  world.annotations = { "reconcile.fluxcd.io/requestedAt": "repaired" };
  world.pass("annotation");
  expect(world.ready).toBe("True Succeeded");
  expect(world.effects).toContain("post db seed");
});

test("one whose Version actions are done stays Ready under it", () => {
  const world = new MigrationWorld(spec);
  world.pass();
  world.edit({ version: { value: "1.1.0" } });
  world.revision = "r2";
  world.pass();
  halt(world);
  world.pass("start");
  expect(world.ready).toBe("False ActionDirty");
  expect([phaseOf(world, "db"), phaseOf(world, "app")]).toEqual(["Ready", "Ready"]);
});
