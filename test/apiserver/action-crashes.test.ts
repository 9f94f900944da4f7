import { afterAll, beforeAll, expect, test } from "vitest";
import { asArray, at } from "../../src/lib/json.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { controllerToken } from "../support/controller-account.ts";
import { startControllerProcess, type ControllerProcess } from "../support/controller-process.ts";
import { configMap, createStageSet, messageOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { createEffects } from "../support/effects.ts";

const cluster = testCluster();
const { admin } = cluster;
let namespace = "";
let server: ArtifactServer;
beforeAll(async () => {
  namespace = await uniqueNamespace(cluster);
  server = await startArtifactServer();
  await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
});
afterAll(() => server.stop());

const startProcess = async (): Promise<ControllerProcess> =>
  startControllerProcess({
    server: cluster.server,
    caPem: cluster.caPem,
    token: await controllerToken(cluster),
    namespaces: [namespace],
    args: ["--leader-elect=false"],
  });

test("[30.2] an action that is done is not run again after a SIGKILL, the one that was failing is", async () => {
  const name = "killed";
  const effects = await createEffects(cluster, { namespace, name: "effects" });
  const target = { apiVersion: "v1", kind: "ConfigMap", name: "missing" };
  const failing = { name: "second", patch: { target, patch: "data: {reached: 'yes'}" }, retries: 100 };
  await publishArtifact(cluster, { server, namespace, name, files: { "a.yaml": configMap(name) } });
  const actions = { pre: [effects.action("first"), failing], post: [effects.action("last")] };
  let program = await startProcess();
  await createStageSet(cluster, {
    namespace,
    name,
    spec: { serviceAccountName: "deployer", stages: [{ name: "only", sourceRef: { name }, actions }] },
  });
  await eventually(async () => {
    const entry = stageStatus(await admin.get(stageSetRef(namespace, name)), "only");
    return asArray(at(entry, "executedActions")).includes("first");
  });
  program.kill();
  await program.ended();
  program = await startProcess();
  await using _program = program;
  await eventually(() => program.log().includes('"action":"second"'), { timeoutMs: 60_000 });
  expect(await effects.seen()).toEqual(["first"]);
  await admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "missing", namespace } });
  const stageSet = await untilReady(cluster, { namespace, name }, "True Succeeded", { timeoutMs: 60_000 });
  expect(await effects.seen(), messageOf(stageSet)).toEqual(["first", "last"]);
});

test("[30.29] a step of a migration that is done is not run again after a SIGKILL, the one that was failing is", async () => {
  const name = "migrating";
  const effects = await createEffects(cluster, { namespace, name: `effects-${name}` });
  const target = { apiVersion: "v1", kind: "ConfigMap", name: `missing-${name}` };
  const failing = { name: "second", patch: { target, patch: "data: {reached: 'yes'}" }, retries: 10 };
  await publishArtifact(cluster, { server, namespace, name, files: { "a.yaml": configMap(name) } });
  const migrations = [
    { name: "idx", to: "1.1.0", actions: [effects.action("first"), failing, effects.action("last")] },
  ];
  let program = await startProcess();
  await admin.create({
    ...stageSetRef(namespace, name),
    metadata: { name, namespace, annotations: { "stages.metio.wtf/baseline-version": "1.0.0" } },
    spec: {
      serviceAccountName: "deployer",
      stages: [{ name: "only", sourceRef: { name } }],
      version: { value: "1.1.0" },
      migrations,
    },
  });
  await eventually(async () => {
    const status = at(await admin.get(stageSetRef(namespace, name)), "status");
    return asArray(at(status, "executedMigrationActions")).length === 1;
  });
  program.kill();
  await program.ended();
  expect(at(await admin.get(stageSetRef(namespace, name)), "status", "version")).toBeUndefined();
  program = await startProcess();
  await using _program = program;
  await eventually(() => program.log().includes('"action":"second"'), { timeoutMs: 60_000 });
  expect(await effects.seen()).toEqual(["first"]);
  await admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: target.name, namespace } });
  const stageSet = await untilReady(cluster, { namespace, name }, "True Succeeded", { timeoutMs: 60_000 });
  expect(await effects.seen(), messageOf(stageSet)).toEqual(["first", "last"]);
  expect(at(stageSet, "status", "version")).toBe("1.1.0");
});
