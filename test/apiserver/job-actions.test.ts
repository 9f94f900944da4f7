import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { podAnnotations } from "../../src/dev/kwok-config.ts";
import { at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { publishArtifact, startArtifactServer } from "../support/artifacts.ts";
import { controllerToken } from "../support/controller-account.ts";
import { startControllerProcess } from "../support/controller-process.ts";
import { configMap, createStageSet, messageOf, readyOf, stageSetRef, untilReady } from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;
const jobKind = { apiVersion: "batch/v1", kind: "Job" } as const;

function job(name: string, pod: Readonly<Record<string, string>> = {}): string {
  const annotations = Object.fromEntries(
    Object.entries(podAnnotations).flatMap(([option, key]) => (pod[option] === undefined ? [] : [[key, pod[option]]])),
  );
  return JSON.stringify({
    ...jobKind,
    metadata: { name },
    spec: {
      backoffLimit: 0,
      template: {
        metadata: { annotations },
        spec: { restartPolicy: "Never", containers: [{ name: "work", image: "work" }] },
      },
    },
  });
}

const jobsIn = (namespace: string): Promise<readonly KubeObject[]> => admin.list({ ...jobKind, namespace });
const podsOf = async (namespace: string): Promise<readonly KubeObject[]> =>
  (await admin.list({ apiVersion: "v1", kind: "Pod", namespace })).filter(
    (pod) => pod.metadata.labels?.["batch.kubernetes.io/job-name"] !== undefined,
  );

describe("job", () => {
  let scene: Scene;
  beforeAll(async () => {
    scene = await startScene(cluster);
  });
  afterAll(() => scene[Symbol.asyncDispose]());
  const key = (name: string) => ({ namespace: scene.namespace, name });
  const release = async (name: string, action: Readonly<Record<string, unknown>>): Promise<void> => {
    await scene.publish(name, { "a.yaml": configMap(name) });
    const pre = [{ name: "work", ...action }];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }], { retryInterval: "1h" });
  };

  test("[30.18] two StageSets with one artifact get a Job each, which are gone when they are recorded", async () => {
    await scene.publish("shared-jobs", { "a.json": job("shared") });
    const seen = new Map<string, KubeObject>();
    const abort = new AbortController();
    const watching = (async () => {
      for await (const { object } of admin.watch({ ...jobKind, namespace: scene.namespace }, { signal: abort.signal }))
        seen.set(object.metadata.name, object);
    })();
    watching.catch(() => undefined); // The test sees that Jobs are missing.
    await Promise.all(["one", "two"].map((name) => release(name, { job: { sourceRef: { name: "shared-jobs" } } })));
    for (const name of ["one", "two"]) await untilReady(cluster, key(name));
    await eventually(async () => (await jobsIn(scene.namespace)).length === 0);
    abort.abort();
    expect(seen.size).toBe(2);
    for (const [name, object] of seen) {
      expect(name).toMatch(/^shared-[0-9a-f]{8}$/);
      expect(Object.keys(object.metadata.labels ?? {})).toContain("stages.metio.wtf/action");
      expect(Object.keys(object.metadata.labels ?? {})).not.toContain("stages.metio.wtf/name");
      expect(at(object, "spec", "ttlSecondsAfterFinished")).toBe(86_400);
      expect(object.metadata.ownerReferences?.map(({ kind }) => kind)).toEqual(["StageSet"]);
    }
  });

  test("[30.18] anything but a Job in the artifact fails the action at once, naming it", async () => {
    await scene.publish("mixed-jobs", { "a.json": job("fine"), "b.yaml": configMap("stranger") });
    await release("mixed", { job: { sourceRef: { name: "mixed-jobs" } }, retries: 100 });
    const refused = await untilReady(cluster, key("mixed"), "False StageFailed");
    expect(messageOf(refused)).toContain(`action "work": ConfigMap ${scene.namespace}/stranger`);
    expect(await jobsIn(scene.namespace)).toEqual([]);
  });

  test("[30.17] the second pod starts when the first is gone, and the last failed Job stays", async () => {
    await scene.publish("failing-jobs", { "a.json": job("fails", { fail: "true" }) });
    const states: (readonly string[])[] = [];
    const over = new AbortController();
    const asking = (async () => {
      while (!over.signal.aborted) {
        states.push((await podsOf(scene.namespace)).map((pod) => pod.metadata.uid ?? ""));
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
    })();
    await release("failing", { job: { sourceRef: { name: "failing-jobs" } }, retries: 1 });
    const failed = await untilReady(cluster, key("failing"), "False StageFailed");
    over.abort();
    await asking;
    expect(messageOf(failed)).toMatch(/Job \S+\/fails-[0-9a-f]{8} failed: BackoffLimitExceeded/);
    expect(messageOf(failed)).toContain("exit code 1");
    expect(Math.max(...states.map((pods) => pods.length))).toBe(1);
    expect(new Set(states.flat()).size).toBe(2);
    const [left, ...more] = await jobsIn(scene.namespace);
    expect(more).toEqual([]);
    expect(left?.metadata.name).toMatch(/^fails-/);
    if (left !== undefined) await admin.delete({ ...jobKind, metadata: key(left.metadata.name) });
  });

  test("a Job that does not end in time is deleted, and one of a StageSet that is deleted too", async () => {
    await scene.publish("endless-jobs", { "a.json": job("endless", { completeAfter: "1h" }) });
    await release("late", { job: { sourceRef: { name: "endless-jobs" } }, timeout: "2s" });
    const failed = await untilReady(cluster, key("late"), "False StageFailed");
    expect(messageOf(failed)).toMatch(/timed out after 2s: Job \S+ is still running/);
    await eventually(async () => (await jobsIn(scene.namespace)).length === 0);
    await release("deleted", { job: { sourceRef: { name: "endless-jobs" } } });
    await eventually(async () => (await jobsIn(scene.namespace)).length === 1);
    await admin.delete({ apiVersion: "stages.metio.wtf/v1", kind: "StageSet", metadata: key("deleted") });
    await eventually(
      async () => (await scene.get("deleted")) === undefined && (await jobsIn(scene.namespace)).length === 0,
    );
  });

  test("a finished Job of an earlier time, which could not be deleted, counts for no later run", async () => {
    const rules = (verbs: readonly string[]) => [{ apiGroups: ["*"], resources: ["*"], verbs }];
    const most = ["get", "list", "watch", "create", "update", "patch"];
    const identity = { namespace: scene.namespace, name: "keeper" };
    await createServiceAccount(cluster, { ...identity, rules: rules(most) });
    await scene.publish("kept-jobs", { "a.json": job("kept") });
    const name = "returning";
    const revisions = ["1", "2", "1"].map((value) => ({ "a.yaml": configMap(name, { value }) }));
    const [first = {}, second = {}, again = {}] = revisions;
    await scene.publish(name, first);
    const pre = [{ name: "work", job: { sourceRef: { name: "kept-jobs" } } }];
    const stages = [{ name: "only", sourceRef: { name }, actions: { pre } }];
    await scene.release(name, stages, { serviceAccountName: "keeper" });
    await untilReady(cluster, key(name));
    const jobs = async () =>
      (await jobsIn(scene.namespace)).filter(({ metadata }) => metadata.name.startsWith("kept-"));
    const kept = await eventually(async () => (await jobs())[0]);
    await scene.publish(name, second);
    await eventually(async () => (await jobs()).length === 2);
    await untilReady(cluster, key(name));
    await scene.publish(name, again);
    const refused = await untilReady(cluster, key(name), "False RBACDenied");
    expect(messageOf(refused)).toContain(`Cannot delete Job ${scene.namespace}/${kept.metadata.name}`);
    await createServiceAccount(cluster, { ...identity, rules: rules([...most, "delete"]) });
    await eventually(
      async () => {
        const live = await admin.get({ ...jobKind, metadata: key(kept.metadata.name) });
        // Else a refusal is tried again after a minute.
        const annotations = { "reconcile.fluxcd.io/requestedAt": String(Date.now()) };
        if (readyOf(await scene.get(name)) === "False RBACDenied")
          await admin.patch(stageSetRef(scene.namespace, name), { metadata: { annotations } });
        return live?.metadata.uid !== kept.metadata.uid && readyOf(await scene.get(name)) === "True Succeeded";
      },
      { timeoutMs: 60_000 },
    );
    for (const { metadata } of await jobs()) await admin.delete({ ...jobKind, metadata: key(metadata.name) });
  });

  test("a source in another namespace that is not there is told in the one sentence", async () => {
    await release("foreign", { job: { sourceRef: { name: "secret-name", namespace: "kube-system" } } });
    const failed = await untilReady(cluster, key("foreign"), "False SourceNotReady");
    expect(messageOf(failed)).toContain('cross-namespace ExternalArtifact "secret-name" is not reachable');
    expect(messageOf(failed)).not.toContain("does not exist");
  });
});

test("[30.16] a Job that runs while the controller is restarted is left alone, adopted, and completes once", async () => {
  const namespace = await uniqueNamespace(cluster);
  const server = await startArtifactServer();
  await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
  const start = async () =>
    startControllerProcess({
      server: cluster.server,
      caPem: cluster.caPem,
      token: await controllerToken(cluster),
      namespaces: [namespace],
      args: ["--leader-elect=false"],
    });
  const program = await start();
  const publish = (name: string, files: Readonly<Record<string, string>>) =>
    publishArtifact(cluster, { server, namespace, name, files });
  await publish("jobs", { "a.json": job("slow", { completeAfter: "15s" }) });
  await publish("app", { "a.yaml": configMap("app") });
  const pre = [{ name: "work", job: { sourceRef: { name: "jobs" } } }];
  await createStageSet(cluster, {
    namespace,
    name: "restarted",
    spec: { serviceAccountName: "deployer", stages: [{ name: "only", sourceRef: { name: "app" }, actions: { pre } }] },
  });
  const pod = await eventually(async () => (await podsOf(namespace))[0]);
  expect(await program.stop()).toBe(0);
  expect((await podsOf(namespace)).map(({ metadata }) => metadata.uid)).toEqual([pod.metadata.uid]);
  await using _next = await start();
  const seen = new Set<string>();
  await eventually(
    async () => {
      for (const each of await podsOf(namespace)) seen.add(each.metadata.uid ?? "");
      const stageSet = await admin.get({
        apiVersion: "stages.metio.wtf/v1",
        kind: "StageSet",
        metadata: { namespace, name: "restarted" },
      });
      return readyOf(stageSet) === "True Succeeded";
    },
    { timeoutMs: 120_000 },
  );
  expect([...seen]).toEqual([pod.metadata.uid]);
  await server.stop();
});

describe("apply", () => {
  let scene: Scene;
  beforeAll(async () => {
    scene = await startScene(cluster);
  });
  afterAll(() => scene[Symbol.asyncDispose]());

  test("applies with the owner's labels and no stage's, in no inventory, and waits until it is ready", async () => {
    const name = "applying";
    const { namespace } = scene;
    await scene.publish("extra", { "a.yaml": deployment("extra", { pods: { readyAfter: "2s" } }) });
    await scene.publish(name, { "a.yaml": configMap(name) });
    const pre = [{ name: "bring", apply: { sourceRef: { name: "extra" }, wait: true } }];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }]);
    await untilReady(cluster, { namespace, name });
    const extra = await scene.object("extra", { apiVersion: "apps/v1", kind: "Deployment" });
    expect(extra?.metadata.labels).toMatchObject({
      "stages.metio.wtf/name": name,
      "stages.metio.wtf/namespace": namespace,
    });
    expect(extra?.metadata.labels).not.toHaveProperty("stages.metio.wtf/stage");
    expect(at(extra, "status", "readyReplicas")).toBe(1);
    const shards = await admin.list({ apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", namespace });
    expect(JSON.stringify(shards)).not.toContain("_extra_");
  });

  test("what can never be applied is named, and what the identity may not do is RBACDenied", async () => {
    const name = "refused";
    await scene.publish("bad", {
      "a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\ndata: {k: [1]}\n",
    });
    await scene.publish(name, { "a.yaml": configMap(name) });
    const pre = [{ name: "bring", apply: { sourceRef: { name: "bad" } } }];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }]);
    const failed = await untilReady(cluster, { namespace: scene.namespace, name }, "False StageFailed");
    expect(messageOf(failed)).toContain(`action "bring": ConfigMap ${scene.namespace}/bad`);
  });
});
