import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { allRules, auditEvents, auditMark, createServiceAccount, eventually, testCluster } from "../support/cluster.ts";
import { configMap, stageSetRef, untilReady } from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { deploymentKind, startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(() => scene[Symbol.asyncDispose]());

/** Asks for a pass and waits until it has ended. */
async function reconcile(name: string, token: string): Promise<void> {
  const ref = stageSetRef(scene.namespace, name);
  await admin.patch(ref, { metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": token } } });
  await eventually(async () => at(await scene.get(name), "status", "lastHandledReconcileAt") === token, {
    timeoutMs: 10_000,
  });
}

/** Requests sent as the ServiceAccount, watches left out. */
async function sentAs(serviceAccount: string, since: number): Promise<readonly string[]> {
  const username = `system:serviceaccount:${scene.namespace}:${serviceAccount}`;
  const seen = await auditEvents(cluster, { since, username, where: ({ verb }) => verb !== "watch" });
  return seen.map(({ verb, uri }) => `${verb} ${uri}`);
}

/** The watches the ServiceAccount has opened. */
async function watchesOf(serviceAccount: string, since: number): Promise<readonly string[]> {
  const username = `system:serviceaccount:${scene.namespace}:${serviceAccount}`;
  const seen = await auditEvents(cluster, { since, username, verbs: ["watch"] });
  return seen.filter(({ stage }) => stage === "ResponseStarted").map(({ uri }) => uri);
}

const dataOf = (object: KubeObject | undefined): unknown => at(object, "data", "k");
const manifests = (names: readonly string[]): Record<string, string> =>
  Object.fromEntries(names.map((name) => [`${name}.yaml`, configMap(name, { k: "ours" })]));

describe("a steady state", () => {
  test("[20.2] a pass with nothing to do sends nothing to the target", async () => {
    const names = Array.from({ length: 40 }, (_, index) => `quiet-${index}`);
    await createServiceAccount(cluster, { namespace: scene.namespace, name: "quiet", rules: allRules });
    await scene.publish("quiet", { ...manifests(names), "app.yaml": deployment("quiet") });
    await scene.release("quiet", [{ name: "only", sourceRef: { name: "quiet" } }], { serviceAccountName: "quiet" });
    await untilReady(cluster, { namespace: scene.namespace, name: "quiet" });
    // The watches need a moment to show what exists.
    await eventually(async () => {
      const mark = await auditMark(cluster);
      await reconcile("quiet", String(mark));
      return (await sentAs("quiet", mark)).length === 0;
    });
    const mark = await auditMark(cluster);
    for (let pass = 0; pass < 5; pass++) await reconcile("quiet", `pass-${pass}`);
    expect(await sentAs("quiet", mark)).toEqual([]);
    const writes = await auditEvents(cluster, {
      since: mark,
      namespace: scene.namespace,
      where: ({ verb, userAgent, subresource }) =>
        userAgent.startsWith("stageset-controller") &&
        !["get", "list", "watch"].includes(verb) &&
        subresource !== "status",
    });
    expect(writes).toEqual([]);
  });

  test("a watch is shared by the StageSets of one ServiceAccount and closed after the last", async () => {
    await createServiceAccount(cluster, { namespace: scene.namespace, name: "sharing", rules: allRules });
    const mark = await auditMark(cluster);
    const release = async (name: string): Promise<void> => {
      await scene.publish(name, manifests([name]));
      await scene.release(name, [{ name: "only", sourceRef: { name } }], { serviceAccountName: "sharing" });
    };
    await Promise.all([release("share-a"), release("share-b"), release("share-c")]);
    for (const name of ["share-a", "share-b", "share-c"]) {
      await untilReady(cluster, { namespace: scene.namespace, name });
      await reconcile(name, "all-are-there");
    }
    await eventually(async () => (await watchesOf("sharing", mark)).some((uri) => !uri.includes("name%3D")));
    const shared = (await watchesOf("sharing", mark)).filter((uri) => !uri.includes("2Fname%3D"));
    expect(shared).toHaveLength(1);
  });
});

describe("drift", () => {
  test("[20.29] a foreign edit and a delete are undone within a second of being seen, nothing else is asked for", async () => {
    const names = Array.from({ length: 20 }, (_, index) => `drift-${index}`);
    await createServiceAccount(cluster, { namespace: scene.namespace, name: "drift", rules: allRules });
    await scene.publish("drift", manifests(names));
    await scene.release("drift", [{ name: "only", sourceRef: { name: "drift" } }], {
      serviceAccountName: "drift",
      interval: "1h",
    });
    await untilReady(cluster, { namespace: scene.namespace, name: "drift" });
    await eventually(async () => {
      const mark = await auditMark(cluster);
      await reconcile("drift", String(mark));
      return (await sentAs("drift", mark)).length === 0;
    });
    const mark = await auditMark(cluster);
    const edited = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "drift-3", namespace: scene.namespace } };
    const times: number[] = [];
    for (let round = 0; round < 4; round++) {
      const started = performance.now();
      await admin.patch(edited, { data: { k: `theirs-${round}` } });
      await eventually(async () => dataOf(await scene.object("drift-3")) === "ours", { timeoutMs: 5_000 });
      times.push(performance.now() - started);
    }
    expect(Math.max(...times)).toBeLessThan(5_000);
    await admin.delete({ ...edited, metadata: { ...edited.metadata, name: "drift-4" } });
    await eventually(async () => dataOf(await scene.object("drift-4")) === "ours", { timeoutMs: 5_000 });
    const touched = new Set((await sentAs("drift", mark)).map((line) => /drift-\d+/.exec(line)?.[0]));
    expect(touched).toEqual(new Set(["drift-3", "drift-4"]));
    await eventually(async () => {
      const key = { namespace: scene.namespace, name: "drift" };
      return (await stageSetEvents(cluster, { ...key, reason: "DriftCorrected" })).length > 0;
    });
  });

  test("a manager that fights is named, and left to the interval", async () => {
    await scene.publish("fight", manifests(["fought"]));
    await scene.release("fight", [{ name: "only", sourceRef: { name: "fight" } }], { interval: "1h" });
    await untilReady(cluster, { namespace: scene.namespace, name: "fight" });
    const ref = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "fought", namespace: scene.namespace } };
    const fight = (round: number) => admin.patch(ref, { data: { k: `theirs-${round}` } }, { fieldManager: "rival" });
    for (let round = 0; round < 6; round++) {
      await fight(round);
      await eventually(async () => dataOf(await admin.get(ref)) === "ours", { timeoutMs: 10_000 });
    }
    await eventually(async () => {
      const key = { namespace: scene.namespace, name: "fight" };
      const events = await stageSetEvents(cluster, { ...key, reason: "DriftContested" });
      return events.some(({ note }) => note.includes('"rival"'));
    });
    await fight(6);
    await reconcile("fight", "now");
    expect(dataOf(await admin.get(ref))).toBe("ours");
  });
});

describe("a ServiceAccount that may not watch", () => {
  test("has its drift undone on the interval, and its readiness polled", async () => {
    await createServiceAccount(cluster, {
      namespace: scene.namespace,
      name: "blind",
      rules: [{ apiGroups: ["*"], resources: ["*"], verbs: ["get", "create", "patch", "delete"] }],
    });
    await scene.publish("blind", {
      ...manifests(["unwatched"]),
      "app.yaml": deployment("unwatched", { pods: { readyAfter: "3s" } }),
    });
    await scene.release("blind", [{ name: "only", sourceRef: { name: "blind" } }], {
      serviceAccountName: "blind",
      interval: "1h",
      driftDetectionInterval: "2s",
    });
    await untilReady(cluster, { namespace: scene.namespace, name: "blind" });
    const ref = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "unwatched", namespace: scene.namespace } };
    await admin.patch(ref, { data: { k: "theirs" } });
    await eventually(async () => dataOf(await admin.get(ref)) === "ours", { timeoutMs: 15_000 });
    expect(await scene.object("unwatched", deploymentKind)).toBeDefined();
  });
});
