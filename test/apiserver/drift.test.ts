import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { asArray, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { auditEvents, auditMark, eventually, testCluster } from "../support/cluster.ts";
import {
  configMap,
  messageOf,
  readyOf,
  stageSetRef,
  stageStatus,
  startTestController,
  untilReady,
} from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { requestPass, untilApplied } from "../support/passes.ts";
import { deploymentKind, follow, startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
const jobKind = { apiVersion: "batch/v1", kind: "Job" } as const;

let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(() => scene[Symbol.asyncDispose]());

const nameIn = (name: string) => ({ namespace: scene.namespace, name });
const refIn = (name: string, kind = { apiVersion: "v1", kind: "ConfigMap" }) => ({ ...kind, metadata: nameIn(name) });
const numbers = (count: number): readonly number[] => Array.from({ length: count }, (_, index) => index);
const driftOf = (name: string) => stageSetEvents(cluster, { ...nameIn(name), reason: "DriftCorrected" });
const driftMetric = async (name: string): Promise<number> => {
  const line = new RegExp(`^stageset_drift_corrected_total\\{[^}]*name="${name}"[^}]*\\} (\\d+)$`, "m");
  return Number(line.exec(await scene.controller.metrics())?.[1] ?? 0);
};

describe("a steady StageSet of 200 objects", () => {
  const maps = (prefix: string, count: number): string =>
    numbers(count)
      .map((index) => configMap(`${prefix}-${String(index)}`, { k: "1" }))
      .join("---\n");
  /** What the deployer asks of the API server in one pass, and the objects' versions after it. */
  const onePass = async (name: string) => {
    const since = await auditMark(cluster);
    await requestPass(cluster, nameIn(name), { timeoutMs: 60_000 });
    const seen = await auditEvents(cluster, { since, namespace: scene.namespace });
    const isOurs = (event: (typeof seen)[number]): boolean =>
      event.resource === "configmaps" && event.name.startsWith(`${name}-`);
    const asked = seen.filter((event) => event.username.endsWith(":deployer") && isOurs(event));
    const byController = seen.filter(
      ({ userAgent, verb }) => userAgent.startsWith("stageset-controller") && verb !== "watch",
    );
    return {
      // Of the whole pass, its status and its Events included.
      requests: byController.length,
      writes: asked.filter((event) => event.verb !== "get" && !event.uri.includes("dryRun=All")),
      events: seen.filter((event) => event.resource === "events" && event.name.startsWith(name)),
    };
  };
  const versions = async (name: string): Promise<readonly string[]> => {
    const labelSelector = `stages.metio.wtf/name=${name}`;
    const objects = await admin.list(
      { apiVersion: "v1", kind: "ConfigMap", namespace: scene.namespace },
      { labelSelector },
    );
    return objects.map((object) => `${object.metadata.name} ${object.metadata.resourceVersion ?? ""}`).sort();
  };

  const ways: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>> = {
    plain: [{}],
    policies: [
      { force: true },
      { conflictPolicy: { default: "Recreate" } },
      { conflictPolicy: { rules: [{ target: { kind: "ConfigMap" }, action: "Recreate" }] } },
      { conflictPolicy: { default: "KeepExisting" } },
    ],
  };
  test.each(Object.entries(ways))(
    "[20.2] %s: five more passes read each object at most once and write nothing",
    async (name, stages) => {
      const each = 200 / stages.length;
      for (const index of stages.keys())
        await scene.publish(`${name}-${String(index)}`, { "a.yaml": maps(`${name}-${String(index)}`, each) });
      await scene.release(
        name,
        stages.map((more, index) => ({
          name: `s${String(index)}`,
          sourceRef: { name: `${name}-${String(index)}` },
          ...more,
        })),
      );
      await untilReady(cluster, nameIn(name), "True Succeeded", { timeoutMs: 60_000 });
      // The Event of the release is posted beside it.
      await eventually(
        async () => (await stageSetEvents(cluster, { ...nameIn(name), reason: "Succeeded" })).length === 1,
      );
      const before = await versions(name);
      expect(before).toHaveLength(200);
      for (const _pass of numbers(5)) {
        const { requests, writes, events } = await onePass(name);
        expect(requests).toBeGreaterThan(0);
        expect(requests).toBeLessThanOrEqual(210);
        expect(writes).toEqual([]);
        expect(events).toEqual([]);
      }
      expect(await versions(name)).toEqual(before);
      expect(await driftOf(name)).toEqual([]);
    },
  );
});

describe.concurrent("drift", () => {
  test("[20.29] a scaled Deployment is put back within driftDetectionInterval with one DriftCorrected", async () => {
    await scene.publish("scaled", { "a.yaml": deployment("scaled") });
    await scene.release("scaled", [{ name: "only", sourceRef: { name: "scaled" } }], {
      interval: "1h",
      driftDetectionInterval: "2s",
    });
    await untilReady(cluster, nameIn("scaled"));
    await admin.patch(refIn("scaled", deploymentKind), { spec: { replicas: 0 } }, { fieldManager: "kubectl-scale" });
    await eventually(
      async () => at(await scene.object("scaled", deploymentKind), "spec", "replicas") === 1,
      { timeoutMs: 10_000 }, // Five times the interval.
    );
    await untilReady(cluster, nameIn("scaled"));
    const events = await eventually(async () => {
      const seen = await driftOf("scaled");
      return seen.length > 0 && seen;
    });
    expect(events).toMatchObject([{ type: "Warning", count: 1 }]);
    expect(events[0]?.note).toBe(`stage "only": corrected 1 object(s): Deployment ${scene.namespace}/scaled`);
    expect(await driftMetric("scaled")).toBe(1);
    await admin.patch(stageSetRef(scene.namespace, "scaled"), { spec: { suspend: true } });
  });

  test("[20.29] a patch added to the spec is no drift", async () => {
    await scene.publish("patched", { "a.yaml": configMap("patched", { k: "1" }) });
    await scene.release("patched", [{ name: "only", sourceRef: { name: "patched" } }]);
    await untilReady(cluster, nameIn("patched"));
    const patch = stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "patched" }, data: { k: "2" } });
    await admin.patch(stageSetRef(scene.namespace, "patched"), {
      spec: { stages: [{ name: "only", sourceRef: { name: "patched" }, patches: [{ patch }] }] },
    });
    await untilReady(cluster, nameIn("patched"));
    expect(await scene.object("patched")).toMatchObject({ data: { k: "2" } });
    await requestPass(cluster, nameIn("patched"));
    expect([await driftOf("patched"), await driftMetric("patched")]).toEqual([[], 0]);
  });

  test("[20.29] a changed substitution value, a deleted and a recreated object: only the second is drift", async () => {
    const variables = { apiVersion: "v1", kind: "ConfigMap", metadata: nameIn("drift-variables") };
    await admin.create({ ...variables, data: { WORD: "one" } });
    const files = { "a.yaml": configMap("worded", { k: "${WORD}" }), "b.yaml": configMap("lost") };
    await scene.publish("worded", files);
    const postBuild = { substituteFrom: [{ kind: "ConfigMap", name: "drift-variables" }] };
    await scene.release("worded", [{ name: "only", sourceRef: { name: "worded" }, postBuild, force: true }]);
    await untilReady(cluster, nameIn("worded"));
    using history = follow(cluster, { ...stageSetRef(scene.namespace, "worded"), ...nameIn("worded") });
    await admin.patch(variables, { data: { WORD: "two" } });
    await requestPass(cluster, nameIn("worded"));
    await eventually(async () => at(await scene.object("worded"), "data", "k") === "two");
    const atWork = () => history.states.filter((each) => at(stageStatus(each, "only"), "phase") !== "Ready");
    await eventually(() => atWork().length > 0);
    expect(atWork().map(readyOf)).not.toContain("True Succeeded");
    await requestPass(cluster, nameIn("worded"));
    expect(await driftMetric("worded")).toBe(0);
    await admin.delete(refIn("lost"));
    await requestPass(cluster, nameIn("worded"));
    await eventually(async () => (await scene.object("lost")) !== undefined);
    await eventually(async () => expect(await driftMetric("worded")).toBe(1));
  });

  test("an object the controller recreates in a steady pass is no drift, held by a finalizer or not", async () => {
    const job = (image: string): Readonly<Record<string, unknown>> => ({
      ...jobKind,
      metadata: nameIn("swapped"),
      spec: { template: { spec: { restartPolicy: "Never", containers: [{ name: "c", image }] } } },
    });
    await scene.publish("swapped", { "a.yaml": stringify(job("ours")) });
    await scene.release("swapped", [{ name: "only", sourceRef: { name: "swapped" }, force: true }]);
    await untilReady(cluster, nameIn("swapped"));
    await admin.delete(refIn("swapped", jobKind));
    await eventually(async () => (await scene.object("swapped", jobKind)) === undefined);
    const theirs = job("theirs");
    await admin.create({
      ...jobKind,
      metadata: { ...nameIn("swapped"), finalizers: ["example.com/hold"] },
      spec: theirs["spec"],
    });
    const ref = stageSetRef(scene.namespace, "swapped");
    await admin.patch(ref, { metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": "swap" } } });
    await eventually(async () => (await scene.object("swapped", jobKind))?.metadata.deletionTimestamp !== undefined);
    // Long enough for the pass to leave it and for another one to come back to it.
    await sleep(500);
    await admin.patch(refIn("swapped", jobKind), { metadata: { finalizers: null } });
    await eventually(async () =>
      JSON.stringify((await scene.object("swapped", jobKind)) ?? "gone").includes('"image":"ours"'),
    );
    await untilReady(cluster, nameIn("swapped"));
    await requestPass(cluster, nameIn("swapped"));
    expect(await driftMetric("swapped")).toBe(0);
  });

  test("quantities spelled another way than the server does are no drift", async () => {
    const limits = { cpu: "1000m", memory: "1024Mi", "ephemeral-storage": "0.5Gi" };
    const pod = {
      apiVersion: "v1",
      kind: "LimitRange",
      metadata: { name: "spelled" },
      spec: { limits: [{ type: "Container", max: limits }] },
    };
    await scene.publish("spelled", { "a.yaml": stringify(pod) });
    await scene.release("spelled", [{ name: "only", sourceRef: { name: "spelled" } }]);
    await untilReady(cluster, nameIn("spelled"));
    const kind = { apiVersion: "v1", kind: "LimitRange" };
    const live = await scene.object("spelled", kind);
    await requestPass(cluster, nameIn("spelled"));
    expect(await scene.object("spelled", kind)).toEqual(live);
    await admin.delete(refIn("spelled", kind));
  });
});

describe.concurrent("a Job that is removed once it has finished", () => {
  const job = (name: string): string =>
    stringify({
      ...jobKind,
      metadata: { name },
      spec: {
        ttlSecondsAfterFinished: 1,
        template: { spec: { restartPolicy: "Never", containers: [{ name: "c", image: "once" }] } },
      },
    });
  const uidsSeen = async (name: string, since: number): Promise<number> => {
    const events = await auditEvents(cluster, { since, namespace: scene.namespace, resource: "jobs" });
    return events.filter(
      (event) => event.name === name && event.verb === "patch" && event.code === 201 && !event.uri.includes("dryRun"),
    ).length;
  };

  test("is not made again by a steady pass, only by a changed one", async () => {
    const since = await auditMark(cluster);
    await scene.publish("once", { "a.yaml": job("once"), "b.yaml": configMap("beside-once") });
    await scene.release("once", [{ name: "only", sourceRef: { name: "once" } }]);
    await untilReady(cluster, nameIn("once"));
    await eventually(async () => (await scene.object("once", jobKind)) === undefined, { timeoutMs: 30_000 });
    const steady = await requestPass(cluster, nameIn("once"));
    expect(messageOf(steady)).toContain("Applied and verified");
    expect(await scene.object("once", jobKind)).toBeUndefined();
    expect(await uidsSeen("once", since)).toBe(1);
    const next = await scene.publish("once", { "a.yaml": job("once"), "b.yaml": configMap("beside-once", { k: "2" }) });
    await untilApplied(cluster, nameIn("once"), { once: next.revision });
    expect(await uidsSeen("once", since)).toBe(2);
    expect(await driftMetric("once")).toBe(0);
  });

  test("nor by the first pass after a start", async () => {
    await using own = await startScene(cluster);
    const { namespace } = own;
    await own.publish("once", { "a.yaml": job("once") });
    await own.release("once", [{ name: "only", sourceRef: { name: "once" } }]);
    await untilReady(cluster, { namespace, name: "once" });
    await eventually(async () => (await own.object("once", jobKind)) === undefined, { timeoutMs: 30_000 });
    await own.controller[Symbol.asyncDispose]();
    await using _next = await startTestController(cluster, { namespaces: [namespace] });
    await requestPass(cluster, { namespace, name: "once" });
    expect(await own.object("once", jobKind)).toBeUndefined();
  });
});

describe("Namespaces a stage renders", () => {
  test("one that is being deleted fails the stage until it can be made anew", async () => {
    await using own = await startScene(cluster, { clusterWide: true });
    const { namespace } = own;
    const inner = `${namespace}-inner`;
    const manifests = stringify({ apiVersion: "v1", kind: "Namespace", metadata: { name: inner } });
    const inside = stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "inside", namespace: inner } });
    await own.publish("nested", { "a.yaml": manifests, "b.yaml": inside });
    await own.release("nested", [{ name: "only", sourceRef: { name: "nested" } }], { retryInterval: "2s" });
    await untilReady(cluster, { namespace, name: "nested" });
    const ref = { apiVersion: "v1", kind: "Namespace", metadata: { name: inner } };
    const held = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "held", namespace: inner } };
    await admin.create({ ...held, metadata: { ...held.metadata, finalizers: ["example.com/hold"] } });
    await admin.delete(ref);
    await eventually(async () => (await admin.get(ref))?.metadata.deletionTimestamp !== undefined);
    const before: KubeObject | undefined = await admin.get(ref);
    await admin.patch(stageSetRef(namespace, "nested"), {
      metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": "now" } },
    });
    const failed = await untilReady(cluster, { namespace, name: "nested" }, "False StageFailed");
    expect(messageOf(failed)).toContain(`Namespace ${inner}`);
    await admin.patch(held, { metadata: { finalizers: null } });
    await untilReady(cluster, { namespace, name: "nested" }, "True Succeeded", { timeoutMs: 30_000 });
    expect((await admin.get(ref))?.metadata.uid).not.toBe(before?.metadata.uid);
    expect(
      await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "inside", namespace: inner } }),
    ).toBeDefined();
  });
});

describe("fields left to others", () => {
  const autoscaled = (image: string, annotated = true): string => {
    const object = parse(deployment("autoscaled", { replicas: 2, image })) as KubeObject;
    const annotations = { "stages.metio.wtf/ignore-fields": "/spec/replicas" };
    return stringify(annotated ? { ...object, metadata: { ...object.metadata, annotations } } : object);
  };
  const live = async () => {
    const object = await scene.object("autoscaled", deploymentKind);
    const containers = asArray(at(object, "spec", "template", "spec", "containers"));
    return [at(object, "spec", "replicas"), at(containers[0], "image")];
  };

  test("replicas that somebody else sets stay, also over a new revision, and are no drift", async () => {
    await scene.publish("autoscaled", { "a.yaml": autoscaled("one", false) });
    await scene.release("autoscaled", [{ name: "only", sourceRef: { name: "autoscaled" } }]);
    await untilReady(cluster, nameIn("autoscaled"));
    expect(await live()).toEqual([2, "one"]);
    const { revision } = await scene.publish("autoscaled", { "a.yaml": autoscaled("one") });
    await untilApplied(cluster, nameIn("autoscaled"), { autoscaled: revision });
    await admin.patch(refIn("autoscaled", deploymentKind), { spec: { replicas: 5 } });
    await requestPass(cluster, nameIn("autoscaled"));
    expect(await live()).toEqual([5, "one"]);
    await scene.publish("autoscaled", { "a.yaml": autoscaled("two") });
    await eventually(async () => (await live())[1] === "two");
    await untilReady(cluster, nameIn("autoscaled"));
    expect(await live()).toEqual([5, "two"]);
    expect(await driftOf("autoscaled")).toEqual([]);
  });
});
