import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { at } from "../../src/lib/json.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageStatus, untilReady } from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { createJumpingClock } from "../support/jumping-clock.ts";
import { follow, startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;
let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(() => scene[Symbol.asyncDispose]());

const stageOf = (name: string, source = name) => ({ name, sourceRef: { name: source } });

describe("pins of a run", () => {
  test("[20.7] a source that moves while stage 1 verifies is taken by a second run", async () => {
    const { namespace } = scene;
    const one = await scene.publish("moving-1", { "a.yaml": deployment("moving", { pods: { readyAfter: "2s" } }) });
    const two = await scene.publish("moving-2", { "a.yaml": configMap("moving-2", { k: "1" }) });
    const three = await scene.publish("moving-3", { "a.yaml": configMap("moving-3", { k: "1" }) });
    using history = follow(cluster, { apiVersion: "stages.metio.wtf/v1", kind: "StageSet", namespace, name: "moving" });
    using applied = follow(cluster, { apiVersion: "v1", kind: "ConfigMap", namespace, name: "moving-3" });
    const stages = [stageOf("first", "moving-1"), stageOf("second", "moving-2"), stageOf("third", "moving-3")];
    await scene.release("moving", stages);
    await eventually(async () => at(stageStatus(await scene.get("moving"), "first"), "phase") === "Verifying");
    const moved = await scene.publish("moving-3", { "a.yaml": configMap("moving-3", { k: "2" }) });
    const key = (name: string): string => `${namespace}/${name}`;
    const before = {
      [key("moving-1")]: one.revision,
      [key("moving-2")]: two.revision,
      [key("moving-3")]: three.revision,
    };
    await eventually(async () => {
      const stageSet = await scene.get("moving");
      expect(at(stageSet, "status", "lastAppliedRevisions", key("moving-3"))).toBe(moved.revision);
      return true;
    });
    // Both runs succeeded, the first at what it had pinned before the source moved.
    const succeeded = history.states.filter((state) => readyOf(state) === "True Succeeded");
    expect(at(succeeded[0], "status", "lastAttemptedRevisions")).toEqual(before);
    expect(at(succeeded[0], "status", "lastAppliedRevisions")).toEqual(before);
    expect(at(stageStatus(succeeded[0], "third"), "appliedRevision")).toBe(three.revision);
    expect(applied.states.map((state) => at(state, "data", "k"))).toEqual(["1", "2"]);
  });

  test("[20.8] a fix replaces a stage that is parked as StageProgressing within 5 s", async () => {
    await scene.publish("parked", { "a.yaml": deployment("parked", { pods: { neverReady: "true" } }) });
    await scene.release("parked", [stageOf("only", "parked")], { timeout: "1s", interval: "10m", retryInterval: "5m" });
    await untilReady(cluster, { namespace: scene.namespace, name: "parked" }, "False StageProgressing");
    const fix = await scene.publish("parked", { "a.yaml": deployment("parked", { image: "fixed" }) });
    const published = performance.now();
    const fixed = await untilReady(cluster, { namespace: scene.namespace, name: "parked" });
    expect(performance.now() - published).toBeLessThan(5_000);
    expect(at(stageStatus(fixed, "only"), "appliedRevision")).toBe(fix.revision);
  });

  test("[20.8] a fix published while the stage still verifies is taken when it is parked", async () => {
    await scene.publish("verifying", { "a.yaml": deployment("verifying", { pods: { neverReady: "true" } }) });
    const spec = { timeout: "2s", interval: "10m", retryInterval: "5m" };
    await scene.release("verifying", [stageOf("only", "verifying")], spec);
    await eventually(async () => at(stageStatus(await scene.get("verifying"), "only"), "phase") === "Verifying");
    const fix = await scene.publish("verifying", { "a.yaml": deployment("verifying", { image: "fixed" }) });
    const fixed = await untilReady(cluster, { namespace: scene.namespace, name: "verifying" });
    expect(at(stageStatus(fixed, "only"), "appliedRevision")).toBe(fix.revision);
  });

  describe("[20.9] given stage 3 has no usable artifact, nothing of the stages before it is applied", () => {
    const broken = [
      {
        title: "cannot build",
        name: "unbuildable",
        files: { "a.yaml": "this: is\nno: manifest\n" },
        options: {},
        operation: "build",
        stalled: false,
      },
      {
        title: "a digest mismatch",
        name: "mismatch",
        files: { "a.yaml": configMap("mismatch-3") },
        options: { digest: `sha256:${"0".repeat(64)}` },
        operation: "fetch artifact",
        stalled: true,
      },
    ];
    test.each(broken)("[20.9] $title", async ({ name, files, options, operation, stalled }) => {
      const { namespace } = scene;
      await scene.publish(`${name}-1`, { "a.yaml": configMap(`${name}-1`) });
      await scene.publish(`${name}-2`, { "a.yaml": configMap(`${name}-2`) });
      await scene.publish(`${name}-3`, files, options);
      const stages = ["first", "second", "third"].map((stage, index) => stageOf(stage, `${name}-${index + 1}`));
      await scene.release(name, stages);
      const stageSet = await untilReady(cluster, { namespace, name }, "False StageFailed");
      expect(messageOf(stageSet)).toContain(`stage "third" ${operation}: `);
      expect(stageStatus(stageSet, "third")).toMatchObject({ phase: "Failed" });
      expect(stageStatus(stageSet, "first")).toMatchObject({ phase: "Pending" });
      const conditions = JSON.stringify(at(stageSet, "status", "conditions"));
      expect(conditions.includes('"Stalled"')).toBe(stalled);
      expect(await scene.object(`${name}-1`)).toBeUndefined();
      expect(await scene.object(`${name}-2`)).toBeUndefined();
      const inventories = await admin.list(
        { apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", namespace },
        { labelSelector: `stages.metio.wtf/stage-set=${name}` },
      );
      expect(inventories).toEqual([]);
    });
  });

  test("[20.10] an object that two stages render is named, and neither stage is applied", async () => {
    const { namespace } = scene;
    await scene.publish("claimed-1", { "a.yaml": configMap("claimed"), "b.yaml": configMap("claimed-1") });
    await scene.publish("claimed-2", { "a.yaml": configMap("claimed"), "b.yaml": configMap("claimed-2") });
    await scene.release("claimed", [stageOf("first", "claimed-1"), stageOf("second", "claimed-2")]);
    const stageSet = await untilReady(cluster, { namespace, name: "claimed" }, "False InvalidSpec");
    const message = messageOf(stageSet);
    for (const part of ["ConfigMap", `${namespace}/claimed`, '"first"', '"second"']) expect(message).toContain(part);
    for (const name of ["claimed", "claimed-1", "claimed-2"]) expect(await scene.object(name)).toBeUndefined();
  });

  test("[20.10] a build that waited for an earlier stage is checked before its apply", async () => {
    const { namespace } = scene;
    await scene.publish("late-1", { "a.yaml": configMap("late", { k: "1" }), "b.yaml": configMap("late-vars") });
    await scene.publish("late-2", { "a.yaml": configMap("late", { k: "2" }), "b.yaml": configMap("late-2") });
    const postBuild = { substituteFrom: [{ kind: "ConfigMap", name: "late-vars" }] };
    await scene.release("late", [stageOf("first", "late-1"), { ...stageOf("second", "late-2"), postBuild }]);
    const stageSet = await untilReady(cluster, { namespace, name: "late" }, "False InvalidSpec");
    expect(messageOf(stageSet)).toContain(`${namespace}/late`);
    expect(await scene.object("late")).toMatchObject({ data: { k: "1" } });
    expect(await scene.object("late-2")).toBeUndefined();
  });

  test("values that an earlier stage changes are read again in the later stage's turn", async () => {
    const { namespace } = scene;
    const publish = (word: string) =>
      scene.publish("again", {
        "vars/a.yaml": configMap("again-vars", { WORD: word }),
        "app/a.yaml": configMap("again", { revision: word, word: "${WORD}" }),
      });
    const postBuild = { substituteFrom: [{ kind: "ConfigMap", name: "again-vars" }] };
    await publish("one");
    const stages = [stageOf("vars", "again"), { ...stageOf("app", "again"), postBuild }];
    await scene.release(
      "again",
      stages.map((stage) => ({ ...stage, path: stage.name })),
    );
    await untilReady(cluster, { namespace, name: "again" });
    using history = follow(cluster, { apiVersion: "v1", kind: "ConfigMap", namespace, name: "again" });
    await publish("two");
    await eventually(() => history.states.some((state) => at(state, "data", "revision") === "two"));
    await untilReady(cluster, { namespace, name: "again" });
    const seen = history.states.map(
      (state) => `${String(at(state, "data", "revision"))} ${String(at(state, "data", "word"))}`,
    );
    expect(seen).not.toContain("two one");
    expect(seen.at(-1)).toBe("two two");
  });
});

describe("a newer revision during a wait of 15 min", () => {
  const pull = { waitingReason: "ImagePullBackOff" };

  test.each([
    { title: "at once where the cause is known", name: "known", known: true },
    { title: "as soon as the cause is known", name: "unknown", known: false },
  ])("replaces one for an image that cannot be pulled, $title", async ({ name, known }) => {
    const { namespace } = scene;
    using history = follow(cluster, { apiVersion: "stages.metio.wtf/v1", kind: "StageSet", namespace, name });
    await scene.publish(name, { "a.yaml": deployment(name, { pods: pull }) });
    await scene.publish(`${name}-2`, { "a.yaml": configMap(`${name}-2`) });
    await scene.release(name, [stageOf("first", name), stageOf("second", `${name}-2`)]);
    const waitingFor = async (): Promise<string> =>
      JSON.stringify(at(stageStatus(await scene.get(name), "first"), "waitingFor") ?? "");
    await eventually(async () => (await waitingFor()).includes(known ? "cannot pull image" : "Deployment"), {
      timeoutMs: 60_000,
    });
    const fix = await scene.publish(name, { "a.yaml": deployment(name, { image: "fixed" }) });
    const fixed = await untilReady(cluster, { namespace, name }, "True Succeeded", { timeoutMs: 60_000 });
    expect(at(stageStatus(fixed, "first"), "appliedRevision")).toBe(fix.revision);
    // A cause is no verdict: nothing failed, and nothing was parked either.
    const told = new Set(history.states.map(readyOf));
    for (const ready of told) expect(["", "Unknown Progressing", "True Succeeded"]).toContain(ready);
  });

  test("replaces one in which nothing has changed for two minutes, and no other", async () => {
    const clock = createJumpingClock();
    await using still = await startScene(cluster, { clock });
    const target = { namespace: still.namespace, name: "still" };
    const before = await still.publish("still", { "a.yaml": deployment("still", { pods: { neverReady: "true" } }) });
    await still.release("still", [stageOf("only", "still")], { timeout: "1h", interval: "2h" });
    const entry = async () => stageStatus(await still.get("still"), "only");
    await eventually(async () => JSON.stringify(await entry()).includes("0 of 1 replicas are available"));
    const fix = await still.publish("still", { "a.yaml": deployment("still", { image: "fixed" }) });
    // Time for what must not happen.
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(await entry()).toMatchObject({ phase: "Verifying", enteredRevision: before.revision });
    clock.jump(125_000);
    const fixed = await untilReady(cluster, target);
    expect(at(stageStatus(fixed, "only"), "appliedRevision")).toBe(fix.revision);
  });
});
