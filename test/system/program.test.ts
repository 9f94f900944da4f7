import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { freePort } from "../../src/dev/free-port.ts";
import { publishArtifact, startArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { configMap, createStageSet, untilReady } from "../support/controller.ts";

const cluster = testCluster();
const program = fileURLToPath(new URL("../../bin/stageset-controller", import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly stderr: string;
}

/** Runs the launcher until it ends by itself. */
function runProgram(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve) => child.once("exit", (code) => resolve({ code, stderr })));
}

test("the launcher runs a StageSet somebody else wrote, from KUBECONFIG and its listeners' flags alone", async () => {
  const namespace = await uniqueNamespace(cluster);
  await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
  await using server = await startArtifactServer();
  await publishArtifact(cluster, { server, namespace, name: "app", files: { "a.yaml": configMap("app") } });
  const stages = [{ name: "only", sourceRef: { name: "app" } }];
  await createStageSet(cluster, { namespace, name: "app", spec: { serviceAccountName: "deployer", stages } });
  const [metrics, health, gate] = [await freePort(), await freePort(), await freePort()];
  const args = [
    "--enable-webhook=false",
    "--metrics-bind-address",
    `127.0.0.1:${metrics}`,
    "--health-probe-bind-address",
    `127.0.0.1:${health}`,
    "--gate-bind-address",
    `127.0.0.1:${gate}`,
    // What this test alone needs: the artifact is served on loopback, and other StageSets of the cluster are not its business.
    "--dev-allow-loopback",
    "--watch-namespaces",
    namespace,
  ];
  const env = { ...process.env, KUBECONFIG: cluster.kubeconfigPath };
  const child = spawn(program, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  child.stderr.resume();
  const ended = new Promise((resolve) => child.once("exit", resolve));
  try {
    await untilReady(cluster, { namespace, name: "app" });
    const get = async (port: number, path: string): Promise<{ readonly status: number; readonly body: string }> => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      return { status: response.status, body: await response.text() };
    };
    await eventually(async () => (await get(health, "/readyz")).status === 200);
    expect((await get(health, "/healthz")).status).toBe(200);
    await eventually(async () => (await get(gate, `/gate/${namespace}/app/only`)).status === 200);
    const series = `stageset_stage_ready{namespace="${namespace}",stageset="app",stage="only"} 1`;
    await eventually(async () => (await get(metrics, "/metrics")).body.includes(series));
  } finally {
    child.kill("SIGTERM");
  }
  expect(await ended).toBe(0);
});

test.each([
  ["an unknown flag", ["--no-such-flag"], "--no-such-flag"],
  ["an address without port", ["--gate-bind-address", "127.0.0.1"], "--gate-bind-address"],
  ["a port out of range", ["--metrics-bind-address", "127.0.0.1:70000"], "--metrics-bind-address"],
  ["an argument that is no flag", ["start"], "start"],
])("bad input: %s exits with 2 and is named", async (_title, args, named) => {
  const { code, stderr } = await runProgram(["--enable-webhook=false", ...args]);
  expect(code).toBe(2);
  expect(stderr).toContain(named);
});
