import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, testCluster, uniqueName, uniqueNamespace } from "../support/cluster.ts";
import {
  configMap,
  createStageSet,
  startTestController,
  untilReady,
  type TestController,
} from "../support/controller.ts";

const cluster = testCluster();
const { admin } = cluster;

function definition(group: string, kind: string, scope: "Namespaced" | "Cluster"): string {
  const plural = `${kind.toLowerCase()}s`;
  return JSON.stringify({
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope,
      names: { kind, plural, singular: kind.toLowerCase() },
      versions: [
        {
          name: "v1",
          served: true,
          storage: true,
          schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
        },
      ],
    },
  });
}

describe("kinds that the release itself defines", () => {
  let namespace = "";
  let server: ArtifactServer;
  let controller: TestController;
  beforeAll(async () => {
    namespace = await uniqueNamespace(cluster);
    server = await startArtifactServer();
    await createServiceAccount(cluster, { namespace, name: "deployer", clusterRules: allRules });
    controller = await startTestController(cluster, { namespaces: [namespace] });
  });
  afterAll(async () => {
    await controller[Symbol.asyncDispose]();
    await server.stop();
  });

  test.each(["one", "two"])("a CRD and its cluster-scoped and namespaced objects in %s stage(s)", async (count) => {
    const group = `${uniqueName("g")}.example`;
    const crds = {
      "crds/a.yaml": definition(group, "Zone", "Cluster"),
      "crds/b.yaml": definition(group, "Room", "Namespaced"),
    };
    const name = uniqueName("o");
    const objects = {
      "objects/zone.yaml": JSON.stringify({
        apiVersion: `${group}/v1`,
        kind: "Zone",
        metadata: { name, namespace: "ignored" },
      }),
      "objects/room.yaml": JSON.stringify({ apiVersion: `${group}/v1`, kind: "Room", metadata: { name } }),
    };
    await publishArtifact(cluster, { server, namespace, name: count, files: { ...crds, ...objects } });
    const paths = count === "one" ? ["."] : ["./crds", "./objects"];
    const stages = paths.map((path, index) => ({ name: `s${index}`, path, sourceRef: { name: count } }));
    await createStageSet(cluster, { namespace, name: count, spec: { serviceAccountName: "deployer", stages } });
    await untilReady(cluster, { namespace, name: count });
    expect(await admin.get({ apiVersion: `${group}/v1`, kind: "Zone", metadata: { name } })).toBeDefined();
    expect(await admin.get({ apiVersion: `${group}/v1`, kind: "Room", metadata: { name, namespace } })).toBeDefined();
    const shards = await admin.list({ apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", namespace });
    const ids = JSON.stringify(shards.map((shard) => shard["spec"]));
    expect(ids).toContain(`"_${name}_${group}_Zone"`);
    expect(ids).toContain(`"${namespace}_${name}_${group}_Room"`);
  });

  test("variables that an earlier stage brings are read when the stage's turn has come", async () => {
    await publishArtifact(cluster, {
      server,
      namespace,
      name: "late-variables",
      files: {
        "a/vars.yaml": configMap("vars", { color: "green" }),
        "b/used.yaml": configMap("used", { color: "${color}" }),
      },
    });
    const sourceRef = { name: "late-variables" };
    await createStageSet(cluster, {
      namespace,
      name: "late-variables",
      spec: {
        serviceAccountName: "deployer",
        stages: [
          { name: "a", path: "a", sourceRef },
          { name: "b", path: "b", sourceRef, postBuild: { substituteFrom: [{ kind: "ConfigMap", name: "vars" }] } },
        ],
      },
    });
    await untilReady(cluster, { namespace, name: "late-variables" });
    const used = await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "used", namespace } });
    expect(used).toMatchObject({ data: { color: "green" } });
  });
});
