import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "../../src/dev/free-port.ts";
import { eventually } from "./eventually.ts";

const launcher = fileURLToPath(new URL("../../bin/stageset-controller", import.meta.url));

/** The program itself, as users run it. */
export interface ControllerProcess extends AsyncDisposable {
  readonly pid: number;
  readonly gateUrl: string;
  readonly healthUrl: string;
  readonly metricsUrl: string;
  /** What it wrote to stderr. */
  log(): string;
  /** SIGKILL at once. */
  kill(): void;
  /** Its exit code, or null when it was killed; waits for the end. */
  ended(): Promise<number | null>;
  stop(): Promise<number | null>;
}

export interface ControllerProcessOptions {
  readonly server: string;
  /** A bearer token, or what a kubeconfig says of another kind of user. */
  readonly token: string | Readonly<Record<string, unknown>>;
  readonly caPem?: string;
  readonly namespaces: readonly string[];
  readonly args?: readonly string[];
  /** Beside this process's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** Default: the launcher of this checkout. */
  readonly program?: readonly [command: string, ...args: string[]];
  /** Default true: wait until `/readyz` is 200. */
  readonly untilReady?: boolean;
}

export async function startControllerProcess(options: ControllerProcessOptions): Promise<ControllerProcess> {
  const dir = await mkdtemp(join(tmpdir(), "stageset-program-"));
  const kubeconfig = join(dir, "kubeconfig");
  await writeFile(kubeconfig, renderKubeconfig(options), { mode: 0o600 });
  const [gate, health, metrics] = [await freePort(), await freePort(), await freePort()];
  const args = [
    "--enable-webhook=false",
    "--dev-allow-loopback",
    `--metrics-bind-address=127.0.0.1:${metrics}`,
    `--health-probe-bind-address=127.0.0.1:${health}`,
    `--gate-bind-address=127.0.0.1:${gate}`,
    `--watch-namespaces=${options.namespaces.join(",")}`,
    ...(options.args ?? []),
  ];
  const [command, ...before] = options.program ?? [launcher];
  const child = spawn(command, [...before, ...args], {
    env: { ...process.env, ...options.env, KUBECONFIG: kubeconfig },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let log = "";
  child.stderr.on("data", (chunk: Buffer) => (log = (log + chunk.toString()).slice(-200_000)));
  const ended = endOf(child);
  const healthUrl = `http://127.0.0.1:${health}`;
  const stop = async (): Promise<number | null> => {
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), 15_000);
    const code = await ended;
    clearTimeout(timer);
    await rm(dir, { recursive: true, force: true });
    return code;
  };
  if (options.untilReady ?? true)
    await eventually(
      async () => {
        if (child.exitCode !== null) throw new Error(`the controller ended:\n${log}`);
        return (await fetch(`${healthUrl}/readyz`)).status === 200;
      },
      { timeoutMs: 120_000 },
    );
  return {
    pid: child.pid ?? 0,
    gateUrl: `http://127.0.0.1:${gate}`,
    healthUrl,
    metricsUrl: `http://127.0.0.1:${metrics}`,
    log: () => log,
    kill: () => void child.kill("SIGKILL"),
    ended: () => ended,
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop();
    },
  };
}

function endOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once("exit", (code) => resolve(code)));
}

function renderKubeconfig({ server, token, caPem }: ControllerProcessOptions): string {
  const ca = caPem === undefined ? {} : { "certificate-authority-data": Buffer.from(caPem).toString("base64") };
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "c", cluster: { server, ...ca } }],
    users: [{ name: "u", user: typeof token === "string" ? { token } : token }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    "current-context": "x",
  });
}
