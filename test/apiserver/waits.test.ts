import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { auditEvents, auditMark, eventually, testCluster, uniqueName } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { requestPass } from "../support/passes.ts";
import { deploymentKind, follow, startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;
const jobKind = { apiVersion: "batch/v1", kind: "Job" } as const;

let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster, { clusterWide: true });
});
afterAll(() => scene[Symbol.asyncDispose]());

const stageOf = (name: string, source: string, change: Readonly<Record<string, unknown>> = {}) => ({
  name,
  sourceRef: { name: source },
  ...change,
});
const target = (name: string) => ({ namespace: scene.namespace, name });

/** A Job of one pod; `pod` are annotations of the simulated node. */
function job(name: string, pod: Readonly<Record<string, string>> = {}, spec: Readonly<Record<string, unknown>> = {}) {
  const containers = [{ name: "main", image: "job" }];
  return stringify({
    ...jobKind,
    metadata: { name },
    spec: {
      backoffLimit: 0,
      template: { metadata: { annotations: pod }, spec: { restartPolicy: "Never", containers } },
      ...spec,
    },
  });
}

/** A kind whose readiness the test decides: a definition with a status subresource, installed at once. */
function widgets(): {
  readonly kind: { readonly apiVersion: string; readonly kind: string };
  readonly crd: Parameters<typeof admin.create>[0];
  readonly setReady: (
    name: string,
    ready: "True" | "False",
    status?: Readonly<Record<string, unknown>>,
  ) => Promise<KubeObject>;
} {
  const group = `${uniqueName("w")}.example.com`;
  const kind = { apiVersion: `${group}/v1`, kind: "Widget" };
  const schema = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  const crd = {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `widgets.${group}` },
    spec: {
      group,
      scope: "Namespaced",
      names: { plural: "widgets", kind: "Widget" },
      versions: [
        { name: "v1", served: true, storage: true, subresources: { status: {} }, schema: { openAPIV3Schema: schema } },
      ],
    },
  };
  return {
    kind,
    crd,
    setReady: (name, ready, status = {}) =>
      admin.patchStatus(
        { ...kind, metadata: { name, namespace: scene.namespace } },
        { ...status, conditions: [{ type: "Ready", status: ready, reason: "Test", message: "as the test says" }] },
      ),
  };
}

async function install(crd: Parameters<typeof admin.create>[0]): Promise<void> {
  await admin.create(crd);
  const ref = { ...crd, metadata: { name: crd.metadata.name ?? "" } };
  await eventually(async () =>
    asArray(at(await admin.get(ref), "status", "conditions")).some(
      (each) => at(each, "type") === "Established" && at(each, "status") === "True",
    ),
  );
}

const untilPhase = (name: string, stage: string, phase: string) =>
  eventually(
    async () => {
      const stageSet = await scene.get(name);
      expect(at(stageStatus(stageSet, stage), "phase"), messageOf(stageSet)).toBe(phase);
      return true;
    },
    { timeoutMs: 30_000 },
  );

describe.concurrent("Jobs", () => {
  test("[20.33] the next stage starts after a Job of 20 s completed", async () => {
    await scene.publish("long-1", { "a.yaml": job("long", { "bench.local/complete-after": "20s" }) });
    await scene.publish("long-2", { "a.yaml": configMap("after-long") });
    await scene.release("long", [stageOf("work", "long-1"), stageOf("next", "long-2")]);
    await untilPhase("long", "work", "Verifying");
    expect(await scene.object("after-long")).toBeUndefined();
    await untilReady(cluster, target("long"), "True Succeeded", { timeoutMs: 60_000 });
    const status = at(await scene.object("long", jobKind), "status");
    const completed = Date.parse(asText(at(status, "completionTime")) ?? "");
    expect(completed - Date.parse(asText(at(status, "startTime")) ?? "")).toBeGreaterThanOrEqual(19_000);
    const next = await scene.object("after-long");
    expect(Date.parse(asText(next?.metadata["creationTimestamp"]) ?? "")).toBeGreaterThanOrEqual(completed);
  });

  test("[20.33] a failed Job fails the stage at once", async () => {
    await scene.publish("broken-1", { "a.yaml": job("broken", { "bench.local/fail": "true" }) });
    await scene.publish("broken-2", { "a.yaml": configMap("after-broken") });
    await scene.release("broken", [stageOf("work", "broken-1"), stageOf("next", "broken-2")], { timeout: "15m" });
    const failed = await untilReady(cluster, target("broken"), "False StageFailed", { timeoutMs: 60_000 });
    expect(messageOf(failed)).toMatch(/^stage "work" verify: Job .*broken.* is Failed: .*BackoffLimitExceeded/);
    expect(stageStatus(failed, "work")).toMatchObject({ phase: "Failed" });
    expect(await scene.object("after-broken")).toBeUndefined();
  });

  test("one that expires is gone, not drift: it is not created again and the stage stays Ready", async () => {
    const files = { "a.yaml": job("short", {}, { ttlSecondsAfterFinished: 1 }), "b.yaml": configMap("beside") };
    await scene.publish("short", files);
    using history = follow(cluster, { ...jobKind, namespace: scene.namespace, name: "short" });
    await scene.release("short", [stageOf("work", "short")], { interval: "1s" });
    await untilReady(cluster, target("short"), "True Succeeded", { timeoutMs: 60_000 });
    await eventually(async () => (await scene.object("short", jobKind)) === undefined, { timeoutMs: 30_000 });
    // A foreign edit is put right, and a pass that was asked for has ended: both are steady, after the Job went.
    await admin.patch({ apiVersion: "v1", kind: "ConfigMap", metadata: target("beside") }, { data: { k: "x" } });
    await admin.patch(
      { apiVersion: "v1", kind: "ConfigMap", metadata: target("beside") },
      { metadata: { labels: null } },
    );
    await eventually(async () => (await scene.object("beside"))?.metadata.labels !== undefined);
    await requestPass(cluster, target("short"));
    expect(await scene.object("short", jobKind)).toBeUndefined();
    expect(readyOf(await scene.get("short"))).toBe("True Succeeded");
    expect(new Set(history.states.map((state) => state.metadata.uid)).size).toBe(1);
  });
});

describe.concurrent("a Deployment that is not ready in time", () => {
  test("[20.34] is StageProgressing with its objects kept; when it is ready later, the run goes on", async () => {
    await scene.publish("slow-1", { "a.yaml": deployment("slow", { pods: { readyAfter: "9s" } }) });
    await scene.publish("slow-2", { "a.yaml": configMap("after-slow") });
    const spec = { timeout: "3s", interval: "10m", retryInterval: "5m" };
    await scene.release("slow", [stageOf("app", "slow-1"), stageOf("next", "slow-2")], spec);
    const parked = await untilReady(cluster, target("slow"), "False StageProgressing");
    expect(messageOf(parked)).toMatch(
      /^stage "app" is applied and still becoming ready: Deployment .*slow.*\(waited 3s: stage readyChecks\.timeout, else stages\[\]\.timeout, else spec\.timeout\)/,
    );
    expect(stageStatus(parked, "app")).toMatchObject({ phase: "Verifying" });
    expect(await scene.object("slow", deploymentKind)).toBeDefined();
    const rolledOut = await eventually(
      async () => at(await scene.object("slow", deploymentKind), "status", "readyReplicas") === 1 && performance.now(),
      { timeoutMs: 60_000 },
    );
    await eventually(async () => (await scene.object("after-slow")) !== undefined, { timeoutMs: 30_000 });
    expect(performance.now() - rolledOut).toBeLessThan(5 * 2_000);
    await untilReady(cluster, target("slow"));
  });

  test("[20.34] with onTimeout Rollback is StageFailed", async () => {
    await scene.publish("never", { "a.yaml": deployment("never", { pods: { neverReady: "true" } }) });
    await scene.release("never", [stageOf("app", "never", { timeout: "3s" })], { onTimeout: "Rollback" });
    const failed = await untilReady(cluster, target("never"), "False StageFailed");
    expect(messageOf(failed)).toMatch(/^stage "app" verify: not ready within 3s: Deployment /);
    expect(stageStatus(failed, "app")).toMatchObject({ phase: "Failed" });
    expect(await scene.object("never", deploymentKind)).toBeDefined();
  });
});

describe.concurrent("checks and expressions", () => {
  test("[20.35] a check on a kind installed 10 s later holds, then lets go", async () => {
    const { kind, crd, setReady } = widgets();
    await scene.publish("late-1", { "a.yaml": configMap("late") });
    await scene.publish("late-2", { "a.yaml": configMap("after-late") });
    const readyChecks = { checks: [{ ...kind, name: "late" }], timeout: "5m" };
    await scene.release("late", [stageOf("app", "late-1", { readyChecks }), stageOf("next", "late-2")]);
    await untilPhase("late", "app", "Verifying");
    const parkedAt = performance.now();
    await eventually(() => performance.now() - parkedAt > 10_000, { timeoutMs: 20_000, intervalMs: 500 });
    await install(crd);
    expect(await scene.object("after-late")).toBeUndefined();
    expect(stageStatus(await scene.get("late"), "app")).toMatchObject({ phase: "Verifying" });
    await admin.create({ ...kind, metadata: target("late") });
    await setReady("late", "True");
    await untilReady(cluster, target("late"), "True Succeeded", { timeoutMs: 60_000 });
  });

  test("a later stage's new revision waits for a deployed stage that is not ready, whatever else wakes the run", async () => {
    const { kind, crd, setReady } = widgets();
    await install(crd);
    await scene.publish("kept-1", { "a.yaml": stringify({ ...kind, metadata: { name: "kept" } }) });
    await scene.publish("kept-2", { "a.yaml": configMap("after-kept", { k: "1" }) });
    await scene.release("kept", [stageOf("base", "kept-1"), stageOf("next", "kept-2")]);
    await eventually(() => setReady("kept", "True"));
    await untilReady(cluster, target("kept"), "True Succeeded", { timeoutMs: 60_000 });
    // The controller hears of it by a watch that opens at the end of the run.
    await sleep(2_000);
    await setReady("kept", "False");
    await sleep(1_000);
    await scene.publish("kept-2", { "a.yaml": configMap("after-kept", { k: "2" }) });
    await eventually(async () => readyOf(await scene.get("kept")) === "Unknown Progressing");
    for (const requestedAt of ["1", "2", "3"]) {
      await admin.patch(stageSetRef(scene.namespace, "kept"), {
        metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": requestedAt } },
      });
      await sleep(500);
      expect(at(await scene.object("after-kept"), "data", "k")).toBe("1");
    }
    await setReady("kept", "True");
    await untilReady(cluster, target("kept"), "True Succeeded", { timeoutMs: 60_000 });
    expect(at(await scene.object("after-kept"), "data", "k")).toBe("2");
  });

  test("a run is over when a deployed stage after the changed one is ready too; what mends that stage goes out at once", async () => {
    const { kind, crd, setReady } = widgets();
    const widget = (step: string) => stringify({ ...kind, metadata: { name: "last", labels: { step } } });
    await install(crd);
    await scene.publish("last-1", { "a.yaml": configMap("before-last", { k: "1" }) });
    await scene.publish("last-2", { "a.yaml": widget("1") });
    await scene.release("last", [stageOf("base", "last-1"), stageOf("next", "last-2")]);
    await eventually(() => setReady("last", "True"));
    await untilReady(cluster, target("last"), "True Succeeded", { timeoutMs: 60_000 });
    await setReady("last", "False");
    const { revision } = await scene.publish("last-1", { "a.yaml": configMap("before-last", { k: "2" }) });
    await eventually(async () => at(await scene.object("before-last"), "data", "k") === "2");
    await sleep(1_000);
    expect(readyOf(await scene.get("last"))).toBe("Unknown Progressing");
    expect(JSON.stringify(at(await scene.get("last"), "status", "lastAppliedRevisions"))).not.toContain(revision);
    await scene.publish("last-2", { "a.yaml": widget("2") });
    await eventually(async () => at(stageStatus(await scene.get("last"), "next"), "phase") === "Verifying");
    await setReady("last", "True");
    await untilReady(cluster, target("last"), "True Succeeded", { timeoutMs: 60_000 });
    expect(JSON.stringify(at(await scene.get("last"), "status", "lastAppliedRevisions"))).toContain(revision);
  });

  test("[20.35] an expression in progress holds past the timeout, then proceeds", async () => {
    const { kind, crd, setReady } = widgets();
    await install(crd);
    await scene.publish("expr-1", { "a.yaml": stringify({ ...kind, metadata: { name: "expr" } }) });
    await scene.publish("expr-2", { "a.yaml": configMap("after-expr") });
    const rule = { ...kind, current: "status.phase == 'Done'", inProgress: "!has(status.phase)" };
    const readyChecks = { exprs: [rule], timeout: "2s" };
    await scene.release("expr", [stageOf("app", "expr-1", { readyChecks }), stageOf("next", "expr-2")]);
    const parked = await untilReady(cluster, target("expr"), "False StageProgressing");
    expect(messageOf(parked)).toContain("status.phase == 'Done'");
    await setReady("expr", "True", { phase: "Done" });
    await untilReady(cluster, target("expr"));
    expect(await scene.object("after-expr")).toBeDefined();
  });

  test("[20.35] without inProgress the timeout is StageFailed, and one over its budget is named", async () => {
    const { kind, crd } = widgets();
    await install(crd);
    const items = Array.from({ length: 3_000 }, (_, index) => index);
    await scene.publish("stuck", { "a.yaml": stringify({ ...kind, metadata: { name: "stuck" } }) });
    await scene.publish("greedy", {
      "a.yaml": JSON.stringify({ ...kind, metadata: { name: "greedy" }, spec: { items } }),
    });
    await scene.publish("beside-greedy", { "a.yaml": configMap("beside-greedy") });
    const waits = (current: string) => ({ exprs: [{ ...kind, current }], timeout: "2s" });
    const loop = "spec.items.all(a, spec.items.all(b, a + b >= 0))";
    await scene.release("stuck", [stageOf("app", "stuck", { readyChecks: waits("has(status.done)") })]);
    await scene.release("greedy", [stageOf("app", "greedy", { readyChecks: waits(loop) })]);
    const started = performance.now();
    await scene.release("beside-greedy", [stageOf("app", "beside-greedy")]);
    await untilReady(cluster, target("beside-greedy"));
    const gate = `/gate/${scene.namespace}/beside-greedy/app`;
    await eventually(async () => (await scene.controller.gate(gate)).status === 200);
    expect(performance.now() - started).toBeLessThan(10_000);
    const stuck = await untilReady(cluster, target("stuck"), "False StageFailed");
    expect(messageOf(stuck)).toMatch(/^stage "app" verify: not ready within 2s: .*has\(status\.done\)/);
    const greedy = await untilReady(cluster, target("greedy"), "False StageFailed");
    expect(messageOf(greedy)).toContain(`expression "${loop}" exceeds its budget`);
  });

  test("a regular expression that backtracks elsewhere costs nothing here", async () => {
    const { kind, crd } = widgets();
    await install(crd);
    const text = `${"a".repeat(50_000)}!`;
    await scene.publish("regexp", { "a.yaml": stringify({ ...kind, metadata: { name: "regexp" }, spec: { text } }) });
    const readyChecks = { exprs: [{ ...kind, current: "!spec.text.matches('^(a+)+$')" }] };
    await scene.release("regexp", [stageOf("app", "regexp", { readyChecks })]);
    await untilReady(cluster, target("regexp"));
  });

  test("a claim that waits for its first consumer is ready", async () => {
    const storageClass = uniqueName("wffc");
    await admin.create({
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: { name: storageClass },
      provisioner: "example.com/none",
      volumeBindingMode: "WaitForFirstConsumer",
    });
    const spec = {
      accessModes: ["ReadWriteOnce"],
      storageClassName: storageClass,
      resources: { requests: { storage: "1Gi" } },
    };
    const claim = { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "claim" }, spec };
    await scene.publish("claim", { "a.yaml": stringify(claim) });
    await scene.release("claim", [stageOf("app", "claim")]);
    await untilReady(cluster, target("claim"));
  });
});

describe.concurrent("what ends a wait", () => {
  test("[20.41] suspended within 2 s, nothing applied after; resuming goes on where it was", async () => {
    await scene.publish("halt-1", { "a.yaml": deployment("halt", { pods: { readyAfter: "8s" } }) });
    await scene.publish("halt-2", { "a.yaml": configMap("after-halt") });
    using history = follow(cluster, { ...deploymentKind, namespace: scene.namespace, name: "halt" });
    await scene.release("halt", [stageOf("app", "halt-1"), stageOf("next", "halt-2")], { timeout: "15m" });
    await untilPhase("halt", "app", "Verifying");
    const ref = stageSetRef(scene.namespace, "halt");
    const suspendedAt = performance.now();
    await admin.patch(ref, { spec: { suspend: true } });
    const suspended = await untilReady(cluster, target("halt"), "False Suspended");
    expect(performance.now() - suspendedAt).toBeLessThan(5 * 2_000);
    expect(stageStatus(suspended, "app")).toMatchObject({ phase: "Verifying" });
    const since = await auditMark(cluster);
    await eventually(async () => at(await scene.object("halt", deploymentKind), "status", "readyReplicas") === 1, {
      timeoutMs: 60_000,
    });
    // Time for what must not happen: a few times what stage 2 needs to start.
    const readyAt = performance.now();
    await eventually(() => performance.now() - readyAt > 2_000, { timeoutMs: 5_000, intervalMs: 250 });
    const writes = await auditEvents(cluster, {
      since,
      namespace: scene.namespace,
      verbs: ["create", "patch", "update", "delete"],
      where: ({ name, resource }) =>
        ["halt", "after-halt"].includes(name) && ["deployments", "configmaps"].includes(resource),
    });
    expect(writes.filter(({ username }) => username.endsWith(":deployer"))).toEqual([]);
    expect((await scene.get("halt"))?.metadata.resourceVersion).toBe(suspended.metadata.resourceVersion);
    await admin.patch(ref, { spec: { suspend: null } });
    await untilReady(cluster, target("halt"));
    expect(await scene.object("after-halt")).toBeDefined();
    expect(new Set(history.states.map((state) => state.metadata.generation)), "written once").toEqual(new Set([1]));
  });

  test("[20.42] deletion during a wait of 15 min starts the teardown within 2 s", async () => {
    await scene.publish("leaving", { "a.yaml": deployment("leaving", { pods: { neverReady: "true" } }) });
    await scene.release("leaving", [stageOf("app", "leaving")]);
    await untilPhase("leaving", "app", "Verifying");
    const deletedAt = performance.now();
    await admin.delete(stageSetRef(scene.namespace, "leaving"));
    await eventually(async () => {
      const object = await scene.object("leaving", deploymentKind);
      return object === undefined || object.metadata.deletionTimestamp !== undefined;
    });
    expect(performance.now() - deletedAt).toBeLessThan(5 * 2_000);
    await eventually(async () => (await scene.get("leaving")) === undefined);
  });
});

test("[20.40] a promoted stage that flaps past its timeout keeps promotion, tokens and ledger, and is not gated again", async () => {
  const { kind, crd, setReady } = widgets();
  await install(crd);
  await scene.publish("flapping", { "a.yaml": stringify({ ...kind, metadata: { name: "flapping" } }) });
  const spec = { interval: "1s", retryInterval: "1s", timeout: "2s" };
  const stage = { ...stageOf("app", "flapping"), promotion: { soak: "1s" } };
  const created = await scene.release("flapping", [stage], spec);
  const before = await untilReady(cluster, target("flapping"));
  const entry = stageStatus(before, "app");
  expect(entry).toMatchObject({ promotionState: { phase: "Promoted" } });
  // As left by a token and an action of this revision.
  const handled = {
    lastHandledPromotion: "token-1",
    executedActions: ["smoke"],
    ledgerRevision: asText(at(entry, "appliedRevision")),
  };
  const owner = { apiVersion: created.apiVersion, kind: created.kind };
  const ledger = await admin.create({
    apiVersion: owner.apiVersion,
    kind: "StageLedger",
    metadata: target("flapping"),
    spec: {},
  });
  await admin.patch(
    stageSetRef(scene.namespace, "flapping"),
    [{ op: "replace", path: "/status/stages/0", value: { ...(entry as object), ...handled } }],
    { type: "json", subresource: "status" },
  );
  const kept = stageStatus(await scene.get("flapping"), "app");
  expect(kept).toMatchObject({ lastHandledPromotion: "token-1" });
  await setReady("flapping", "False");
  const parked = await untilReady(cluster, target("flapping"), "False StageProgressing");
  expect(stageStatus(parked, "app")).toMatchObject({ phase: "Verifying" });
  await setReady("flapping", "True");
  const again = await untilReady(cluster, target("flapping"));
  for (const state of [parked, again]) {
    const { phase: _phase, ...rest } = stageStatus(state, "app") as Record<string, unknown>;
    const { phase: _before, ...wanted } = kept as Record<string, unknown>;
    expect(rest).toMatchObject(wanted);
  }
  const ledgerNow = await admin.get({ ...ledger, metadata: target("flapping") });
  expect(ledgerNow?.metadata.resourceVersion).toBe(ledger.metadata.resourceVersion);
});
