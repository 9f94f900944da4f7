import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, testCluster, uniqueNamespace } from "../support/cluster.ts";
import {
  configMap,
  createStageSet,
  stageSetRef,
  startTestController,
  untilReady,
  type TestController,
} from "../support/controller.ts";

const cluster = testCluster();
const { admin } = cluster;
const program = fileURLToPath(new URL("../../bin/stagesetctl", import.meta.url));

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(...args: readonly string[]): Promise<Ran> {
  const env = { ...process.env, KUBECONFIG: cluster.kubeconfigPath };
  return new Promise((resolve) => {
    execFile(program, [...args], { env }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === "number" ? error.code : -1, stdout, stderr });
    });
  });
}

describe("stagesetctl gate", () => {
  let namespace = "";
  let server: ArtifactServer;
  let controller: TestController;
  beforeAll(async () => {
    namespace = await uniqueNamespace(cluster);
    server = await startArtifactServer();
    await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
    controller = await startTestController(cluster, { namespaces: [namespace] });
    await publishArtifact(cluster, {
      server,
      namespace,
      name: "app",
      revision: "v1",
      files: { "a.yaml": configMap("app") },
    });
    const stages = [{ name: "only", sourceRef: { name: "app" } }];
    await createStageSet(cluster, { namespace, name: "app", spec: { serviceAccountName: "deployer", stages } });
    await untilReady(cluster, { namespace, name: "app" });
  });
  afterAll(async () => {
    await controller[Symbol.asyncDispose]();
    await server.stop();
  });
  const gate = (...args: readonly string[]): Promise<Ran> =>
    run("gate", "app", "-n", namespace, "--stage", "only", ...args);

  test("exit 0 and one line when the stage is Ready, from the API server and from the gate alike", async () => {
    const line = `stage ${namespace}/app/only is Ready at v1\n`;
    expect(await gate()).toEqual({ code: 0, stdout: line, stderr: "" });
    expect(await gate("--url", `http://127.0.0.1:${controller.running.ports().gate ?? 0}`)).toMatchObject({
      code: 0,
      stdout: line,
    });
    expect(await gate("--revision", "v1")).toMatchObject({ code: 0 });
  });

  test("the gate's JSON body on request", async () => {
    const { stdout } = await gate("-o", "json");
    const body = {
      ready: true,
      namespace,
      stageset: "app",
      stage: "only",
      phase: "Ready",
      revision: "v1",
      reason: "Ready",
    };
    expect(JSON.parse(stdout)).toEqual(body);
  });

  test("exit 1 when it is closed, at another revision, and when waiting ended closed", async () => {
    expect(await gate("--revision", "v2")).toMatchObject({ code: 1, stderr: "" });
    expect(await run("gate", "nobody", "-n", namespace, "--stage", "only")).toMatchObject({
      code: 1,
      stdout: `stage ${namespace}/nobody/only is not ready: NotFound\n`,
    });
    expect(await gate("--revision", "v2", "--wait", "--timeout", "1s")).toMatchObject({ code: 1 });
  });

  test("waiting ends when the stage becomes Ready", async () => {
    await admin.patch(stageSetRef(namespace, "app"), { spec: { suspend: true } });
    const waiting = gate("--wait", "--timeout", "30s");
    await admin.patch(stageSetRef(namespace, "app"), { spec: { suspend: null } });
    expect(await waiting).toMatchObject({ code: 0 });
  });

  test("exit 3 when it cannot be told, 2 when the command line is wrong", async () => {
    expect(await gate("--url", "http://127.0.0.1:1")).toMatchObject({ code: 3, stdout: "" });
    expect(await gate("--kubeconfig", "/nonexistent")).toMatchObject({ code: 3, stdout: "" });
    for (const args of [["--timeout", "5 minutes"], ["-o", "yaml"], ["--url", "gopher://x"], ["--bogus"]])
      expect(await gate(...args)).toMatchObject({ code: 2, stdout: "" });
    expect(await run("gate", "app")).toMatchObject({ code: 2 });
  });
});
