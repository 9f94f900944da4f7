import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { createServiceAccount, eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { createEffects, type Effects } from "../support/effects.ts";
import { deployment } from "../support/manifests.ts";
import { requestPass } from "../support/passes.ts";
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
const retrying = { retryInterval: "1s" };

const reconcile = (name: string) => requestPass(cluster, key(name));

const until: Scene["until"] = (name, holds) => scene.until(name, holds);

const isApplied = (revision: string) => (stageSet: KubeObject | undefined) =>
  readyOf(stageSet) === "True Succeeded" && at(stageStatus(stageSet, "only"), "appliedRevision") === revision;

describe("pre and post actions", () => {
  test("[30.1] run once for each revision, before and after the objects of their stage", async () => {
    const name = "once";
    const effects = await effectsOf(name);
    // The one needs the object that the stage applies, the other finds it as the revision before left it.
    const post = { target: { apiVersion: "v1", kind: "ConfigMap", name }, patch: "metadata: {labels: {seen: yes}}" };
    const actions = {
      pre: [effects.action("pre")],
      post: [
        { name: "label", patch: { ...post, patch: '{"metadata": {"labels": {"seen": "yes"}}}' } },
        effects.action("post"),
      ],
    };
    await publish(name, "r1");
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions }]);
    await until(name, isApplied("r1"));
    expect(await effects.seen()).toEqual(["pre", "post"]);
    expect(at(await scene.object(name), "metadata", "labels", "seen")).toBe("yes");
    await reconcile(name);
    await reconcile(name);
    expect(await effects.seen()).toEqual(["pre", "post"]);
    await publish(name, "r2");
    const stageSet = await until(name, isApplied("r2"));
    expect(await effects.seen()).toEqual(["pre", "post", "pre", "post"]);
    expect(stageStatus(stageSet, "only")).toMatchObject({
      executedActions: ["pre", "label", "post"],
      ledgerRevision: "r2",
    });
    const metrics = await scene.controller.metrics();
    expect(metrics).toContain(
      `stageset_action_runs_total{namespace="${scene.namespace}",name="${name}",scope="Revision"} 6`,
    );
    expect(metrics).toMatch(/stageset_stage_phase_seconds_count\{phase="actions"\} \d+/);
  });

  test("[30.3] none runs again while a prune is denied and passes repeat", async () => {
    const name = "unpruned";
    const effects = await effectsOf(name);
    const verbs = ["get", "list", "watch", "create", "update", "patch"];
    await createServiceAccount(cluster, {
      ...key("no-deletes"),
      rules: [{ apiGroups: ["*"], resources: ["*"], verbs }],
    });
    await scene.publish(name, { "a.yaml": configMap(name), "b.yaml": configMap(`${name}-b`) }, { revision: "r1" });
    const actions = { pre: [effects.action("pre")], post: [effects.action("post")] };
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions }], {
      ...retrying,
      interval: "1s",
      serviceAccountName: "no-deletes",
    });
    await until(name, isApplied("r1"));
    await scene.publish(name, { "a.yaml": configMap(name) }, { revision: "r2" });
    await until(name, (stageSet) => readyOf(stageSet) === "False RBACDenied");
    for (let times = 0; times < 3; times++) await reconcile(name);
    expect(readyOf(await scene.get(name))).toBe("False RBACDenied");
    expect(await effects.seen()).toEqual(["pre", "post", "pre", "post"]);
  });

  test("[30.12] [10.26] a forced stage whose third action fails runs only that one again", async () => {
    const name = "forced";
    const [effects, third] = [await effectsOf(name), await effectsOf(`${name}-third`)];
    const thirdRef = { apiVersion: "v1", kind: "ServiceAccount", metadata: key(`effects-${name}-third`) };
    const actions = { pre: [effects.action("one"), effects.action("two"), third.action("three")] };
    await publish(name, "r1");
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions }], retrying);
    await until(name, isApplied("r1"));
    await admin.delete(thirdRef);
    const force = (token: string): Promise<unknown> =>
      admin.patch(stageSetRef(scene.namespace, name), {
        metadata: { annotations: { "stages.metio.wtf/reconcile-stage": `only@${token}` } },
      });
    await force("t1");
    const failed = await until(name, (stageSet) => readyOf(stageSet) === "False StageFailed");
    expect(messageOf(failed)).toContain('stage "only" pre-action: action "three": Cannot patch ServiceAccount');
    expect(at(stageStatus(failed, "only"), "lastHandledReconcileAt")).toBe("t1");
    for (let times = 0; times < 3; times++) await reconcile(name);
    expect(await effects.seen()).toEqual(["one", "two", "one", "two"]);
    await admin.create({ ...thirdRef, imagePullSecrets: [{ name: "begin" }] });
    await until(name, isApplied("r1"));
    expect(await effects.seen()).toEqual(["one", "two", "one", "two"]);
    expect(await third.seen()).toEqual(["three"]);
  });

  test("[30.12] a slow stage that is looked at ten times runs none again", async () => {
    const name = "slow";
    const effects = await effectsOf(name);
    await scene.publish(name, { "a.yaml": deployment(name, { pods: { readyAfter: "1h" } }) });
    const actions = { pre: [effects.action("pre")], post: [effects.action("post")] };
    const stage = { name: "only", sourceRef: { name }, actions, readyChecks: { timeout: "1s" } };
    await scene.release(name, [stage], retrying);
    await until(name, (stageSet) => readyOf(stageSet) === "False StageProgressing");
    for (let look = 0; look < 10; look++) await reconcile(name);
    expect(await effects.seen()).toEqual(["pre"]);
  });

  test("[10.27] a pre action that fails leaves the applied revision, and no drift is told of when it succeeds", async () => {
    const name = "preceding";
    const effects = await effectsOf(name);
    const ref = { apiVersion: "v1", kind: "ServiceAccount", metadata: key(`effects-${name}`) };
    await publish(name, "r1");
    const actions = { pre: [effects.action("pre")] };
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions }], retrying);
    await until(name, isApplied("r1"));
    await admin.delete(ref);
    await publish(name, "r2");
    const failed = await until(name, (stageSet) => readyOf(stageSet) === "False StageFailed");
    expect(stageStatus(failed, "only")).toMatchObject({
      appliedRevision: "r1",
      enteredRevision: "r2",
      phase: "Failed",
    });
    expect(at(await scene.object(name), "data", "k")).toBe("r1");
    await admin.create({ ...ref, imagePullSecrets: [{ name: "begin" }] });
    await until(name, isApplied("r2"));
    const reasons = (await stageSetEvents(cluster, key(name))).map(({ reason }) => reason);
    expect(reasons).not.toContain("DriftCorrected");
  });

  test("what the identity may not do is RBACDenied, and names the call", async () => {
    const name = "denied";
    await createServiceAccount(cluster, {
      ...key("config-only"),
      rules: [{ apiGroups: [""], resources: ["configmaps"], verbs: ["*"] }],
    });
    await publish(name, "r1");
    const target = { apiVersion: "v1", kind: "ServiceAccount", name: "default" };
    const actions = { pre: [{ name: "touch", patch: { target, patch: "{}" }, retries: 5 }] };
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions }], { serviceAccountName: "config-only" });
    const denied = await until(name, (stageSet) => readyOf(stageSet) === "False RBACDenied");
    expect(messageOf(denied)).toContain('action "touch": Cannot patch ServiceAccount');
    expect(messageOf(denied)).toContain('cannot patch resource "serviceaccounts"');
    expect(await scene.object(name)).toBeUndefined();
  });

  test("an action that is added at a revision that is deployed runs, and no other", async () => {
    const name = "added";
    const effects = await effectsOf(name);
    await publish(name, "r1");
    const stage = { name: "only", sourceRef: { name }, actions: { post: [effects.action("old")] } };
    await scene.release(name, [stage]);
    await until(name, isApplied("r1"));
    const post = [effects.action("new"), effects.action("old")];
    await admin.patch(stageSetRef(scene.namespace, name), { spec: { stages: [{ ...stage, actions: { post } }] } });
    await eventually(async () => (await effects.seen()).length === 2);
    await untilReady(cluster, key(name));
    expect(await effects.seen()).toEqual(["old", "new"]);
  });
});

describe("patch", () => {
  test("[30.20] a merge patch reaches a custom resource, and an unset apiVersion finds a Deployment", async () => {
    const name = "patching";
    const custom = { apiVersion: "source.toolkit.fluxcd.io/v1", kind: "Bucket", metadata: key(name) };
    await admin.create({ ...custom, spec: { bucketName: "b", endpoint: "e", interval: "1m", ignore: "x" } });
    await scene.publish(name, { "a.yaml": deployment(name) });
    const pre = [
      { name: "custom", patch: { target: { ...custom, name, metadata: undefined }, patch: "spec: {ignore: other}" } },
    ];
    const post = [
      { name: "scale", patch: { target: { kind: "Deployment", name }, patch: "spec: {minReadySeconds: 1}" } },
    ];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre, post } }]);
    await untilReady(cluster, key(name));
    expect(await admin.get(custom)).toMatchObject({ spec: { ignore: "other", bucketName: "b" } });
    const patched = await scene.object(name, { apiVersion: "apps/v1", kind: "Deployment" });
    expect(at(patched, "spec", "minReadySeconds")).toBe(1);
  });

  test("a selector patches every object that matches, and none is fine", async () => {
    const name = "selecting";
    for (const suffix of ["a", "b", "c"])
      await admin.create({
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { ...key(`${name}-${suffix}`), labels: suffix === "c" ? {} : { pick: name } },
      });
    await publish(name, "r1");
    const patch = (pick: string) => ({
      target: { apiVersion: "v1", kind: "ConfigMap", selector: { matchLabels: { pick } } },
      patch: "data: {picked: 'yes'}",
    });
    const pre = [
      { name: "some", patch: patch(name) },
      { name: "none", patch: patch("nothing") },
    ];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }]);
    await untilReady(cluster, key(name));
    const picked = await Promise.all(["a", "b", "c"].map((suffix) => scene.object(`${name}-${suffix}`)));
    expect(picked.map((each) => at(each, "data", "picked"))).toEqual(["yes", "yes", undefined]);
  });
});

describe("delete", () => {
  test("[30.19] with cascade Orphan before the stage that holds the same StatefulSet: it is another one, its pods are the same", async () => {
    const name = "stateful";
    const kind = { apiVersion: "apps/v1", kind: "StatefulSet" };
    const manifest = (serviceName: string): string =>
      JSON.stringify({
        ...kind,
        metadata: { name },
        spec: {
          serviceName,
          replicas: 2,
          selector: { matchLabels: { app: name } },
          template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: "app", image: "app" }] } },
        },
      });
    const pods = async (): Promise<readonly string[]> =>
      (
        await admin.list(
          { apiVersion: "v1", kind: "Pod", namespace: scene.namespace },
          { labelSelector: `app=${name}` },
        )
      )
        .map((pod) => pod.metadata.uid ?? "")
        .toSorted();
    await scene.publish(name, { "a.json": manifest("one") }, { revision: "r1" });
    const pre = [{ name: "release", delete: { target: { ...kind, name }, cascade: "Orphan" } }];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }]);
    await until(name, isApplied("r1"));
    const [before, podsBefore] = [await scene.object(name, kind), await pods()];
    expect(podsBefore).toHaveLength(2);
    // A field that cannot be changed: nothing but another object will do.
    await scene.publish(name, { "a.json": manifest("two") }, { revision: "r2" });
    await until(name, isApplied("r2"));
    const after = await scene.object(name, kind);
    expect(at(after, "spec", "serviceName")).toBe("two");
    expect(after?.metadata.uid).not.toBe(before?.metadata.uid);
    expect(await pods()).toEqual(podsBefore);
  });

  test("what is held by a finalizer is waited for, and named when the time is out", async () => {
    const name = "held-back";
    const ref = { apiVersion: "v1", kind: "ConfigMap", metadata: key(`${name}-target`) };
    await admin.create({ ...ref, metadata: { ...ref.metadata, finalizers: ["example.com/hold"] } });
    await publish(name, "r1");
    const target = { apiVersion: "v1", kind: "ConfigMap", name: `${name}-target` };
    const pre = [{ name: "remove", delete: { target }, timeout: "1s" }];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }], retrying);
    const failed = await until(name, (stageSet) => readyOf(stageSet) === "False StageFailed");
    expect(messageOf(failed)).toContain("timed out after 1s");
    expect(messageOf(failed)).toContain("not gone yet, held by finalizers example.com/hold");
    expect(await scene.object(name)).toBeUndefined();
    await admin.patch(ref, { metadata: { finalizers: null } });
    await untilReady(cluster, key(name));
  });
});

describe("wait", () => {
  const target = (name: string) => ({ apiVersion: "v1", kind: "ConfigMap", name: `${name}-target` });

  test("ends when its expression is true of the target, and fails with what was missing when its time is out", async () => {
    const name = "waiting";
    await publish(name, "r1");
    const expr = "metadata.labels.go == 'yes'";
    const pre = [{ name: "go", wait: { target: target(name), expr, timeout: "3s" } }];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }], retrying);
    const failed = await until(name, (stageSet) => readyOf(stageSet) === "False StageFailed");
    expect(messageOf(failed)).toContain(
      `timed out after 3s: ConfigMap ${scene.namespace}/${name}-target does not exist`,
    );
    const { name: targetName, ...kind } = target(name);
    await admin.create({ ...kind, metadata: { ...key(targetName), labels: { go: "yes" } } });
    await untilReady(cluster, key(name));
  });

  test("suspension lets it end and be recorded, and no other begins", async () => {
    const name = "suspended";
    const effects = await effectsOf(name);
    await publish(name, "r1");
    const pre = [{ name: "go", wait: { target: target(name), expr: "metadata.name != ''" } }, effects.action("next")];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }]);
    await until(name, (stageSet) => at(stageStatus(stageSet, "only"), "phase") === "Applying");
    await admin.patch(stageSetRef(scene.namespace, name), { spec: { suspend: true } });
    await until(name, (stageSet) => readyOf(stageSet) === "False Suspended");
    const { name: targetName, ...kind } = target(name);
    await admin.create({ ...kind, metadata: key(targetName) });
    await until(name, (stageSet) => asArray(at(stageStatus(stageSet, "only"), "executedActions")).includes("go"));
    expect(await effects.seen()).toEqual([]);
    await admin.patch(stageSetRef(scene.namespace, name), { spec: { suspend: null } });
    await untilReady(cluster, key(name));
    expect(await effects.seen()).toEqual(["next"]);
    expect(asText(at(stageStatus(await scene.get(name), "only"), "ledgerRevision"))).toBe("r1");
  });
});
