import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Migration } from "../../src/api/stage-set.ts";
import { asArray, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import {
  configMap,
  messageOf,
  readyOf,
  stageSetRef,
  stageStatus,
  startTestController,
  type TestController,
  untilReady,
} from "../support/controller.ts";
import { migrationDigest } from "../../src/domain/versions/migration-digest.ts";
import { createEffects, type Effects } from "../support/effects.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents, type SeenEvent } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
let scene: Scene;
let restarted: TestController | undefined;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(async () => {
  await restarted?.[Symbol.asyncDispose]();
  await scene[Symbol.asyncDispose]();
});

const key = (name: string) => ({ namespace: scene.namespace, name });
const ref = (name: string) => stageSetRef(scene.namespace, name);
const effectsOf = (name: string): Promise<Effects> => createEffects(cluster, key(`effects-${name}`));
const retrying = { retryInterval: "1s" };
const stage = (source: string, name: string, more: Readonly<Record<string, unknown>> = {}) => ({
  name,
  sourceRef: { name: source },
  path: `./${name}`,
  ...more,
});
const stages = (name: string) => [stage(name, "db"), stage(name, "app")];
const files = (name: string, value: string) => ({
  VERSION: `${value}\n`,
  "db/a.yaml": configMap(`${name}-db`, { value }),
  "app/a.yaml": configMap(`${name}-app`, { value }),
});
const publish = (name: string, value: string) => scene.publish(name, files(name, value), { revision: value });
const fromArtifact = { fromArtifact: { stage: "db", path: "./VERSION" } };

/** The ladder of spec 30 §10, of steps that leave a trace. */
const ladderOf = (effects: Effects) => {
  const action = (name: string) => effects.action(name);
  return [
    { name: "idx", to: "1.3.0", stage: "db", actions: [action("idx-a"), action("idx-b")], down: [action("idx-down")] },
    {
      name: "split",
      to: "1.4.0",
      from: ">=1.0.0, <1.4.0",
      stage: "app",
      actions: [action("split-a")],
      down: [action("split-down")],
    },
    { name: "drop", to: "1.5.0", stage: "db", actions: [action("drop-a")] },
  ];
};

const until: Scene["until"] = (name, holds) => scene.until(name, holds, { timeoutMs: 120_000 });
const isAt = (version: string) => (stageSet: KubeObject | undefined) =>
  readyOf(stageSet) === "True Succeeded" && at(stageSet, "status", "version") === version;
const annotate = (name: string, annotations: Readonly<Record<string, string | null>>) =>
  admin.patch(ref(name), { metadata: { annotations } });

/** A StageSet that is deployed at a version read from its artifact. */
async function deployed(name: string, value: string, spec: Readonly<Record<string, unknown>>): Promise<void> {
  await publish(name, value);
  await scene.release(name, stages(name), { ...retrying, version: fromArtifact, ...spec });
  await until(name, isAt(value));
}

describe("a version", () => {
  test.each([
    ["of a value", { value: "latest" }, /spec\.version\.value/],
    [
      "of a file",
      { fromArtifact: { stage: "db", path: "db/a.yaml" } },
      /spec\.version\.fromArtifact, file "db\/a\.yaml"/,
    ],
    ["of no file", { fromArtifact: { stage: "app", path: "NONE" } }, /file "NONE" of stage "app", is not there/],
    ["of no object", { fromObject: { kind: "Deployment", name: "web" } }, /renders no Deployment "web"/],
  ])("that is none is refused before anything is applied: %s", async (title, version, message) => {
    const name = title.replaceAll(" ", "-");
    await publish(name, "1.2.0");
    await scene.release(name, stages(name), { version });
    const refused = await until(name, (each) => readyOf(each).startsWith("False "));
    expect(readyOf(refused)).toBe("value" in version ? "False InvalidSpec" : "False InvalidVersion");
    expect(messageOf(refused)).toMatch(message);
    expect(at(asArray(at(refused, "status", "conditions"))[1], "type")).toBe("Stalled");
    expect(await scene.object(`${name}-db`)).toBeUndefined();
  });

  test("of an object is taken as it would be applied, and other StageSets may ask for it", async () => {
    const name = "object";
    const [versioned, dependent] = [`${name}-of`, `${name}-dependent`];
    await publish(versioned, "1.2.0");
    await publish(dependent, "1");
    const fromObject = { stage: "app", kind: "ConfigMap", name: `${versioned}-app`, fieldPath: "{.data.value}" };
    await scene.release(versioned, stages(versioned), { version: { fromObject } });
    await until(versioned, isAt("1.2.0"));
    const baselined = (): Promise<readonly SeenEvent[]> =>
      stageSetEvents(cluster, { ...key(versioned), reason: "MigrationsBaselined" });
    await eventually(async () => (await baselined()).length > 0);
    expect((await baselined()).map(({ note }) => note)).toEqual([
      "version 1.2.0 is recorded as deployed; no migration was run",
    ]);
    await scene.release(dependent, stages(dependent), { dependsOn: [{ name: versioned, minVersion: "1.3" }] });
    const waits = await until(dependent, (each) => readyOf(each) === "False DependencyNotReady");
    expect(messageOf(waits)).toContain('is at version "1.2.0", below minVersion "1.3"');
    await publish(versioned, "1.3.0");
    await until(versioned, isAt("1.3.0"));
    await untilReady(cluster, key(dependent));
  });
});

describe("a transition", () => {
  test("[30.28] runs its steps in the order of the stages; the version moves at the end", async () => {
    const name = "up";
    const effects = await effectsOf(name);
    const gated = stage(name, "app", { promotion: { requireManualPromotion: true } });
    await publish(name, "1.2.0");
    await scene.release(name, stages(name), { ...retrying, version: fromArtifact, migrations: ladderOf(effects) });
    await until(name, isAt("1.2.0"));
    expect(await effects.seen()).toEqual([]);
    await admin.patch(ref(name), { spec: { stages: [stage(name, "db"), gated] } });
    await until(name, (each) => readyOf(each) === "True Succeeded" || readyOf(each) === "False AwaitingPromotion");
    await publish(name, "1.5.0");
    const last = await until(name, (each) => at(stageStatus(each, "app"), "appliedRevision") === "1.5.0");
    // Everything is applied, and one gate is closed.
    expect(await effects.seen()).toEqual(["idx-a", "idx-b", "drop-a", "split-a"]);
    expect(at(last, "status", "version")).toBe("1.2.0");
    expect(asArray(at(last, "status", "executedMigrations"))).toHaveLength(3);
    await annotate(name, { "stages.metio.wtf/promote": "app@1" });
    const ended = await until(name, isAt("1.5.0"));
    for (const member of ["executedMigrations", "executedMigrationActions", "pendingMigrations", "pendingVersion"])
      expect(at(ended, "status", member)).toBeUndefined();
    expect(await effects.seen()).toHaveLength(4);
    await eventually(async () => {
      const reasons = (await stageSetEvents(cluster, key(name))).map(({ reason }) => reason);
      return ["MigrationStarted", "MigrationCompleted", "MigrationOrderInverted"].every((each) =>
        reasons.includes(each),
      );
    });
  });

  test("[30.30] waits for its approval, which goes on without the annotation once it has begun", async () => {
    const name = "approved";
    const effects = await effectsOf(name);
    const missing = { apiVersion: "v1", kind: "ConfigMap", name: `${name}-missing` };
    const blocked = { name: "blocked", patch: { target: missing, patch: "data: {reached: 'yes'}" } };
    const migrations = [{ name: "idx", to: "2.0.0", actions: [effects.action("first"), blocked] }];
    await deployed(name, "1.2.0", { version: { ...fromArtifact, approvalMode: "OnMigrations" }, migrations });
    await publish(name, "2.0.0");
    const held = await until(name, (each) => readyOf(each) === "False AwaitingApproval");
    expect(messageOf(held)).toContain("version 2.0.0 waits for approval, with 1 migration to run");
    expect(at(held, "status", "pendingVersion")).toBe("2.0.0");
    expect(at(stageStatus(held, "db"), "appliedRevision")).toBe("1.2.0");
    await annotate(name, { "stages.metio.wtf/approved-version": "2.0.1" });
    await annotate(name, { "reconcile.fluxcd.io/requestedAt": "again" });
    await until(name, (each) => at(each, "status", "lastHandledReconcileAt") === "again");
    expect(readyOf(await scene.get(name))).toBe("False AwaitingApproval");
    expect(await effects.seen()).toEqual([]);
    await annotate(name, { "stages.metio.wtf/approved-version": "v2.0.0" });
    const begun = await until(name, (each) => readyOf(each) === "False MigrationFailed");
    expect(at(begun, "status", "pendingVersion")).toBeUndefined();
    await annotate(name, { "stages.metio.wtf/approved-version": null });
    await admin.create({ ...missing, metadata: key(missing.name) });
    await until(name, isAt("2.0.0"));
    expect(await effects.seen()).toEqual(["first"]);
  });

  test("[30.31] downwards: refused without allowDowngrade or a way down, else newest first across stages", async () => {
    const name = "down";
    const effects = await effectsOf(name);
    await deployed(name, "1.4.2", { migrations: ladderOf(effects) });
    await publish(name, "1.2.0");
    const refused = await until(name, (each) => readyOf(each) === "False DowngradeNotAllowed");
    expect(at(stageStatus(refused, "db"), "appliedRevision")).toBe("1.4.2");
    expect([await effects.seen(), at(refused, "status", "version")]).toEqual([[], "1.4.2"]);
    await admin.patch(ref(name), { spec: { version: { allowDowngrade: true } } });
    await until(name, isAt("1.2.0"));
    expect(await effects.seen()).toEqual(["split-down", "idx-down"]);
    await publish(name, "1.5.0");
    await until(name, isAt("1.5.0"));
    await publish(name, "1.4.0");
    const irreversible = await until(name, (each) => readyOf(each) === "False DowngradeRequiresMigration");
    expect(messageOf(irreversible)).toContain('migration "drop" to 1.5.0 has no down steps');
    expect(at(irreversible, "status", "version")).toBe("1.5.0");
    expect(at(await scene.object(`${name}-db`), "data", "value")).toBe("1.5.0");
  });

  test("[30.35] [30.36] from a baseline runs the ladder; a major version wants a migration where it must be covered", async () => {
    const name = "baseline";
    const effects = await effectsOf(name);
    await publish(name, "1.5.0");
    const migrations = ladderOf(effects);
    await admin.create({
      ...ref(name),
      metadata: { ...key(name), annotations: { "stages.metio.wtf/baseline-version": "1.2.0" } },
      spec: {
        ...{ serviceAccountName: "deployer", stages: stages(name), migrations, ...retrying },
        version: { ...fromArtifact, requireMigrationCoverage: true },
      },
    });
    await until(name, isAt("1.5.0"));
    expect(await effects.seen()).toEqual(["idx-a", "idx-b", "drop-a", "split-a"]);
    await publish(name, "2.0.0");
    await until(name, (each) => readyOf(each) === "False MigrationCoverageMissing");
    await admin.patch(ref(name), { spec: { migrations: [...migrations, { name: "nothing", to: "2.0.0" }] } });
    await until(name, isAt("2.0.0"));
  });

  test("[30.38] [10.20] of another controller that was cut: what matches is done, what does not halts", async () => {
    const name = "taken";
    const effects = await effectsOf(name);
    const migrations = ladderOf(effects);
    await deployed(name, "1.2.0", { migrations });
    const cut = async (entries: readonly string[]): Promise<void> => {
      await admin.patch(ref(name), { spec: { suspend: true } });
      const suspended = await until(name, (each) => readyOf(each) === "False Suspended");
      const foreign = asArray(at(suspended, "status", "stages")).map((entry) => {
        const { enteredRevision: _r, enteredDigest: _d, ...rest } = entry as Record<string, unknown>;
        return rest;
      });
      await admin.patchStatus(ref(name), { stages: foreign, executedMigrationActions: entries });
      await admin.patch(ref(name), { spec: { suspend: false } });
    };
    await publish(name, "1.3.0");
    await until(name, isAt("1.3.0"));
    expect(await effects.seen()).toEqual(["idx-a", "idx-b"]);
    // Entries of an unknown digest.
    await cut(["split@0123456789ab/split-a"]);
    await publish(name, "1.4.0");
    const dirty = await until(name, (each) => readyOf(each) === "False MigrationDirty");
    expect(messageOf(dirty)).toContain('"split@0123456789ab/split-a"');
    expect(messageOf(dirty)).toContain("another controller's transition was cut");
    expect(at(stageStatus(dirty, "db"), "enteredRevision")).toBe("1.3.0");
    await publish(name, "1.4.1");
    await admin.patch(ref(name), { spec: { migrations: [...migrations, { name: "more", to: "1.4.1" }] } });
    const generation = (await scene.get(name))?.metadata.generation;
    const still = await until(name, (each) => at(each, "status", "observedGeneration") === generation);
    expect([readyOf(still), messageOf(still)]).toEqual(["False MigrationDirty", messageOf(dirty)]);
    expect(await effects.seen()).toEqual(["idx-a", "idx-b"]);
    await annotate(name, { "reconcile.fluxcd.io/requestedAt": "looked" });
    await until(name, isAt("1.4.1"));
    expect(await effects.seen()).toEqual(["idx-a", "idx-b", "split-a"]);
    await eventually(
      async () => (await stageSetEvents(cluster, { ...key(name), reason: "MigrationChanged" })).length === 1,
    );
    // Entries as this ladder has them: published vectors say how they are made.
    const drop = migrations.find((each) => each.name === "drop");
    if (drop === undefined) throw new Error("the ladder has it");
    await cut([`drop@${migrationDigest(drop as unknown as Migration)}/drop-a`]);
    await publish(name, "1.5.0");
    await until(name, isAt("1.5.0"));
    expect(await effects.seen()).toEqual(["idx-a", "idx-b", "split-a"]);
  });

  test("[30.29] [10.28] resumes at the failed step; after five passes nothing runs, until it is asked for", async () => {
    const name = "dirty";
    const effects = await effectsOf(name);
    const missing = { apiVersion: "v1", kind: "ConfigMap", name: `${name}-missing` };
    const emptied = { apiVersion: "v1", kind: "ConfigMap", name: `${name}-emptied` };
    const actions = [
      { name: "empty", delete: { target: emptied } },
      effects.action("first"),
      { name: "fails", patch: { target: missing, patch: "data: {reached: 'yes'}" } },
      effects.action("last"),
    ];
    const object = (target: { readonly name: string }) => ({ ...emptied, metadata: key(target.name) });
    await deployed(name, "1.2.0", { migrations: [{ name: "idx", to: "1.3.0", actions }] });
    await admin.create(object(emptied));
    await publish(name, "1.3.0");
    const failed = await until(name, (each) => readyOf(each) === "False MigrationFailed");
    expect(messageOf(failed)).toContain('stage "db" migration: "idx", action "fails": ');
    expect(at(stageStatus(failed, "db"), "phase")).toBe("Failed");
    expect(at(stageStatus(failed, "db"), "enteredRevision")).toBe("1.3.0");
    expect(at(stageStatus(failed, "db"), "appliedRevision")).toBe("1.2.0");
    await admin.create(object(emptied));
    const dirty = await until(name, (each) => readyOf(each) === "False MigrationDirty");
    expect(at(dirty, "status", "migrationFailureCount")).toBe(5);
    expect(messageOf(dirty)).toContain('stage "db" migration halted (dirty): "idx", action "fails": ');
    expect(await effects.seen()).toEqual(["first"]);
    // What failed would pass now.
    await admin.create(object(missing));
    await scene.controller[Symbol.asyncDispose]();
    restarted = await startTestController(cluster, { namespaces: [scene.namespace] });
    await publish(name, "1.3.1");
    const corrected = [...actions, effects.action("more")];
    await admin.patch(ref(name), {
      spec: {
        migrations: [
          { name: "idx", to: "1.3.0", actions },
          { name: "other", to: "1.3.1", actions: corrected },
        ],
      },
    });
    const generation = (await scene.get(name))?.metadata.generation;
    const still = await until(name, (each) => at(each, "status", "observedGeneration") === generation);
    expect([readyOf(still), messageOf(still)]).toEqual(["False MigrationDirty", messageOf(dirty)]);
    expect(await effects.seen()).toEqual(["first"]);
    await admin.patch(ref(name), { spec: { migrations: [{ name: "idx", to: "1.3.0", actions }] } });
    await annotate(name, { "reconcile.fluxcd.io/requestedAt": "looked" });
    const ended = await until(name, isAt("1.3.1"));
    expect(await effects.seen()).toEqual(["first", "last"]);
    // It came back after its step, and stays.
    expect(await scene.object(emptied.name)).toBeDefined();
    expect(at(ended, "status", "migrationFailureCount")).toBeUndefined();
  });
});
