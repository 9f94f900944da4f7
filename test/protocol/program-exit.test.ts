import { spawn, type ChildProcess } from "node:child_process";
import { createServer } from "node:net";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";

const program = fileURLToPath(new URL("../../bin/stageset-controller", import.meta.url));

describe("the program ends before it contacts anything", () => {
  let dir = "";
  let contacted = 0;
  const server = createServer((socket) => {
    contacted++;
    socket.destroy();
  });
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = typeof address === "object" ? (address?.port ?? 0) : 0;
    dir = await mkdtemp(join(tmpdir(), "exit-"));
    await writeFile(join(dir, "kubeconfig"), kubeconfigFor(port));
    // Nothing listens there.
    await writeFile(join(dir, "nobody"), kubeconfigFor(9));
  });
  afterAll(async () => {
    await new Promise((resolve) => server.close(resolve));
    await rm(dir, { recursive: true, force: true });
  });

  const run = (
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> => {
    const child = spawn(program, args, { env: { ...process.env, KUBECONFIG: join(dir, "kubeconfig"), ...env } });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    return new Promise((resolve) => child.once("close", (code) => resolve({ code, stdout, stderr })));
  };

  test.concurrent("[60.1] help and version: 0, on stdout", async () => {
    const [help, version] = await Promise.all([run(["-h"]), run(["--version"])]);
    expect(help).toMatchObject({ code: 0, stderr: "" });
    expect(help.stdout).toContain("Usage:");
    expect(version).toMatchObject({ code: 0, stderr: "" });
    expect(version.stdout).toMatch(/^stageset-controller \d+\.\d+\.\d+\n$/);
    expect(contacted).toBe(0);
  });

  test.concurrent("[60.1] mistakes: 2, each on a line of stderr that names the program and the flag", async () => {
    const { code, stdout, stderr } = await run(["--no-such-flag", "--gate-bind-address=0", "extra"], {
      STAGESET_LOG_LEVEL: "loud",
    });
    expect(code).toBe(2);
    expect(stdout).toBe("");
    const lines = stderr.trimEnd().split("\n");
    expect(lines).toHaveLength(4);
    for (const line of lines) expect(line).toMatch(/^stageset-controller: /);
    for (const named of ["--no-such-flag", "--gate-bind-address", "extra", "--log-level"])
      expect(stderr).toContain(named);
    expect(contacted).toBe(0);
  });

  test.concurrent("[60.1] --leader-elect without a namespace outside a cluster: 1, naming the flag", async () => {
    const { code, stderr } = await run(["--leader-elect", "--enable-webhook=false", ...off], {
      KUBECONFIG: join(dir, "nobody"),
    });
    expect(code).toBe(1);
    expect(stderr).toContain("--leader-election-namespace");
  });
});

describe("the program is stopped while it waits for an API server", () => {
  const start = async (
    dir: string,
  ): Promise<{ readonly child: ChildProcess; readonly said: (text: string) => Promise<void> }> => {
    const kubeconfig = join(dir, "kubeconfig");
    await writeFile(kubeconfig, kubeconfigFor(9));
    const child = spawn(program, ["--enable-webhook=false", ...off], {
      env: { ...process.env, KUBECONFIG: kubeconfig },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let log = "";
    child.stderr.on("data", (chunk: Buffer) => (log += chunk.toString()));
    const said = (text: string): Promise<void> =>
      eventually(
        () => {
          expect(log).toContain(text);
          return true;
        },
        { timeoutMs: 30_000 },
      ).then(() => undefined);
    // By then it has been running for a second.
    await said("waiting for a prerequisite");
    return { child, said };
  };
  const endOf = (child: ChildProcess): Promise<number | null> => new Promise((resolve) => child.once("exit", resolve));

  test.concurrent("one signal: it drains and ends with 0", async () => {
    await using dir = await temporaryDir();
    const { child } = await start(dir.path);
    const ended = endOf(child);
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
  });

  test.concurrent("a second signal: it ends at once, with 1", async () => {
    await using dir = await temporaryDir();
    const { child, said } = await start(dir.path);
    const ended = endOf(child);
    child.kill("SIGTERM");
    await said('"stopping"');
    child.kill("SIGINT");
    expect(await ended).toBe(1);
  });
});

async function temporaryDir(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "exit-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

const off = ["--metrics-bind-address=0", "--health-probe-bind-address=0", "--gate-bind-address="];

function kubeconfigFor(port: number): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "c", cluster: { server: `http://127.0.0.1:${port}` } }],
    users: [{ name: "u", user: {} }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    "current-context": "x",
  });
}
