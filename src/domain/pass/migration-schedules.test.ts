import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Migration, StageSetSpec, StageSetStatus } from "../../api/stage-set.ts";
import { ladder, step } from "../../../test/support/ladder.ts";
import { readyCondition } from "../status.ts";
import { rungsOf } from "../versions/migration-ledger.ts";
import { MigrationWorld } from "../../../test/support/migration-world.ts";

const sourceRef = { name: "app" };
const pre = { pre: [{ name: "stop", wait: {} }] };
const specAt = (value: string, more: Partial<NonNullable<StageSetSpec["version"]>> = {}): StageSetSpec => ({
  stages: [
    { name: "db", sourceRef, actions: pre },
    { name: "app", sourceRef },
  ],
  version: { value, ...more },
  migrations: ladder,
});

/** A StageSet at a version, with its first release behind it. */
function deployed(value: string, more: Partial<NonNullable<StageSetSpec["version"]>> = {}): MigrationWorld {
  const world = new MigrationWorld(specAt(value, more));
  world.pass();
  expect(world.ready).toBe("True Succeeded");
  world.effects.length = 0;
  return world;
}

/** A new revision and a new version at once, as a source brings them. */
function goTo(world: MigrationWorld, value: string, more: Partial<NonNullable<StageSetSpec["version"]>> = {}): void {
  world.edit({ version: { ...world.spec.version, value, ...more } });
  world.revision = `r-${value}`;
}

const migrated = (world: MigrationWorld) => world.effects.filter((each) => /^(up|down) /.test(each));
/** What is written beside what is deployed already. */
const news = (world: MigrationWorld) => world.effects.filter((each) => !each.endsWith(" r1"));
const said = (world: MigrationWorld, reason: string) => world.events.filter((each) => each.includes(` ${reason}: `));

describe("a release with migrations (pure)", () => {
  test("[30.28] runs them in the order of the stages, the version moves at the end, and ledgers are cleared", () => {
    const world = deployed("1.2.0");
    expect(said(world, "MigrationsBaselined")).toHaveLength(1);
    goTo(world, "1.5.0");
    world.onStatus = (status) => {
      const ended = status.lastAppliedRevisions?.["ns/app"] === world.revision;
      expect(status.version).toBe(ended ? "1.5.0" : "1.2.0");
    };
    world.pass();
    expect(world.effects).toEqual([
      ...["up db idx/a", "up db idx/b", "up db drop/a", "pre db stop", "write db r-1.5.0"],
      ...["up app split/a", "up app split/b", "write app r-1.5.0"],
    ]);
    expect(world.ready).toBe("True Succeeded");
    expect(world.status).not.toHaveProperty("executedMigrations");
    expect(world.status).not.toHaveProperty("executedMigrationActions");
    expect(world.status).not.toHaveProperty("pendingMigrations");
    expect(said(world, "MigrationStarted")).toHaveLength(3);
    expect(said(world, "MigrationCompleted")).toHaveLength(3);
    expect(said(world, "MigrationOrderInverted")).toHaveLength(1);
    world.pass("time");
    expect(migrated(world)).toHaveLength(5);
  });

  test("[30.31] unwinds them newest first across stages, and not without allowDowngrade", () => {
    const world = deployed("1.4.2");
    goTo(world, "1.2.0");
    world.pass();
    expect(world.ready).toBe("False DowngradeNotAllowed");
    expect([news(world), world.status.version]).toEqual([[], "1.4.2"]);
    world.effects.length = 0;
    world.edit({ version: { value: "1.2.0", allowDowngrade: true } });
    world.pass();
    expect(world.effects.slice(0, 3)).toEqual(["down db split/a", "down db idx/a", "pre db stop"]);
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "1.2.0"]);
    // Up again: they run again.
    goTo(world, "1.4.2");
    world.pass();
    expect(migrated(world).slice(2)).toEqual(["up db idx/a", "up db idx/b", "up app split/a", "up app split/b"]);
  });

  test("[30.31] a boundary without a way down refuses before anything is moved", () => {
    const world = deployed("1.5.0", { allowDowngrade: true });
    goTo(world, "1.4.0");
    world.pass();
    expect(world.ready).toBe("False DowngradeRequiresMigration");
    expect(world.message).toContain('"drop"');
    expect([news(world), world.status.version]).toEqual([[], "1.5.0"]);
  });

  test("[30.35] a major version without a migration is refused where coverage is required", () => {
    const world = deployed("1.4.0");
    world.edit({ migrations: [{ name: "only", to: "1.5.0" }] });
    goTo(world, "2.0.0", { requireMigrationCoverage: true });
    world.pass();
    expect(world.ready).toBe("False MigrationCoverageMissing");
    expect(news(world)).toEqual([]);
  });

  test("[30.36] baseline-version stands in for what is deployed", () => {
    const world = new MigrationWorld(specAt("1.5.0"));
    world.annotations = { "stages.metio.wtf/baseline-version": "1.2.0" };
    world.pass();
    expect(migrated(world)).toHaveLength(5);
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "1.5.0"]);
    expect(said(world, "MigrationsBaselined")).toEqual([]);
  });

  test("[30.27] a version is spelled anew without a transition", () => {
    const world = deployed("v1.4");
    goTo(world, "1.4.0");
    world.pass();
    expect([migrated(world), world.status.version]).toEqual([[], "1.4.0"]);
  });

  test("a stage that does not change runs the migrations it names, and is asserted again after them", () => {
    const world = deployed("1.2.0");
    // The revision stays: nothing enters.
    world.edit({ version: { value: "1.5.0" } });
    world.pass("spec");
    expect(migrated(world)).toHaveLength(5);
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "1.5.0"]);
  });

  test("of an abandoned upgrade what is done stays on record, and is skipped later", () => {
    const world = deployed("1.2.0");
    goTo(world, "1.4.0");
    world.failing.add("up app split/a");
    world.pass();
    expect(world.ready).toBe("False MigrationFailed");
    goTo(world, "1.2.0");
    world.pass();
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "1.2.0"]);
    expect(said(world, "MigrationAheadOfVersion")).toHaveLength(1);
    world.pass("time");
    expect(said(world, "MigrationAheadOfVersion")).toHaveLength(1);
    world.failing.clear();
    goTo(world, "1.4.0");
    world.pass();
    expect(migrated(world)).toEqual(["up db idx/a", "up db idx/b", "up app split/a", "up app split/b"]);
    expect(world.status).not.toHaveProperty("executedMigrations");
  });

  test("a spec without a version keeps what is recorded of it", () => {
    const world = deployed("1.2.0");
    const { version: _version, migrations: _migrations, ...plain } = world.spec;
    world.spec = plain;
    world.generation++;
    world.revision = "r2";
    world.pass();
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "1.2.0"]);
    goTo(world, "1.3.0");
    world.edit({ migrations: ladder });
    world.pass();
    expect(migrated(world)).toEqual(["up db idx/a", "up db idx/b"]);
  });

  const held = (fromStage: string): MigrationWorld => {
    const version = { fromArtifact: { stage: fromStage, path: "VERSION" }, allowDowngrade: true };
    const source = { prometheus: { address: "http://p", query: "q" } };
    const errorBudget = { source, freezeThreshold: "0.5" };
    const spec = specAt("1.2.0");
    const stages = spec.stages.map((stage) => (stage.name === "app" ? { ...stage, errorBudget } : stage));
    const migrations = ladder.map((each) => ({ ...each, down: [step("back")] }));
    const world = new MigrationWorld({ ...spec, stages, version, migrations });
    world.versionFile = (revision) => (revision === "r1" ? "1.2.0\n" : "v1.5.0\n");
    world.pass();
    expect(world.status.version).toBe("1.2.0");
    world.revision = "r2";
    return world;
  };

  test.each(["db", "app"])("a later stage that comes to be held turns no migration around (version of %s)", (stage) => {
    const world = held(stage);
    world.heldStages.add("app");
    world.pass();
    world.pass();
    expect([world.ready, world.status.version]).toEqual(["False BudgetExhausted", "1.2.0"]);
    expect(migrated(world)).toEqual(["up db idx/a", "up db idx/b", "up db drop/a"]);
    world.heldStages.clear();
    world.pass();
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "v1.5.0"]);
    expect(migrated(world)).toHaveLength(5);
  });

  test("nor does one under which a stage is on record from long ago", () => {
    const world = held("app");
    // As other controllers leave a stage that none of their transitions touched; its pin is a source of its own.
    const [db, app] = world.status.stages ?? [];
    if (db === undefined || app === undefined) throw new Error("there are two stages");
    world.status = { ...world.status, stages: [{ ...db, ledgerVersion: "1.1.0" }, app] };
    world.ownRevisions.set("db", "r1");
    world.heldStages.add("app");
    world.freeze("app");
    world.pass();
    expect([world.status.version, migrated(world)]).toEqual(["1.2.0", []]);
  });

  test("a version that is held back as a whole causes no transition", () => {
    const world = held("app");
    world.windowOpen = false;
    world.edit({ updateWindows: [{ schedule: "0 0 1 1 *", duration: "1h", type: "Allow" }] });
    world.pass();
    expect([world.ready, world.status.version, migrated(world)]).toEqual(["True Succeeded", "1.2.0", []]);
    world.windowOpen = true;
    world.pass();
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "v1.5.0"]);
  });
});

describe("a transition that is held half-way (pure)", () => {
  const updateWindows = [{ schedule: "0 0 1 1 *", duration: "1h", type: "Allow" }] as const;
  /** Sources of their own; the window closes after the first step of `db`, before `app` enters. */
  const halfWay = (): MigrationWorld => {
    const version = { fromArtifact: { stage: "app", path: "VERSION" }, allowDowngrade: true };
    const world = new MigrationWorld({ ...specAt("1.2.0"), version, updateWindows });
    world.ownRevisions.set("db", "d1").set("app", "1.2.0");
    world.versionFile = (revision) => revision;
    world.pass();
    world.ownRevisions.set("app", "1.3.0");
    world.onStep = () => (world.windowOpen = false);
    world.pass();
    world.pass("time");
    world.onStep = () => undefined;
    expect(migrated(world)).toEqual(["up db idx/a", "up db idx/b"]);
    return world;
  };

  test("[30.28] Ready is not True, and the version does not move", () => {
    const world = halfWay();
    expect([world.ready, world.status.version]).toEqual(["False UpdateDeferred", "1.2.0"]);
    world.pass("time");
    expect([world.ready, world.status.version]).toEqual(["False UpdateDeferred", "1.2.0"]);
    world.windowOpen = true;
    world.pass("time");
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "1.3.0"]);
    expect(migrated(world)).toHaveLength(2);
  });

  test.each(["1.5.0", "1.2.0-rc.1", "broken"])(
    "what is published meanwhile, %s, runs nothing and turns nothing around",
    (next) => {
      const world = halfWay();
      world.ownRevisions.set("app", next);
      for (let pass = 0; pass < 3; pass++) {
        world.pass();
        expect([world.ready, world.status.version]).toEqual(["False UpdateDeferred", "1.2.0"]);
      }
      expect(migrated(world)).toHaveLength(2);
    },
  );

  test("a newer version goes on from there once it is let in", () => {
    const world = halfWay();
    world.ownRevisions.set("app", "1.5.0");
    world.pass();
    world.windowOpen = true;
    world.pass("time");
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "1.5.0"]);
    expect(migrated(world)).toEqual([
      ...["up db idx/a", "up db idx/b", "up db drop/a", "up app split/a", "up app split/b"],
    ]);
  });

  test("[30.36] baseline-version is asked for until a version is deployed", () => {
    const world = new MigrationWorld(specAt("1.5.0"));
    const annotations = { "stages.metio.wtf/baseline-version": "1.2.0" };
    world.annotations = annotations;
    world.failing.add("up app split/a");
    world.pass();
    expect(world.ready).toBe("False MigrationFailed");
    world.failing.clear();
    world.annotations = {};
    world.pass("annotation");
    expect([world.ready, world.status.version]).toEqual(["False InvalidVersion", undefined]);
    expect(world.message).toContain("set the annotation stages.metio.wtf/baseline-version");
    expect(migrated(world)).toHaveLength(3);
    world.annotations = annotations;
    world.pass("annotation");
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "1.5.0"]);
    expect(migrated(world)).toHaveLength(5);
  });
});

describe("approval of a version (pure)", () => {
  test("[30.30] holds, names version and migrations, and is not asked for once the transition has begun", () => {
    const world = deployed("1.2.0", { approvalMode: "OnMigrations" });
    goTo(world, "1.5.0");
    world.pass();
    expect(world.ready).toBe("False AwaitingApproval");
    expect(world.message).toContain("version 1.5.0 waits for approval, with 3 migrations to run");
    expect(world.status).toMatchObject({ pendingVersion: "1.5.0", version: "1.2.0" });
    expect(world.status.pendingMigrations?.map(({ name, stage }) => `${name} ${stage ?? ""}`)).toEqual([
      ...["idx db", "split app", "drop db"],
    ]);
    expect(world.status.conditions?.map(({ type }) => type)).toEqual(["Ready", "Reconciling"]);
    expect(news(world)).toEqual([]);
    world.annotations = { "stages.metio.wtf/approved-version": "v1.5" };
    world.failing.add("up db idx/b");
    world.pass("annotation");
    expect(world.ready).toBe("False MigrationFailed");
    expect(world.status).not.toHaveProperty("pendingVersion");
    world.annotations = {};
    world.failing.clear();
    world.pass();
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "1.5.0"]);
  });

  test("[30.30] OnMigrations lets a version without migrations pass, Always does not", () => {
    const world = deployed("1.4.0", { approvalMode: "OnMigrations" });
    goTo(world, "1.4.9");
    world.pass();
    expect(world.status.version).toBe("1.4.9");
    goTo(world, "1.4.10", { approvalMode: "Always" });
    world.pass();
    expect(world.ready).toBe("False AwaitingApproval");
    goTo(world, "1.4.9");
    world.pass();
    expect([world.ready, world.status.pendingVersion]).toEqual(["True Succeeded", undefined]);
  });

  test("[30.30] a version that was left behind is approved anew, also where a stage never changed", () => {
    const world = deployed("1.3.0", { approvalMode: "Always", allowDowngrade: true });
    for (const value of ["1.3.1", "1.3.0"]) {
      world.edit({ version: { ...world.spec.version, value } });
      world.pass("spec");
      expect(world.ready).toBe("False AwaitingApproval");
      world.annotations = { "stages.metio.wtf/approved-version": value };
      world.pass("annotation");
      expect([world.ready, world.status.version]).toEqual(["True Succeeded", value]);
      world.annotations = {};
    }
  });
});

describe("migrations that fail (pure)", () => {
  const failing = (): MigrationWorld => {
    const world = deployed("1.2.0");
    goTo(world, "1.3.0");
    world.failing.add("up db idx/b");
    return world;
  };
  const request = (world: MigrationWorld, token: string): void => {
    world.annotations = { "reconcile.fluxcd.io/requestedAt": token };
    world.pass("annotation");
  };

  test("[30.29] a retry resumes at the failed step; the fifth failing pass halts, over restart, ladder and spec", () => {
    const world = failing();
    for (let pass = 1; pass <= 5; pass++) {
      world.pass("spec");
      expect(world.ready).toBe(pass < 5 ? "False MigrationFailed" : "False MigrationDirty");
      expect(world.status.migrationFailureCount).toBe(pass);
    }
    expect(world.message).toContain('stage "db" migration halted (dirty): "idx", action "b": no; nothing is run');
    expect(migrated(world)).toEqual(["up db idx/a"]);
    world.failing.clear();
    const message = world.message;
    world.crash();
    world.pass("start");
    world.pass("time");
    expect([world.ready, world.message]).toEqual(["False MigrationDirty", message]);
    const [idx, ...rest] = ladder;
    if (idx === undefined) throw new Error("the ladder has migrations");
    world.edit({ migrations: [idx, ...rest, { name: "more", to: "1.2.5" }] });
    world.revision = "r9";
    world.pass();
    expect([world.ready, world.message]).toEqual(["False MigrationDirty", message]);
    expect(world.effects).toEqual(["up db idx/a"]);
    request(world, "now");
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "1.3.0"]);
    expect(migrated(world)).toEqual(["up db idx/a", "up db idx/b"]);
    expect(world.status).not.toHaveProperty("migrationFailureCount");
  });

  test("[10.28] a request starts the count anew, and is handled with the pass that fails again", () => {
    const world = failing();
    for (let pass = 1; pass <= 4; pass++) world.pass("spec");
    request(world, "now");
    expect([world.ready, world.status.migrationFailureCount]).toEqual(["False MigrationFailed", 1]);
    expect(world.status.lastHandledReconcileAt).toBe("now");
    for (let pass = 1; pass <= 4; pass++) world.pass("spec");
    expect(world.ready).toBe("False MigrationDirty");
  });

  test("what no retry could help is told otherwise, and does not count", () => {
    const world = failing();
    world.failure = "permanent";
    world.pass("spec");
    expect(world.ready).toBe("False RBACDenied");
    expect(world.status).not.toHaveProperty("migrationFailureCount");
    expect(said(world, "MigrationFailed")).toHaveLength(1);
  });

  test("a corrected migration runs from its first step, and says so", () => {
    const world = failing();
    world.pass("spec");
    world.failing.clear();
    const corrected = ladder.map((each) => (each.name === "idx" ? { ...each, actions: [step("a"), step("c")] } : each));
    world.edit({ migrations: corrected });
    world.pass("spec");
    expect(migrated(world)).toEqual(["up db idx/a", "up db idx/a", "up db idx/c"]);
    expect(said(world, "MigrationChanged")).toHaveLength(1);
  });
});

describe("a transition another controller left (pure)", () => {
  const taken = (entries: readonly string[]): MigrationWorld => {
    const world = deployed("1.2.0");
    world.status = {
      ...world.status,
      executedMigrationActions: entries,
      stages: (world.status.stages ?? []).map(({ enteredRevision: _r, enteredDigest: _d, ...entry }) => entry),
    };
    goTo(world, "1.3.0");
    return world;
  };

  test("[30.38] entries of an unknown digest halt it, over restart, ladder and source; a request runs it once from the top", () => {
    const world = taken(["idx@0123456789ab/a", "gone@0123456789ab/x"]);
    world.pass();
    expect(world.ready).toBe("False MigrationDirty");
    expect(world.message).toContain('"idx@0123456789ab/a", "gone@0123456789ab/x"');
    expect(world.message).toContain("another controller's transition was cut");
    const { message } = world;
    world.crash();
    world.pass("start");
    world.edit({ migrations: [...ladder, { name: "more", to: "1.2.5" }] });
    world.pass();
    world.revision = "r8";
    world.pass();
    expect([world.ready, world.message, world.effects]).toEqual(["False MigrationDirty", message, []]);
    world.annotations = { "reconcile.fluxcd.io/requestedAt": "looked" };
    world.failing.add("up db idx/b");
    world.pass("annotation");
    expect(world.ready).toBe("False MigrationFailed");
    expect(said(world, "MigrationChanged")).toHaveLength(1);
    world.failing.clear();
    world.pass();
    expect(migrated(world)).toEqual(["up db idx/a", "up db idx/b"]);
    expect([world.ready, world.status.version]).toEqual(["True Succeeded", "1.3.0"]);
  });

  const away: typeof MigrationWorld.prototype.ladder = {
    kind: "ladder",
    refused: { reason: "SourceNotReady", message: "not ready", next: "retry", terminal: false },
  };
  test.each([
    ["its ladder is away", (world: MigrationWorld) => (world.ladder = away)],
    ["its version is none", (world: MigrationWorld) => world.edit({ version: { value: "none" } })],
    ["its actions are halted", (world: MigrationWorld) => (world.status = { ...world.status, actionFailureCount: 5 })],
  ] as const)("[30.38] nothing begins before the entries were looked at, here while %s", (_why, hinder) => {
    const world = taken(["idx@0123456789ab/a"]);
    const { migrations: _migrations, ...plain } = world.spec;
    world.spec = { ...plain, migrationsSourceRef: { sourceRef: { kind: "ExternalArtifact", name: "ladder" } } };
    world.ladder = { kind: "ladder", ladder: { rungs: rungsOf(ladder), origin: "" } };
    const stages = (world.status.stages ?? []).map((entry) => ({ ...entry, phase: "Failed" as const }));
    world.status = { ...world.status, stages };
    const { ladder: there } = world;
    hinder(world);
    for (const cause of ["start", "time"] as const) {
      world.pass(cause);
      expect(world.ready).toMatch(/^False (SourceNotReady|InvalidVersion|ActionDirty)$/);
      expect([news(world), world.status.stages?.some((entry) => "enteredRevision" in entry)]).toEqual([[], false]);
    }
    world.crash();
    world.ladder = there;
    world.edit({ version: { value: "1.3.0" } });
    const { actionFailureCount: _count, ...resumed } = world.status;
    world.status = resumed;
    world.pass("source");
    expect([world.ready, world.status.version]).toEqual(["False MigrationDirty", "1.2.0"]);
    expect(migrated(world)).toEqual([]);
  });

  test("[30.30] a version that one of its stages has on record from long ago is approved anew", () => {
    const world = taken([]);
    const { executedMigrationActions: _none, ...status } = world.status;
    const [db, app] = status.stages ?? [];
    if (db === undefined || app === undefined) throw new Error("there are two stages");
    world.status = { ...status, stages: [{ ...db, ledgerVersion: "1.3.0", executedVersionActions: ["stop"] }, app] };
    world.edit({ version: { value: "1.3.0", approvalMode: "Always" } });
    world.pass("start");
    expect([world.ready, world.status.version]).toEqual(["False AwaitingApproval", "1.2.0"]);
    expect(news(world)).toEqual([]);
  });

  test("[10.20] entries that match are done", () => {
    const world = taken([]);
    // As this ladder writes them.
    world.failing.add("up db idx/b");
    world.pass();
    const { executedMigrationActions = [] } = world.status;
    expect(executedMigrationActions).toHaveLength(1);
    const other = taken(executedMigrationActions);
    other.pass();
    expect(migrated(other)).toEqual(["up db idx/b"]);
    expect(other.ready).toBe("True Succeeded");
  });
});

/** Every step of a life with an upgrade, a way back and another upgrade, some of them failing now and then. */
interface Life {
  readonly world: MigrationWorld;
  /** Steps that ran although they were on record. */
  readonly repeated: readonly string[];
}

const way = ["1.5.0", "1.6.0", "2.0.0"];

function notReadyHalfWay(status: StageSetStatus): void {
  const ready = readyCondition(status)?.status === "True";
  const { executedMigrations = [], executedMigrationActions = [] } = status;
  const entries = [...executedMigrations, ...executedMigrationActions];
  if (ready && entries.length > 0) throw new Error(`Ready is True with ${entries.join(", ")} on record`);
}

function live(crashes: readonly number[], values: readonly string[], migrations: readonly Migration[] = ladder): Life {
  const world = new MigrationWorld({ ...specAt("1.2.0", { allowDowngrade: true }), migrations });
  for (const crash of crashes) world.crashes.add(crash);
  const repeated: string[] = [];
  world.onStep = ({ migration }) => {
    const entry = migration?.entry ?? "";
    if (world.status.executedMigrationActions?.includes(entry) === true) repeated.push(entry);
  };
  world.onStatus = (status, before) => {
    notReadyHalfWay(status);
    if (status.version === before.version) return;
    const left = (status.pendingMigrations ?? []).length + (status.executedMigrations ?? []).length;
    const ended = status.lastAppliedRevisions?.["ns/app"] === world.revision;
    if (left > 0 || !ended) throw new Error(`the version moves to ${status.version ?? ""} before the end`);
  };
  world.pass();
  for (const value of values) {
    goTo(world, value);
    world.pass();
    if (world.status.version !== value) throw new Error(`${world.ready}: ${world.message}`);
  }
  return { world, repeated };
}

describe("migrations in a process that dies between any two steps (pure)", () => {
  const once = (list: readonly string[]) => list.filter((each, index) => each !== list[index - 1]);

  test("[30.29] none that is on record runs again, and none is lost, with a crash at each step", () => {
    const clean = live([], way);
    expect(migrated(clean.world)).toHaveLength(6);
    for (let at = 0; at < clean.world.steps; at++) {
      const { world, repeated } = live([at], way);
      expect(repeated, `crash before step ${at}`).toEqual([]);
      // The one that was under way may run again, directly after.
      expect(once(migrated(world)), `crash before step ${at}`).toEqual(migrated(clean.world));
      expect(migrated(world).length, `crash before step ${at}`).toBeLessThanOrEqual(migrated(clean.world).length + 1);
      expect(world.status, `crash before step ${at}`).toMatchObject({ version: "2.0.0" });
      expect(world.status, `crash before step ${at}`).not.toHaveProperty("executedMigrations");
    }
  });

  test("[30.31] nor with any schedule of crashes, on the way up and down", () => {
    const there = ["1.4.2", "1.2.0", "1.4.0"];
    const clean = live([], there);
    expect(migrated(clean.world)).toHaveLength(10);
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(clean.world.steps * 2), { maxLength: 8 }), (crashes) => {
        const { world, repeated } = live(crashes, there);
        expect(repeated).toEqual([]);
        expect(once(migrated(world))).toEqual(migrated(clean.world));
      }),
      { numRuns: 300 },
    );
  });
});

describe("migrations of stages with sources of their own, under windows (pure)", () => {
  const published = ["1.2.0", "1.3.0", "1.4.0", "1.5.0", "2.0.0"];
  const move = fc.record({
    open: fc.boolean(),
    publishes: fc.boolean(),
    fails: fc.option(fc.constantFrom("up db idx/b", "up app split/a", "up db drop/a"), { nil: undefined }),
    restarts: fc.boolean(),
    closesAfterStep: fc.boolean(),
  });

  test("[30.28] no step runs for a version that nothing let in, and Ready is not True half-way", () => {
    const version = { fromArtifact: { stage: "app", path: "VERSION" } };
    const updateWindows = [{ schedule: "0 0 1 1 *", duration: "1h", type: "Allow" }] as const;
    let heldHalfWay = 0;
    fc.assert(
      // Five failures in a row would halt it.
      fc.property(fc.array(move, { minLength: 2, maxLength: 4 }), (moves) => {
        const world = new MigrationWorld({ ...specAt("1.2.0"), version, updateWindows });
        world.ownRevisions.set("db", "d1").set("app", "1.2.0");
        world.versionFile = (revision) => revision;
        world.pass();
        world.onStatus = notReadyHalfWay;
        let at = 0;
        let letIn = 0;
        const go = (): void => {
          // In the order of the versions, whose spelling sorts like them.
          if (world.windowOpen) letIn = at;
          world.pass("source");
          if (!world.windowOpen && world.status.executedMigrationActions !== undefined) heldHalfWay++;
        };
        for (const { open, publishes, fails, restarts, closesAfterStep } of moves) {
          world.windowOpen = open;
          if (publishes) at = Math.min(at + 1, published.length - 1);
          world.ownRevisions.set("app", published[at] ?? "");
          world.failing.clear();
          if (fails !== undefined) world.failing.add(fails);
          if (restarts) world.crash();
          world.onStep = ({ migration }) => {
            const to = ladder.find(({ name }) => migration?.key.startsWith(`${name}@`))?.to ?? "9";
            if (to > (published[letIn] ?? "")) throw new Error(`a step to ${to} runs, and ${letIn} was let in`);
            if (closesAfterStep) world.windowOpen = false;
          };
          go();
        }
        world.windowOpen = true;
        world.failing.clear();
        world.onStep = () => undefined;
        go();
        expect([world.ready, world.status.version]).toEqual(["True Succeeded", published[at]]);
        expect(new Set(migrated(world)).size).toBe(migrated(world).length);
      }),
      { numRuns: 200, seed: 7 },
    );
    expect(heldHalfWay).toBeGreaterThan(10);
  });
});
