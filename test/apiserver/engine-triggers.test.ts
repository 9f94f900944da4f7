import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stageSetAnnotations } from "../../src/api/keys.ts";
import { at } from "../../src/lib/json.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { configMap, createStageSet, messageOf, readyOf, stageSetRef, untilReady } from "../support/controller.ts";
import { publishArtifact } from "../support/artifacts.ts";
import { deployment } from "../support/manifests.ts";
import { follow, startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
let elsewhere = "";
let scene: Scene;
beforeAll(async () => {
  elsewhere = await uniqueNamespace(cluster);
  await createServiceAccount(cluster, { namespace: elsewhere, name: "deployer", rules: allRules });
  scene = await startScene(cluster, { alsoWatch: [elsewhere] });
});
afterAll(() => scene[Symbol.asyncDispose]());

/** Passes of a StageSet that ended with this reason. */
async function passes(name: string, reason = "Succeeded"): Promise<number> {
  const series = `stageset_reconcile_total{namespace="${scene.namespace}",name="${name}",reason="${reason}"} `;
  const line = (await scene.controller.metrics()).split("\n").find((each) => each.startsWith(series));
  return Number(line?.slice(series.length) ?? 0);
}

/** One ConfigMap in one stage, which is Ready. */
async function released(name: string, spec: Readonly<Record<string, unknown>> = {}): Promise<void> {
  await scene.publish(name, { "a.yaml": configMap(name) });
  await scene.release(name, [{ name: "only", sourceRef: { name } }], spec);
  await untilReady(cluster, { namespace: scene.namespace, name });
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

describe("sources", () => {
  test("[20.3] an event of a source in another namespace starts a pass within 5 s", async () => {
    const { namespace, server } = scene;
    const publish = (value: string) =>
      publishArtifact(cluster, {
        server,
        namespace: elsewhere,
        name: "foreign",
        files: { "a.yaml": configMap("foreign", { k: value }) },
      });
    await publish("1");
    await scene.release("foreign", [{ name: "only", sourceRef: { name: "foreign", namespace: elsewhere } }]);
    await untilReady(cluster, { namespace, name: "foreign" });
    await publish("2");
    const took = await timed(() =>
      eventually(async () => at(await scene.object("foreign"), "data", "k") === "2", { timeoutMs: 5_000 }),
    );
    expect(took).toBeLessThan(5_000);
  });
});

describe("annotations and other edits", () => {
  test("[10.30] [20.4] each annotation alone starts a pass within 2 s", async () => {
    await released("annotated");
    for (const annotation of stageSetAnnotations) {
      const before = await passes("annotated");
      await admin.patch(stageSetRef(scene.namespace, "annotated"), {
        metadata: { annotations: { [annotation]: "only@1" } },
      });
      await eventually(async () => (await passes("annotated")) > before, { timeoutMs: 2_000 });
    }
  });

  test("[20.4] removing an annotation starts one too", async () => {
    await released("removed");
    const ref = stageSetRef(scene.namespace, "removed");
    const annotation = "stages.metio.wtf/baseline-version";
    await admin.patch(ref, { metadata: { annotations: { [annotation]: "1.0.0" } } });
    await eventually(async () => (await passes("removed")) === 2, { timeoutMs: 2_000 });
    await admin.patch(ref, { metadata: { annotations: { [annotation]: null } } });
    await eventually(async () => (await passes("removed")) === 3, { timeoutMs: 2_000 });
  });

  test("[20.4] a status-only edit, a label and a foreign annotation start none", async () => {
    await released("edited");
    const ref = stageSetRef(scene.namespace, "edited");
    await admin.patch(ref, { metadata: { labels: { a: "b" }, annotations: { "example.com/a": "b" } } });
    await admin.patchStatus(ref, { lastHandledReconcileAt: "by somebody else" });
    // A pass that follows shows that what came before has been seen.
    await admin.patch(ref, { metadata: { annotations: { "stages.metio.wtf/update-now": "1" } } });
    await eventually(async () => (await passes("edited")) > 1, { timeoutMs: 2_000 });
    expect(await passes("edited")).toBe(2);
  });
});

describe("dependencies", () => {
  test("[20.5] a StageSet runs within 2 s after its dependency in another namespace is Ready", async () => {
    const { namespace, server } = scene;
    await scene.publish("dependent", { "a.yaml": configMap("dependent") });
    await scene.release("dependent", [{ name: "only", sourceRef: { name: "dependent" } }], {
      dependsOn: [{ name: "base", namespace: elsewhere }],
    });
    const waiting = await untilReady(cluster, { namespace, name: "dependent" }, "False DependencyNotReady");
    expect(messageOf(waiting)).toBe(
      `cross-namespace StageSet "base" is not reachable; check the source CR's status in "${elsewhere}"`,
    );
    expect(await scene.object("dependent")).toBeUndefined();
    const files = { "a.yaml": configMap("base") };
    await publishArtifact(cluster, { server, namespace: elsewhere, name: "base", files });
    await createStageSet(cluster, {
      namespace: elsewhere,
      name: "base",
      spec: { serviceAccountName: "deployer", stages: [{ name: "only", sourceRef: { name: "base" } }] },
    });
    await untilReady(cluster, { namespace: elsewhere, name: "base" });
    const took = await timed(() => untilReady(cluster, { namespace, name: "dependent" }));
    expect(took).toBeLessThan(2_000);
  });

  test("[20.5] a dependency below minVersion is named with both versions", async () => {
    const { namespace } = scene;
    await released("versioned");
    await admin.patchStatus(stageSetRef(namespace, "versioned"), { version: "1.2.0" });
    await scene.publish("demanding", { "a.yaml": configMap("demanding") });
    await scene.release("demanding", [{ name: "only", sourceRef: { name: "demanding" } }], {
      dependsOn: [{ name: "versioned", minVersion: "1.3.0" }],
    });
    const waiting = await untilReady(cluster, { namespace, name: "demanding" }, "False DependencyNotReady");
    for (const part of ["versioned", "1.2.0", "1.3.0"]) expect(messageOf(waiting)).toContain(part);
    await admin.patchStatus(stageSetRef(namespace, "versioned"), { version: "1.3.0" });
    expect(await timed(() => untilReady(cluster, { namespace, name: "demanding" }))).toBeLessThan(2_000);
  });

  test("[20.6] StageSets that depend on each other are Stalled until one edge is removed", async () => {
    const { namespace } = scene;
    for (const [name, other] of [
      ["ring-a", "ring-b"],
      ["ring-b", "ring-a"],
    ] as const) {
      await scene.publish(name, { "a.yaml": configMap(name) });
      await scene.release(name, [{ name: "only", sourceRef: { name } }], { dependsOn: [{ name: other }] });
    }
    for (const name of ["ring-a", "ring-b"]) {
      const stalled = await untilReady(cluster, { namespace, name }, "False Stalled");
      expect(messageOf(stalled)).toContain("spec.dependsOn forms a cycle");
      expect(JSON.stringify(at(stalled, "status", "conditions"))).toContain('"type":"Stalled"');
    }
    await admin.patch(stageSetRef(namespace, "ring-b"), { spec: { dependsOn: null } });
    for (const name of ["ring-a", "ring-b"])
      await untilReady(cluster, { namespace, name }, undefined, { timeoutMs: 10_000 });
  });
});

describe("requestedAt", () => {
  test("[20.48] lastHandledReconcileAt equals it only when the pass has ended", async () => {
    const { namespace } = scene;
    const name = "requested";
    const annotation = "reconcile.fluxcd.io/requestedAt";
    await scene.publish(name, { "a.yaml": deployment(name, { pods: { readyAfter: "2s" } }) });
    using history = follow(cluster, { apiVersion: "stages.metio.wtf/v1", kind: "StageSet", namespace, name });
    await createStageSet(cluster, {
      namespace,
      name,
      annotations: { [annotation]: "first" },
      spec: { serviceAccountName: "deployer", stages: [{ name: "only", sourceRef: { name } }] },
    });
    await untilReady(cluster, { namespace, name });
    await eventually(() => history.states.some((state) => readyOf(state) === "True Succeeded"));
    const handled = (state: unknown): unknown => at(state, "status", "lastHandledReconcileAt");
    for (const state of history.states)
      expect(handled(state), readyOf(state)).toBe(readyOf(state) === "True Succeeded" ? "first" : undefined);
    // A pass that changes nothing else, and one that fails, say so as well.
    const ref = stageSetRef(namespace, name);
    await admin.patch(ref, { metadata: { annotations: { [annotation]: "second" } } });
    await eventually(async () => handled(await scene.get(name)) === "second");
    await admin.patch(ref, {
      metadata: { annotations: { [annotation]: "third" } },
      spec: { stages: [{ name: "only", sourceRef: { name: "missing" } }] },
    });
    const failed = await untilReady(cluster, { namespace, name }, "False ArtifactNotFound");
    expect(handled(failed)).toBe("third");
    // A suspended one handles nothing (spec 20 step 4).
    await admin.patch(ref, { metadata: { annotations: { [annotation]: "fourth" } }, spec: { suspend: true } });
    const suspended = await untilReady(cluster, { namespace, name }, "False Suspended");
    expect(handled(suspended)).toBe("third");
  });
});

describe("annotations that mean nothing", () => {
  test("are ignored with one Event for each key and value, and a token that is too long is not handled", async () => {
    const { namespace } = scene;
    const name = "ignored";
    await released(name);
    const annotate = (annotations: Readonly<Record<string, string>>) =>
      admin.patch(stageSetRef(namespace, name), { metadata: { annotations } });
    const notes = async () =>
      (await stageSetEvents(cluster, { namespace, name, reason: "AnnotationIgnored" })).map(
        ({ type, note, count }) => `${type} ${count} ${note}`,
      );
    await annotate({
      "reconcile.fluxcd.io/requestedAt": "x".repeat(257),
      "stages.metio.wtf/reconcile-stage": "only",
      "stages.metio.wtf/promote": "other@1",
      "stages.metio.wtf/approved-version": "latest",
    });
    const expected = [
      "Warning 1 reconcile.fluxcd.io/requestedAt is ignored: the token is longer than 256 bytes",
      "Warning 1 stages.metio.wtf/approved-version is ignored: the value is not a version",
      "Warning 1 stages.metio.wtf/promote is ignored: the value names a stage that is not in spec.stages",
      "Warning 1 stages.metio.wtf/reconcile-stage is ignored: the value is not <stage>@<token>",
    ];
    await eventually(async () => (await notes()).length === expected.length);
    expect([...(await notes())].sort()).toEqual(expected);
    expect(at(await scene.get(name), "status", "lastHandledReconcileAt")).toBeUndefined();
    expect(readyOf(await scene.get(name))).toBe("True Succeeded");
    await annotate({ "reconcile.fluxcd.io/requestedAt": "short" });
    await eventually(async () => at(await scene.get(name), "status", "lastHandledReconcileAt") === "short");
    expect(await notes()).toHaveLength(expected.length);
  });
});
