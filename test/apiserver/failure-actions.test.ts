import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { at } from "../../src/lib/json.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { createEffects } from "../support/effects.ts";
import { requestPass } from "../support/passes.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;

describe("onFailure", () => {
  let scene: Scene;
  beforeAll(async () => {
    scene = await startScene(cluster);
  });
  afterAll(() => scene[Symbol.asyncDispose]());
  const key = (name: string) => ({ namespace: scene.namespace, name });
  const reconcile = (name: string) => requestPass(cluster, key(name));

  test("[30.14] runs once however often the stage fails, and again after it was Ready; a failing entry stops no other", async () => {
    const name = "failing";
    const effects = await createEffects(cluster, key("effects-failing"));
    const missing = { target: { apiVersion: "v1", kind: "ConfigMap", name: "nowhere" }, patch: "data: {}" };
    const gate = { apiVersion: "v1", kind: "ConfigMap", metadata: key("gate-failing") };
    const actions = {
      // What decides whether the stage fails: a post action whose target is there or not.
      post: [
        {
          name: "check",
          patch: { target: { apiVersion: "v1", kind: "ConfigMap", name: "gate-failing" }, patch: "data: {}" },
        },
      ],
      onFailure: [{ name: "first", patch: missing }, effects.action("second")],
    };
    const stage = { name: "only", sourceRef: { name }, actions };
    await scene.publish(name, { "a.yaml": configMap(name) }, { revision: "r1" });
    await scene.release(name, [stage], { retryInterval: "1h" });
    const failed = await untilReady(cluster, key(name), "False StageFailed");
    expect(messageOf(failed)).toContain('stage "only" post-action: action "check"');
    for (let times = 0; times < 4; times++) await reconcile(name);
    expect(readyOf(await scene.get(name))).toBe("False StageFailed");
    expect(await effects.seen()).toEqual(["second"]);
    await eventually(async () => {
      const [event] = await stageSetEvents(cluster, { ...key(name), reason: "OnFailureAction" });
      expect(event).toMatchObject({ type: "Warning" });
      expect(event?.note).toContain('action "first" failed: Cannot patch ConfigMap');
      return true;
    });
    await admin.create(gate);
    await reconcile(name);
    const ready = await untilReady(cluster, key(name));
    expect(at(stageStatus(ready, "only"), "executedActions")).toEqual(["check"]);
    // The same revision fails once more: another episode.
    await admin.delete(gate);
    await admin.patch(stageSetRef(scene.namespace, name), {
      metadata: { annotations: { "stages.metio.wtf/reconcile-stage": "only@again" } },
    });
    await untilReady(cluster, key(name), "False StageFailed");
    for (let times = 0; times < 2; times++) await reconcile(name);
    expect(await effects.seen()).toEqual(["second", "second"]);
    const metrics = await scene.controller.metrics();
    expect(metrics).toContain(
      `stageset_action_runs_total{namespace="${scene.namespace}",name="${name}",scope="Revision"} 1`,
    );
  });

  test("[30.14] runs when the apply is refused, and not when a pre action fails", async () => {
    const name = "refused";
    const effects = await createEffects(cluster, key("effects-refused"));
    const onFailure = [effects.action("undo")];
    const bad = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: refused}\ndata: {k: [1]}\n";
    await scene.publish(name, { "a.yaml": bad });
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { onFailure } }], { retryInterval: "1h" });
    await untilReady(cluster, key(name), "False StageFailed");
    expect(await effects.seen()).toEqual(["undo"]);
    await scene.publish("early", { "a.yaml": configMap("early") });
    const target = { apiVersion: "v1", kind: "ConfigMap", name: "nowhere" };
    const pre = [{ name: "fails", patch: { target, patch: "data: {}" } }];
    await scene.release("early", [{ name: "only", sourceRef: { name: "early" }, actions: { pre, onFailure } }], {
      retryInterval: "1h",
    });
    await untilReady(cluster, key("early"), "False StageFailed");
    expect(await effects.seen()).toEqual(["undo"]);
  });

  test("[30.14] a deployed stage is not Ready, and its gate is closed, while they run", async () => {
    const name = "deployed";
    const actions = { onFailure: [{ name: "long", wait: { duration: "10m" } }] };
    await scene.publish(name, { "a.yaml": configMap(name, { k: "v" }) }, { revision: "r1" });
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions }], { retryInterval: "1h" });
    await untilReady(cluster, key(name));
    const gate = async (): Promise<number> =>
      (await scene.controller.gate(`/gate/${scene.namespace}/${name}/only`)).status;
    await eventually(async () => (await gate()) === 200);
    // What the stage asserts is refused from now on.
    await admin.patch(
      { apiVersion: "v1", kind: "ConfigMap", metadata: key(name) },
      { immutable: true, data: { k: "x" } },
    );
    await eventually(async () => readyOf(await scene.get(name)) === "Unknown Progressing");
    expect(at(stageStatus(await scene.get(name), "only"), "phase")).toBe("Verifying");
    await eventually(async () => (await gate()) === 403);
  });
});

describe("actions that take long", () => {
  test("[30.25] ten StageSets in a wait of ten minutes delay no other, and one of them is deleted at once", async () => {
    await using scene = await startScene(cluster, { config: { concurrency: 2 } });
    const pre = [{ name: "wait", wait: { duration: "10m" } }];
    const names = Array.from({ length: 10 }, (_, index) => `long-${index}`);
    await scene.publish("app", { "a.yaml": configMap("app") });
    for (const name of names)
      await scene.release(name, [{ name: "only", sourceRef: { name: "app" }, actions: { pre } }]);
    for (const name of names)
      await eventually(async () => at(stageStatus(await scene.get(name), "only"), "phase") === "Applying");
    const began = performance.now();
    await scene.release("quick", [{ name: "only", sourceRef: { name: "app" } }]);
    await untilReady(cluster, { namespace: scene.namespace, name: "quick" });
    expect(performance.now() - began).toBeLessThan(30_000);
    const deleted = performance.now();
    await admin.delete(stageSetRef(scene.namespace, "long-3"));
    await eventually(async () => (await scene.get("long-3")) === undefined, { timeoutMs: 50_000 });
    expect(performance.now() - deleted).toBeLessThan(50_000);
  });

  test("[30.39] an expression that exceeds its budget fails the attempt, naming it, and delays nobody", async () => {
    await using scene = await startScene(cluster);
    const list = "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]";
    const names = ["a", "b", "c", "d", "e", "f", "g"];
    const expr = names.reduce((inner, name) => `${list}.all(${name}, ${inner})`, "metadata.name != ''");
    const target = { apiVersion: "v1", kind: "ServiceAccount", name: "default" };
    await scene.publish("app", { "a.yaml": configMap("app") });
    await scene.publish("quick", { "a.yaml": configMap("quick") });
    const pre = [{ name: "count", wait: { target, expr } }];
    await scene.release("costly", [{ name: "only", sourceRef: { name: "app" }, actions: { pre } }]);
    await eventually(async () => at(stageStatus(await scene.get("costly"), "only"), "phase") === "Applying");
    const began = performance.now();
    await scene.release("quick", [{ name: "only", sourceRef: { name: "quick" } }]);
    await untilReady(cluster, { namespace: scene.namespace, name: "quick" });
    await eventually(async () => (await scene.controller.gate(`/gate/${scene.namespace}/quick/only`)).status === 200);
    expect(performance.now() - began).toBeLessThan(30_000);
    const failed = await untilReady(cluster, { namespace: scene.namespace, name: "costly" }, "False StageFailed");
    expect(messageOf(failed)).toContain("exceeds its budget");
    expect(messageOf(failed)).toContain(".all(a,");
  });
});
