/**
 * The control plane on loopback, from the command line:
 *   npm run controlplane -- up --dir D [--kwok] [--crds]    starts it in the background, writes D/kubeconfig
 *   npm run controlplane -- down --dir D                    stops it and removes what it wrote into D
 *   npm run -s controlplane -- where                        prints the folder that holds the programs
 */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { readCrds, installCrds } from "../src/dev/crds.ts";
import { startControlPlane } from "../src/dev/control-plane.ts";
import { builtTools, controlPlaneTools, kwokTools, toolFolder, toolPaths } from "../src/dev/tools.ts";
import { sleep, systemClock } from "../src/lib/clock.ts";
import { at, asNumber, asText } from "../src/lib/json.ts";

interface UpOptions {
  readonly dir: string;
  readonly kwok?: boolean;
  readonly crds?: boolean;
}

const stateFile = (dir: string): string => join(dir, "controlplane.json");
const logFile = (dir: string): string => join(dir, "controlplane.log");
const onProgress = (line: string): void => void process.stderr.write(`${line}\n`);
/** What a control plane leaves in its folder. */
const written = [
  ...[
    "certificates",
    "log",
    "etcd",
    "tokens.csv",
    "service-account.key",
    "audit-policy.yaml",
    "audit.log",
    "kwok.yaml",
  ],
  ...["kubeconfig", "kube-controller-manager.kubeconfig", "kube-scheduler.kubeconfig", "kwok.kubeconfig"],
  ...["controlplane.json", "controlplane.log"],
];
const startTimeoutMs = 120_000;

const program = new Command("controlplane").description("A Kubernetes control plane on loopback, without containers");
program
  .command("up")
  .description("start it in the background")
  .requiredOption("--dir <folder>", "where its files go", (value) => resolve(value))
  .option("--kwok", "add controller-manager, scheduler and a simulated node with room for 10,000 pods")
  .option("--crds", "install the CustomResourceDefinitions of StageSet and of Flux's sources")
  .action(up);
program
  .command("down")
  .description("stop it")
  .requiredOption("--dir <folder>", "the folder given to up", (value) => resolve(value))
  .action(down);
program.command("where").description("print the folder that holds the programs").action(where);
program
  .command("serve", { hidden: true })
  .requiredOption("--dir <folder>")
  .option("--kwok")
  .option("--crds")
  .action(serve);
await program.parseAsync();

async function up(options: UpOptions): Promise<void> {
  const { dir } = options;
  const before = await readState(dir);
  if (before !== undefined && isAlive(before.pid)) {
    fail(
      `A control plane runs in "${dir}" already, process ${before.pid}; stop it with: npm run controlplane -- down --dir ${dir}`,
    );
    return;
  }
  // Built here, so that progress is seen; the background process finds everything in the cache.
  await toolPaths(options.kwok === true ? kwokTools : controlPlaneTools, { onProgress });
  if (options.crds === true) await Promise.all([readCrds("stageset"), readCrds("flux")]);
  await mkdir(dir, { recursive: true });
  await rm(stateFile(dir), { force: true });
  const log = openSync(logFile(dir), "w");
  const args = [fileURLToPath(import.meta.url), "serve", "--dir", dir];
  if (options.kwok === true) args.push("--kwok");
  if (options.crds === true) args.push("--crds");
  const child = spawn(process.execPath, args, { detached: true, stdio: ["ignore", log, log] });
  closeSync(log);
  const giveUpAt = systemClock.monotonic() + startTimeoutMs;
  while ((await readState(dir)) === undefined) {
    if (child.exitCode !== null || child.signalCode !== null || systemClock.monotonic() > giveUpAt) {
      child.kill("SIGTERM");
      fail(`Cannot start the control plane:\n${await readFile(logFile(dir), "utf8")}`);
      return;
    }
    await sleep(systemClock, 50);
  }
  child.unref();
  process.stdout.write(`${join(dir, "kubeconfig")}\n`);
}

/** The background process: holds the control plane until it is told to stop. */
async function serve({ dir, kwok, crds }: UpOptions): Promise<void> {
  const { promise: stopped, resolve: stop } = Promise.withResolvers<NodeJS.Signals>();
  const abort = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    process.on(signal, () => {
      stop(signal);
      abort.abort(new Error(`stopped by ${signal}`));
    });
  }
  await using controlPlane = await startControlPlane({ dir, kwok, onProgress, signal: abort.signal });
  const { server, caPem, adminToken, auditLogPath, caFile } = controlPlane;
  if (crds === true) await installCrds({ server, caPem, token: adminToken }, ["stageset", "flux"], { onProgress });
  const state = { pid: process.pid, server, caFile, auditLogPath, pids: controlPlane.pids };
  await writeFile(`${stateFile(dir)}.new`, JSON.stringify(state, undefined, 2), { mode: 0o600 });
  await rename(`${stateFile(dir)}.new`, stateFile(dir));
  // A pending promise alone does not keep a process running.
  const keepAlive = setInterval(() => undefined, 3_600_000);
  await stopped;
  clearInterval(keepAlive);
}

async function down({ dir }: { readonly dir: string }): Promise<void> {
  const state = await readState(dir);
  if (state === undefined) {
    fail(`No control plane was started in "${dir}"`);
    return;
  }
  if (isAlive(state.pid)) process.kill(state.pid, "SIGTERM");
  const giveUpAt = systemClock.monotonic() + 30_000;
  while (isAlive(state.pid)) {
    if (systemClock.monotonic() > giveUpAt) {
      fail(`The control plane in "${dir}", process ${state.pid}, did not stop within 30 s`);
      return;
    }
    await sleep(systemClock, 50);
  }
  await Promise.all(written.map((name) => rm(join(dir, name), { recursive: true, force: true, maxRetries: 5 })));
  if ((await readdir(dir)).length === 0) await rmdir(dir);
}

async function where(): Promise<void> {
  await toolPaths(kwokTools, { onProgress });
  process.stdout.write(`${await toolFolder(await builtTools())}\n`);
}

async function readState(dir: string): Promise<{ readonly pid: number; readonly server: string } | undefined> {
  const text = await readFile(stateFile(dir), "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  const state: unknown = JSON.parse(text);
  const pid = asNumber(at(state, "pid"));
  return pid === undefined ? undefined : { pid, server: asText(at(state, "server")) ?? "" };
}

/** Whether the process runs, a zombie not counted. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function fail(message: string): void {
  process.stderr.write(`${message}\n`);
  process.exitCode = 1;
}
