import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { deadline, DeadlineExceeded } from "../lib/abort.ts";
import { sleep, systemClock } from "../lib/clock.ts";

/** A running program of a group. */
export interface GroupProcess {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  hasExited(): boolean;
  /** Sends the signal and resolves when the process is gone; after `graceMs` it is killed. Harmless when it is gone. */
  end(signal: NodeJS.Signals, graceMs?: number): Promise<void>;
}

export interface ProcessGroup {
  /** Starts a program whose output goes to `logFile` (appended). Throws when it cannot be started at all. */
  start(options: StartOptions): Promise<GroupProcess>;
  readonly running: readonly GroupProcess[];
  /** Kills what still runs and lets the guardian go. */
  close(): Promise<void>;
}

export interface StartOptions {
  readonly name: string;
  readonly path: string;
  readonly args: readonly string[];
  readonly logFile: string;
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly cwd?: string | undefined;
}

/**
 * Reads `+ pid` and `- pid` lines; when its input ends, which also happens when the starter dies in any way, it kills
 * what is left and removes the temporary folder, if one is given.
 */
const guardianScript = `trap '' HUP INT TERM
pids=
while read -r op pid; do
  case $op in
    +) pids="$pids $pid" ;;
    -) rest=; for p in $pids; do [ "$p" = "$pid" ] || rest="$rest $p"; done; pids=$rest ;;
  esac
done
[ -z "$pids" ] || kill -KILL $pids 2>/dev/null
[ -z "$1" ] || { [ -z "$pids" ] || sleep 1; rm -rf -- "$1"; }
exit 0`;

/**
 * Programs that are ended with their starter, also when it is killed: each runs in a session of its own (an interrupt
 * typed at the terminal reaches the starter only), and a guardian shell ends what the starter could not.
 */
export function createProcessGroup({
  temporaryDir,
}: { readonly temporaryDir?: string | undefined } = {}): ProcessGroup {
  const guardian = spawn("/bin/sh", ["-c", guardianScript, "guardian", temporaryDir ?? ""], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  guardian.unref();
  guardian.stdin.on("error", () => undefined); // The guardian was killed; the group works without.
  const tell = (line: string): void => {
    if (guardian.stdin.writable) guardian.stdin.write(`${line}\n`);
  };
  const running = new Set<GroupProcess>();
  return {
    get running() {
      return [...running];
    },
    async start(options) {
      const child = await spawnLogged(options);
      const started = trackProcess(options, child);
      running.add(started);
      tell(`+ ${started.pid}`);
      child.once("exit", () => {
        running.delete(started);
        tell(`- ${started.pid}`);
      });
      return started;
    },
    async close() {
      await Promise.all([...running].map((process) => process.end("SIGKILL")));
      if (guardian.exitCode !== null || guardian.signalCode !== null) return;
      guardian.ref();
      const gone = new Promise((resolve) => guardian.once("exit", resolve));
      guardian.stdin.end();
      await gone;
    },
  };
}

/** The last lines a program wrote, for a message that says why it did not come up. */
export async function logTail(logFile: string, lines = 8): Promise<string> {
  const text = await readFile(logFile, "utf8").catch(() => "");
  return text.trimEnd().split("\n").slice(-lines).join("\n");
}

function spawnLogged({ path, args, logFile, env, cwd }: StartOptions): Promise<ChildProcess> {
  const log = openSync(logFile, "a");
  try {
    const child = spawn(path, args, { stdio: ["ignore", log, log], detached: true, env: env ?? process.env, cwd });
    child.unref();
    return new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("spawn", () => resolve(child));
    });
  } finally {
    closeSync(log);
  }
}

function trackProcess({ name, logFile }: StartOptions, child: ChildProcess): GroupProcess {
  const { pid } = child;
  if (pid === undefined) throw new Error(`Cannot start "${name}": it has no process id`);
  const hasExited = (): boolean => child.exitCode !== null || child.signalCode !== null;
  return {
    name,
    pid,
    logFile,
    hasExited,
    async end(signal, graceMs = 10_000) {
      if (hasExited()) return;
      child.ref();
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill(signal);
      const timer = systemClock.timer(graceMs, () => child.kill("SIGKILL"));
      await gone;
      timer[Symbol.dispose]();
    },
  };
}

/**
 * Asks `isReady` every 25 ms until it says so. An error of `isReady` counts as "not yet".
 *
 * @throws {DeadlineExceeded} with the program's last lines, after `timeoutMs` or as soon as `process` has exited
 * @throws the signal's reason, when aborted
 */
export async function untilReady(
  process: GroupProcess,
  isReady: () => Promise<boolean>,
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal?: AbortSignal | undefined },
): Promise<void> {
  const what = `start of ${process.name}`;
  using limit = deadline(systemClock, { timeoutMs, what, ...(signal === undefined ? {} : { parent: signal }) });
  while (!(await isReady().catch(() => false))) {
    if (process.hasExited()) {
      throw new Error(`Cannot start "${process.name}": it exited\n${await logTail(process.logFile)}`);
    }
    try {
      await sleep(systemClock, 25, limit.signal);
    } catch (cause) {
      if (!(cause instanceof DeadlineExceeded)) throw cause;
      throw new Error(`${cause.message}\n${await logTail(process.logFile)}`, { cause });
    }
  }
}
