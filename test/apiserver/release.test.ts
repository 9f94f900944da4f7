import { beforeAll, afterAll, describe, expect, test } from "vitest";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import {
  configMap,
  createStageSet,
  stageSetRef,
  stageStatus,
  startTestController,
  untilReady,
  type TestController,
} from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { deploymentKind, follow } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;

describe("a release", () => {
  let namespace = "";
  let server: ArtifactServer;
  let controller: TestController;
  beforeAll(async () => {
    namespace = await uniqueNamespace(cluster);
    server = await startArtifactServer();
    await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
    controller = await startTestController(cluster, { namespaces: [namespace] });
  });
  afterAll(async () => {
    await controller[Symbol.asyncDispose]();
    await server.stop();
  });

  test("one plain stage from an ExternalArtifact becomes Ready and its gate opens", async () => {
    await publishArtifact(cluster, {
      server,
      namespace,
      name: "plain",
      files: { "a.yaml": configMap("plain", { k: "1" }) },
    });
    await createStageSet(cluster, {
      namespace,
      name: "plain",
      spec: { serviceAccountName: "deployer", stages: [{ name: "only", sourceRef: { name: "plain" } }] },
    });
    const stageSet = await untilReady(cluster, { namespace, name: "plain" });
    expect(stageStatus(stageSet, "only")).toMatchObject({ phase: "Ready", entriesCount: 1, shards: 1 });
    const applied = await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "plain", namespace } });
    expect(applied).toMatchObject({
      data: { k: "1" },
      metadata: {
        labels: {
          "stages.metio.wtf/stage": "only",
          "stages.metio.wtf/name": "plain",
          "stages.metio.wtf/namespace": namespace,
        },
      },
    });
    await eventually(async () => expect((await controller.gate(`/gate/${namespace}/plain/only`)).status).toBe(200));
  });

  test("[20.1] stage 2 is created after stage 1 was Ready; labels, field manager and condition are as promised", async () => {
    using history = follow(cluster, {
      apiVersion: "stages.metio.wtf/v1",
      kind: "StageSet",
      namespace,
      name: "ordered",
    });
    await publishArtifact(cluster, {
      server,
      namespace,
      name: "one",
      files: { "a.yaml": configMap("first"), "b.yaml": deployment("first", { pods: { readyAfter: "2s" } }) },
    });
    await publishArtifact(cluster, { server, namespace, name: "two", files: { "a.yaml": configMap("second") } });
    await createStageSet(cluster, {
      namespace,
      name: "ordered",
      spec: {
        serviceAccountName: "deployer",
        stages: [
          { name: "first", sourceRef: { name: "one" } },
          { name: "second", sourceRef: { name: "two" } },
        ],
      },
    });
    const stageSet = await untilReady(cluster, { namespace, name: "ordered" });
    const [first, second] = await Promise.all(
      ["first", "second"].map((name) =>
        admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace } }),
      ),
    );
    for (const object of [first, second]) {
      expect(Object.keys(object?.metadata.labels ?? {}).sort()).toEqual([
        "stages.metio.wtf/name",
        "stages.metio.wtf/namespace",
        "stages.metio.wtf/stage",
      ]);
      expect(object?.metadata.managedFields?.map((entry) => entry.manager)).toEqual(["stageset-controller"]);
    }
    // The object was written once, so its version is that of its creation; versions of all kinds count together.
    const isReady = (state: KubeObject): boolean => at(stageStatus(state, "first"), "phase") === "Ready";
    const readyState = await eventually(() => history.states.find(isReady));
    expect(Number(second?.metadata.resourceVersion)).toBeGreaterThan(Number(readyState.metadata.resourceVersion));
    const deployed = await admin.get({ ...deploymentKind, metadata: { name: "first", namespace } });
    const created = Date.parse(asText(second?.metadata["creationTimestamp"]) ?? "");
    const available = asArray(at(deployed, "status", "conditions")).find((each) => at(each, "type") === "Available");
    expect(created).toBeGreaterThanOrEqual(Date.parse(asText(at(available, "lastTransitionTime")) ?? ""));
    expect(asArray(at(stageSet, "status", "stages")).map((stage) => at(stage, "phase"))).toEqual(["Ready", "Ready"]);
  });

  test("a new revision rolls through and what it drops is pruned", async () => {
    await publishArtifact(cluster, {
      server,
      namespace,
      name: "rolling",
      files: { "a.yaml": configMap("kept", { k: "1" }), "b.yaml": configMap("dropped") },
    });
    await createStageSet(cluster, {
      namespace,
      name: "rolling",
      spec: { serviceAccountName: "deployer", stages: [{ name: "only", sourceRef: { name: "rolling" } }] },
    });
    await untilReady(cluster, { namespace, name: "rolling" });
    const next = await publishArtifact(cluster, {
      server,
      namespace,
      name: "rolling",
      files: { "a.yaml": configMap("kept", { k: "2" }) },
    });
    await eventually(async () => {
      const stageSet = await admin.get(stageSetRef(namespace, "rolling"));
      expect(at(stageSet, "status", "lastAppliedRevisions")).toEqual({ [`${namespace}/rolling`]: next.revision });
      return true;
    });
    const ref = (name: string) => ({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace } });
    expect(await admin.get(ref("kept"))).toMatchObject({ data: { k: "2" } });
    expect(await admin.get(ref("dropped"))).toBeUndefined();
  });

  test("a deleted StageSet takes its objects along", async () => {
    await publishArtifact(cluster, { server, namespace, name: "going", files: { "a.yaml": configMap("going") } });
    await createStageSet(cluster, {
      namespace,
      name: "going",
      spec: { serviceAccountName: "deployer", stages: [{ name: "only", sourceRef: { name: "going" } }] },
    });
    await untilReady(cluster, { namespace, name: "going" });
    await admin.delete(stageSetRef(namespace, "going"));
    await eventually(async () => expect(await admin.get(stageSetRef(namespace, "going"))).toBeUndefined());
    expect(
      await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "going", namespace } }),
    ).toBeUndefined();
  });
});
