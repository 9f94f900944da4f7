import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../src/dev/free-port.ts";
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
    expect(await gate("--revision", "v2")).toEqual({
      code: 1,
      stdout: `stage ${namespace}/app/only is Ready at v1, not at v2\n`,
      stderr: "",
    });
    expect(JSON.parse((await gate("--revision", "v2", "-o", "json")).stdout)).toMatchObject({
      ready: false,
      revision: "v1",
      reason: "RevisionPending",
    });
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

  test("waiting outlasts a gate that cannot be reached or does not know yet, and ends with 3 if it never does", async () => {
    let asked = 0;
    const port = await freePort();
    const waiting = gate("--url", `http://127.0.0.1:${port}`, "--wait", "--timeout", "30s");
    expect(await gate("--url", "http://127.0.0.1:1", "--wait", "--timeout", "1s")).toMatchObject({
      code: 3,
      stdout: "",
    });
    const late = createServer((_request, response) => {
      response.statusCode = asked++ === 0 ? 503 : 200;
      response.end(JSON.stringify({ ready: asked > 1, reason: "Ready", phase: "Ready", revision: "v1" }));
    });
    await new Promise<void>((resolve) => late.listen(port, "127.0.0.1", resolve));
    expect(await waiting).toMatchObject({ code: 0, stderr: "" });
    late.closeAllConnections();
    late.close();
  });

  test("waiting ends in time though the gate never answers", async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const address = silent.address();
    const url = `http://127.0.0.1:${typeof address === "object" ? (address?.port ?? 0) : 0}`;
    const began = performance.now();
    const ran = await gate("--url", url, "--wait", "--timeout", "500ms");
    expect(ran).toMatchObject({ code: 3, stdout: "", stderr: expect.stringContaining("took longer than") as string });
    expect(performance.now() - began).toBeLessThan(8_000);
    silent.closeAllConnections();
    silent.close();
  });

  test("exit 3 when it cannot be told, and why", async () => {
    const why = [
      [["--url", `http://127.0.0.1:${await freePort()}`], "ECONNREFUSED"],
      [["--url", cluster.server.replace("https:", "http:")], "the answer is not that of a gate"],
      [["--kubeconfig", "/nonexistent"], "/nonexistent"],
      [["--context", "nobody"], '"nobody"'],
    ] as const;
    const runs = why.map(async ([args, reason]) => {
      expect(await gate(...args)).toMatchObject({
        code: 3,
        stdout: "",
        stderr: expect.stringContaining(reason) as string,
      });
    });
    await Promise.all(runs);
  });

  test("exit 2 when the command line is wrong, before anything is asked", async () => {
    const wrong = [
      ["--timeout", "5 minutes"],
      ["-o", "yaml"],
      ["--url", "http://user:secret@x"],
      ["--url", "http://x/gate/a/b/c"],
      ["--revision", ""],
    ].map((args) => gate(...args));
    const names = [
      ["gate", "app"],
      ["gate", "a/b", "--stage", "s"],
    ];
    for (const ran of await Promise.all([...wrong, ...names.map((args) => run(...args))])) {
      expect(ran).toMatchObject({ code: 2, stdout: "" });
      expect(ran.stderr).toMatch(/^Error: .*\nsee --help\n$/s);
    }
  });
});
