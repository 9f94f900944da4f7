import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueName } from "../support/cluster.ts";
import { publishArtifact } from "../support/artifacts.ts";
import { controllerToken } from "../support/controller-account.ts";
import {
  configMap,
  createStageSet,
  messageOf,
  readyOf,
  stageSetRef,
  stageStatus,
  untilReady,
} from "../support/controller.ts";
import { startControllerProcess } from "../support/controller-process.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { deployment } from "../support/manifests.ts";
import { deploymentKind, follow, startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
const stageSetKind = { apiVersion: "stages.metio.wtf/v1", kind: "StageSet" } as const;

let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster, { clusterWide: true });
});
afterAll(() => scene[Symbol.asyncDispose]());

const target = (name: string) => ({ namespace: scene.namespace, name });
const stageOf = (name: string, source: string, change: Readonly<Record<string, unknown>> = {}) => ({
  name,
  sourceRef: { name: source },
  ...change,
});
const configMapRef = (name: string) => ({ apiVersion: "v1", kind: "ConfigMap", metadata: target(name) });

/** Waits until the last successful run was at these revisions. */
const untilApplied = (name: string, revisions: readonly string[]) =>
  eventually(
    async () => {
      const stageSet = await scene.get(name);
      expect(Object.values(at(stageSet, "status", "lastAppliedRevisions") ?? {}), messageOf(stageSet)).toEqual(
        revisions,
      );
      return stageSet ?? false;
    },
    { timeoutMs: 30_000 },
  );

/** Passes of the scene's controller so far. */
async function passes(): Promise<number> {
  const lines = (await scene.controller.metrics()).split("\n");
  const counts = lines.filter((line) => line.startsWith("controller_runtime_reconcile_total{"));
  return counts.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

describe("a release as its status tells it", () => {
  test("[10.22] Ready is Unknown, phases come in order, and no stage is Ready at the old revision", async () => {
    const files = (version: string) => ({
      "one/a.yaml": deployment("phases", { image: version, pods: { readyAfter: "1s" } }),
      "two/a.yaml": configMap("phases", { version }),
    });
    await scene.publish("phases", files("1"));
    const stages = [stageOf("one", "phases", { path: "one" }), stageOf("two", "phases", { path: "two" })];
    await scene.release("phases", stages);
    const before = await untilReady(cluster, target("phases"));
    using history = follow(cluster, { ...stageSetKind, ...target("phases") });
    const next = await scene.publish("phases", files("2"));
    await untilApplied("phases", [next.revision]);
    await eventually(() => readyOf(history.states.at(-1)) === "True Succeeded");
    const old = asText(at(stageStatus(before, "one"), "appliedRevision"));
    const run = history.states.filter(
      (state) => Object.values(at(state, "status", "lastAttemptedRevisions") ?? {})[0] === next.revision,
    );
    expect(run.length).toBeGreaterThan(2);
    const order = ["Pending", "Applying", "Verifying", "Ready"];
    for (const stage of ["one", "two"]) {
      const seen = run.map((state) => order.indexOf(asText(at(stageStatus(state, stage), "phase")) ?? ""));
      expect(seen, stage).toEqual([...seen].sort((a, b) => a - b));
      // The run and its first stage begin in one write: a phase that short is skipped.
      expect(seen[0]).toBe(stage === "one" ? 1 : 0);
      for (const state of run) {
        const entry = stageStatus(state, stage);
        if (at(entry, "phase") === "Ready") expect(at(entry, "appliedRevision")).not.toBe(old);
      }
    }
    const conditions = run.map(readyOf);
    expect(conditions.slice(0, -1).every((each) => each === "Unknown Progressing")).toBe(true);
    expect(conditions.at(-1)).toBe("True Succeeded");
  });

  test.each([
    ["nothing said", {}],
    ["force: true", { force: true }],
    ["a Recreate rule", { conflictPolicy: { rules: [{ target: { kind: "ConfigMap" }, action: "Recreate" }] } }],
  ])("[10.23] ten intervals with %s change no version and emit no Event", async (title, change) => {
    const name = `steady-${title.replace(/\W/g, "").toLowerCase()}`;
    await scene.publish(name, { "a.yaml": configMap(name), "b.yaml": deployment(name) });
    await scene.release(name, [stageOf("only", name, change)], { interval: "500ms" });
    const before = await untilReady(cluster, target(name));
    const events = await eventually(async () => {
      const seen = await stageSetEvents(cluster, target(name));
      return seen.some(({ reason }) => reason === "Succeeded") && seen;
    });
    const object = await scene.object(name);
    const started = await passes();
    await eventually(async () => (await passes()) >= started + 10, { timeoutMs: 60_000 });
    expect((await scene.get(name))?.metadata.resourceVersion).toBe(before.metadata.resourceVersion);
    expect((await scene.object(name))?.metadata.resourceVersion).toBe(object?.metadata.resourceVersion);
    expect(await stageSetEvents(cluster, target(name))).toEqual(events);
    await admin.delete(stageSetRef(scene.namespace, name));
    await eventually(async () => (await scene.get(name)) === undefined);
  });

  test("[10.34] sources of two kinds under one name have keys of their own, and no run is new twice", async () => {
    const artifact = await scene.publish("twin", { "a.yaml": configMap("twin-artifact") });
    const other = await scene.publish("twin-content", { "a.yaml": configMap("twin-repository") });
    // Suspended, so that a source-controller leaves it alone.
    const repository = { apiVersion: "source.toolkit.fluxcd.io/v1", kind: "GitRepository", metadata: target("twin") };
    const spec = { suspend: true, interval: "10m", url: "https://example.com/twin.git" };
    await admin.create({ ...repository, spec });
    await admin.patchStatus(repository, {
      artifact: at(other.object, "status", "artifact"),
      conditions: at(other.object, "status", "conditions"),
    });
    using history = follow(cluster, { ...stageSetKind, ...target("twin") });
    await scene.release("twin", [
      stageOf("one", "twin"),
      { name: "two", sourceRef: { kind: "GitRepository", name: "twin" } },
    ]);
    const ready = await untilReady(cluster, target("twin"));
    const revisions = {
      [`${scene.namespace}/twin/ExternalArtifact`]: artifact.revision,
      [`${scene.namespace}/twin/GitRepository`]: other.revision,
    };
    expect(at(ready, "status", "lastAttemptedRevisions")).toEqual(revisions);
    expect(at(ready, "status", "lastAppliedRevisions")).toEqual(revisions);
    await admin.patch(stageSetRef(scene.namespace, "twin"), {
      metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": "again" } },
    });
    await eventually(async () => at(await scene.get("twin"), "status", "lastHandledReconcileAt") === "again");
    const starts = history.states.filter(
      (state, index) =>
        readyOf(state) === "Unknown Progressing" && readyOf(history.states[index - 1]) === "True Succeeded",
    );
    expect(starts).toEqual([]);
    expect(await stageSetEvents(cluster, { ...target("twin"), reason: "Succeeded" })).toMatchObject([{ count: 1 }]);
  });

  test("[10.42] a refused apply leaves entered at the new revision and applied at the old", async () => {
    const first = uniqueName("first");
    const second = uniqueName("second");
    const priority = (name: string) =>
      stringify({ apiVersion: "scheduling.k8s.io/v1", kind: "PriorityClass", metadata: { name }, value: 1 });
    const before = await scene.publish("half", { "a.yaml": priority(first), "b.yaml": configMap("half") });
    await scene.release("half", [stageOf("only", "half")]);
    await untilReady(cluster, target("half"));
    const after = await scene.publish("half", {
      "a.yaml": priority(first),
      "b.yaml": configMap("half", { "not/a/key": "1" }),
      "c.yaml": priority(second),
    });
    const refused = await untilReady(cluster, target("half"), "False StageFailed");
    const accepted = { apiVersion: "scheduling.k8s.io/v1", kind: "PriorityClass", metadata: { name: second } };
    expect(await admin.get(accepted)).toBeDefined();
    expect(stageStatus(refused, "only")).toMatchObject({
      phase: "Failed",
      enteredRevision: after.revision,
      enteredDigest: after.digest,
      appliedRevision: before.revision,
      appliedDigest: before.digest,
    });
  });

  // Its variant with a pre action waits for actions (spec 10 §14.27).
  // The failure of the line is a pre action: that clause joins when actions are built.
  test("[10.27] a new revision that failed half-way is no drift when a retry completes it, and applied stays at the old until then", async () => {
    const { namespace } = scene;
    await createServiceAccount(cluster, {
      namespace,
      name: "limited",
      rules: [{ apiGroups: [""], resources: ["configmaps"], verbs: ["*"] }],
      clusterRules: [{ apiGroups: ["scheduling.k8s.io"], resources: ["priorityclasses"], verbs: ["*"] }],
    });
    const secret = "apiVersion: v1\nkind: Secret\nmetadata: { name: completed }\nstringData: { k: v }\n";
    // Of an earlier wave, which is accepted.
    const early = {
      apiVersion: "scheduling.k8s.io/v1",
      kind: "PriorityClass",
      metadata: { name: uniqueName("early") },
    };
    const before = await scene.publish("completed", { "a.yaml": configMap("completed", { k: "1" }) });
    await scene.release("completed", [stageOf("only", "completed")], {
      serviceAccountName: "limited",
      retryInterval: "1s",
      interval: "1s",
    });
    await untilReady(cluster, target("completed"));
    const after = await scene.publish("completed", {
      "a.yaml": configMap("completed", { k: "2" }),
      "b.yaml": secret,
      "c.yaml": stringify({ ...early, value: 1 }),
    });
    const denied = await untilReady(cluster, target("completed"), "False RBACDenied");
    expect(stageStatus(denied, "only")).toMatchObject({ appliedRevision: before.revision });
    expect(await admin.get(early)).toBeDefined();
    await createServiceAccount(cluster, { namespace, name: "limited", rules: allRules });
    await admin.patch(stageSetRef(namespace, "completed"), {
      metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": "granted" } },
    });
    const ready = await untilApplied("completed", [after.revision]);
    expect(stageStatus(ready, "only")).toMatchObject({ appliedRevision: after.revision });
    // A pass at rest comes after it.
    const started = await passes();
    await eventually(async () => (await passes()) >= started + 2);
    expect(await stageSetEvents(cluster, { ...target("completed"), reason: "DriftCorrected" })).toEqual([]);
    await admin.delete(stageSetRef(namespace, "completed"));
  });
});

describe("drift and sources", () => {
  test("[20.29] a scaled Deployment is put right with one DriftCorrected; a patch in the spec is no drift", async () => {
    await scene.publish("drift", { "a.yaml": deployment("drift", { replicas: 2 }) });
    await scene.release("drift", [stageOf("only", "drift")], { interval: "10m", driftDetectionInterval: "1s" });
    await untilReady(cluster, target("drift"));
    const drifts = async (): Promise<number> =>
      (await stageSetEvents(cluster, { ...target("drift"), reason: "DriftCorrected" })).reduce(
        (sum, { count }) => sum + count,
        0,
      );
    const replicas = async (): Promise<unknown> => at(await scene.object("drift", deploymentKind), "spec", "replicas");
    const where = await admin.path({ ...deploymentKind, metadata: target("drift") });
    const scale = { contentType: "application/merge-patch+json", body: { spec: { replicas: 5 } } };
    expect((await admin.request("PATCH", `${where}/scale?fieldManager=kubectl`, scale)).status).toBe(200);
    const scaledAt = performance.now();
    await eventually(async () => (await replicas()) === 2);
    expect(performance.now() - scaledAt).toBeLessThan(5_000 + 1_000);
    await eventually(async () => (await drifts()) === 1);
    const patch = stringify({ ...deploymentKind, metadata: { name: "drift" }, spec: { replicas: 3 } });
    await admin.patch(
      stageSetRef(scene.namespace, "drift"),
      [{ op: "add", path: "/spec/stages/0/patches", value: [{ patch }] }],
      { type: "json" },
    );
    await eventually(async () => (await replicas()) === 3, { timeoutMs: 20_000 });
    await untilReady(cluster, target("drift"));
    // A later correction would join the first Event's series.
    const started = await passes();
    await eventually(async () => (await passes()) >= started + 3, { timeoutMs: 30_000 });
    expect(await drifts()).toBe(1);
  });

  test("[20.31] a source that turns not ready with its old artifact stops nothing; its new one is not taken", async () => {
    const files = { "a.yaml": configMap("outage", { k: "1" }) };
    await scene.publish("outage", files);
    await scene.release("outage", [stageOf("only", "outage")], { interval: "1s", retryInterval: "1s" });
    await untilReady(cluster, target("outage"));
    await scene.publish("outage", files, { ready: false });
    await eventually(async () => messageOf(await scene.get("outage")).includes("source failed"));
    await admin.patch(configMapRef("outage"), { data: { k: "foreign" } });
    await eventually(async () => at(await scene.object("outage"), "data", "k") === "1");
    const kept = await scene.get("outage");
    expect(readyOf(kept)).toBe("True Succeeded");
    expect(messageOf(kept)).toMatch(
      /^Applied and verified 1 stage\(s\); ExternalArtifact "outage" is not ready: Failed/,
    );
    await scene.publish("outage", { "a.yaml": configMap("outage", { k: "2" }) }, { ready: false });
    const refused = await untilReady(cluster, target("outage"), "False SourceNotReady");
    expect(messageOf(refused)).toMatch(/ExternalArtifact "outage" is not ready: Failed: source failed/);
    expect(at(await scene.object("outage"), "data", "k")).toBe("1");
  });
});

describe("writes in the right order", () => {
  test("[10.40] a status changed between read and write is written again, the foreign condition survives", async () => {
    await using proxy = await startFaultProxy(cluster);
    await using own = await startScene(cluster, { server: proxy.server, caPem: "" });
    const { namespace } = own;
    const ref = stageSetRef(namespace, "contested");
    const foreign = {
      type: "Audited",
      status: "True",
      reason: "ByHand",
      message: "seen",
      lastTransitionTime: "2026-01-01T00:00:00Z",
    };
    let contested = 0;
    proxy.onCall = async (call) => {
      if (call.method !== "PUT" || !call.target.includes("/stagesets/contested/status") || contested > 1)
        return undefined;
      contested++;
      const now = await admin.get(ref);
      const conditions = asArray(at(now, "status", "conditions")).filter((each) => at(each, "type") !== "Audited");
      await admin.patchStatus(ref, { conditions: [...conditions, { ...foreign, message: `seen ${contested}` }] });
      return undefined;
    };
    await own.publish("app", { "a.yaml": configMap("app") });
    await own.release("contested", [stageOf("only", "app")]);
    const ready = await untilReady(cluster, { namespace, name: "contested" });
    expect(contested).toBe(2);
    expect(at(ready, "status", "conditions")).toContainEqual({ ...foreign, message: "seen 2" });
  });

  test("[20.51] what is entered is on record before the first write; killed in between, the next run finishes it", async () => {
    const namespace = (await admin.create({ apiVersion: "v1", kind: "Namespace", metadata: { name: uniqueName() } }))
      .metadata.name;
    await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
    await using proxy = await startFaultProxy(cluster);
    const token = await controllerToken(cluster);
    const start = () => startControllerProcess({ server: proxy.server, token, namespaces: [namespace] });
    const publish = (k: string) =>
      publishArtifact(cluster, {
        server: scene.server,
        namespace,
        name: "app",
        files: { "a.yaml": configMap("app", { k }) },
      });
    const entered: KubeObject[] = [];
    let program = await start();
    let strike = false;
    proxy.onCall = async (call) => {
      if (call.write === 0 || !call.target.includes(`/namespaces/${namespace}/configmaps/app?`)) return undefined;
      const now = await admin.get(stageSetRef(namespace, "app"));
      if (now !== undefined) entered.push(now);
      if (!strike) return undefined;
      strike = false;
      program.kill();
      return { kind: "drop" };
    };
    try {
      const first = await publish("1");
      const spec = { serviceAccountName: "deployer", stages: [stageOf("only", "app")] };
      await createStageSet(cluster, { namespace, name: "app", spec });
      await untilReady(cluster, { namespace, name: "app" });
      strike = true;
      const second = await publish("2");
      await program.ended();
      const cut = stageStatus(await admin.get(stageSetRef(namespace, "app")), "only");
      expect(cut).toMatchObject({ enteredRevision: second.revision, enteredDigest: second.digest });
      expect(cut).toMatchObject({ appliedRevision: first.revision, appliedDigest: first.digest });
      program = await start();
      await eventually(
        async () => {
          const entry = stageStatus(await admin.get(stageSetRef(namespace, "app")), "only");
          expect(entry).toMatchObject({ phase: "Ready", appliedRevision: second.revision });
          return true;
        },
        { timeoutMs: 30_000 },
      );
      const wrote = await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "app", namespace } });
      expect(at(wrote, "data", "k")).toBe("2");
      expect(entered.map((state) => at(stageStatus(state, "only"), "enteredRevision"))).toEqual([
        first.revision,
        second.revision,
        second.revision,
      ]);
    } finally {
      await program.stop();
    }
  });
});
