import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, readyOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { createEffects, type Effects } from "../support/effects.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(() => scene[Symbol.asyncDispose]());

const key = (name: string) => ({ namespace: scene.namespace, name });
const effectsOf = (name: string): Promise<Effects> => createEffects(cluster, key(`effects-${name}`));
const publish = (name: string, value: string) =>
  scene.publish(name, { "a.yaml": configMap(name, { k: value }) }, { revision: value });
const ofVersion = { scope: "Version" };
const retrying = { retryInterval: "1s" };

const until: Scene["until"] = (name, holds) => scene.until(name, holds);

const isAt =
  (version: string, revision: string, stage = "only") =>
  (stageSet: KubeObject | undefined) =>
    readyOf(stageSet) === "True Succeeded" &&
    at(stageSet, "status", "version") === version &&
    at(stageStatus(stageSet, stage), "appliedRevision") === revision;

const wantVersion = (name: string, value: string): Promise<unknown> =>
  admin.patch(stageSetRef(scene.namespace, name), { spec: { version: { value, allowDowngrade: true } } });
const annotate = (name: string, annotations: Readonly<Record<string, string>>): Promise<unknown> =>
  admin.patch(stageSetRef(scene.namespace, name), { metadata: { annotations } });

describe("Version actions", () => {
  test("[30.4] run once for each version, up and down, and not for a revision or another spelling", async () => {
    const name = "versioned";
    const effects = await effectsOf(name);
    const actions = {
      pre: [effects.action("before", ofVersion), effects.action("each")],
      post: [effects.action("after", ofVersion)],
    };
    await publish(name, "r1");
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions }], { version: { value: "1.0.0" } });
    const adopted = await until(name, isAt("1.0.0", "r1"));
    expect(await effects.seen()).toEqual(["each"]);
    expect(stageStatus(adopted, "only")).toMatchObject({
      ledgerVersion: "1.0.0",
      executedVersionActions: ["before", "after"],
    });
    await publish(name, "r2");
    await until(name, isAt("1.0.0", "r2"));
    expect(await effects.seen()).toEqual(["each", "each"]);
    const skipped = () => stageSetEvents(cluster, { ...key(name), reason: "ActionSkipped" });
    await eventually(async () => (await skipped()).length === 2);
    expect(
      (await skipped()).map(({ type, note }) => `${type} ${/action "(\w+)"/.exec(note)?.[1] ?? ""}`).toSorted(),
    ).toEqual(["Normal after", "Normal before"]);
    await wantVersion(name, "v1.1");
    await until(name, isAt("v1.1", "r2"));
    expect(await effects.seen()).toEqual(["each", "each", "before", "after"]);
    await wantVersion(name, "1.1.0");
    const spelled = await until(name, isAt("1.1.0", "r2"));
    expect(stageStatus(spelled, "only")).toMatchObject({ ledgerVersion: "1.1.0" });
    expect(await effects.seen()).toHaveLength(4);
    await wantVersion(name, "1.0.0");
    await until(name, isAt("1.0.0", "r2"));
    expect(await effects.seen()).toEqual(["each", "each", "before", "after", "before", "after"]);
    expect(await skipped()).toHaveLength(2);
    expect(await scene.controller.metrics()).toContain(
      `stageset_action_runs_total{namespace="${scene.namespace}",name="${name}",scope="Version"} 4`,
    );
  });

  test("[30.4] a version that another stage's artifact brings runs those of a stage whose revision stays", async () => {
    const [name, other] = ["apart", "apart-other"];
    const effects = await effectsOf(name);
    const publishVersion = (version: string) =>
      scene.publish(name, { "a.yaml": configMap(name), VERSION: `${version}\n` }, { revision: version });
    await publishVersion("1.0.0");
    await publish(other, "r1");
    const stages = [
      { name: "first", sourceRef: { name } },
      { name: "only", sourceRef: { name: other }, actions: { pre: [effects.action("before", ofVersion)] } },
    ];
    await scene.release(name, stages, { version: { fromArtifact: { stage: "first", path: "VERSION" } } });
    await until(name, isAt("1.0.0", "r1"));
    await publishVersion("1.1.0");
    await until(name, isAt("1.1.0", "r1"));
    expect(await effects.seen()).toEqual(["before"]);
  });

  test("[30.5] a first adoption that fails ten times runs none and records each once", async () => {
    const name = "adopting";
    const effects = await effectsOf(name);
    const target = { apiVersion: "v1", kind: "ConfigMap", name: `${name}-target` };
    const actions = {
      pre: [effects.action("before", ofVersion), { name: "fails", patch: { target, patch: "data: {}" } }],
      post: [effects.action("after", ofVersion)],
    };
    await publish(name, "r1");
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions }], {
      ...retrying,
      version: { value: "1.0.0" },
    });
    const failures = () =>
      scene.controller.logs.filter((line) => line.includes("action failed") && line.includes(`"name":"${name}"`))
        .length;
    await eventually(() => failures() >= 10, { timeoutMs: 90_000 });
    const failed = await scene.get(name);
    expect(readyOf(failed)).toBe("False StageFailed");
    expect(stageStatus(failed, "only")).toMatchObject({
      ledgerVersion: "1.0.0",
      executedVersionActions: ["before", "after"],
    });
    await admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: key(`${name}-target`) });
    const ready = await until(name, isAt("1.0.0", "r1"));
    expect(stageStatus(ready, "only")).toMatchObject({ executedVersionActions: ["before", "after"] });
    expect(await effects.seen()).toEqual([]);
  });
});

test("[30.13] [10.30] reset-scope runs them once more, in a stage that a failure kept from its turn too", async () => {
  const name = "reset";
  const [first, second] = [await effectsOf(`${name}-1`), await effectsOf(`${name}-2`)];
  const account = { apiVersion: "v1", kind: "ServiceAccount", metadata: key(`effects-${name}-1`) };
  await publish(name, "r1");
  await publish(`${name}-2`, "r1");
  const stages = [
    { name: "first", sourceRef: { name }, actions: { pre: [first.action("one", ofVersion)] } },
    { name: "only", sourceRef: { name: `${name}-2` }, actions: { post: [second.action("two", ofVersion)] } },
  ];
  await scene.release(name, stages, { ...retrying, version: { value: "1.0.0" } });
  await until(name, isAt("1.0.0", "r1"));
  expect([await first.seen(), await second.seen()]).toEqual([[], []]);
  await admin.delete(account);
  await annotate(name, { "stages.metio.wtf/reset-scope": "once" });
  const failed = await until(name, (stageSet) => readyOf(stageSet) === "False StageFailed");
  expect(at(failed, "status", "lastHandledResetScope")).toBe("once");
  expect(at(stageStatus(failed, "only"), "executedVersionActions") ?? []).toEqual([]);
  await admin.create({ ...account, imagePullSecrets: [{ name: "begin" }] });
  await until(name, isAt("1.0.0", "r1"));
  expect([await first.seen(), await second.seen()]).toEqual([["one"], ["two"]]);
  await annotate(name, { "reconcile.fluxcd.io/requestedAt": "again" });
  await until(name, (stageSet) => at(stageSet, "status", "lastHandledReconcileAt") === "again");
  await untilReady(cluster, key(name));
  expect([await first.seen(), await second.seen()]).toEqual([["one"], ["two"]]);
});
