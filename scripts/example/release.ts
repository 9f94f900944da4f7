/** What the examples share: the program on loopback, its manifests applied, a release followed on the terminal. */
import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { type ApiTarget, callApi } from "../../src/dev/api-call.ts";
import { freePort } from "../../src/dev/free-port.ts";
import { sleep, systemClock } from "../../src/lib/clock.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const releaseTimeoutMs = 120_000;
const plurals: Readonly<Record<string, string>> = {
  Namespace: "namespaces",
  ServiceAccount: "serviceaccounts",
  ClusterRoleBinding: "clusterrolebindings",
  StageSet: "stagesets",
};
const marks: Readonly<Record<string, string>> = { Ready: "✓", Failed: "✗", Pending: "·" };

export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

export function progress(line: string): void {
  process.stderr.write(`  ${line}\n`);
}

/** The controller as users run it, with its gate and metrics on loopback. */
export interface ExampleController extends AsyncDisposable {
  readonly gateUrl: string;
  /** `host:port`. */
  readonly metricsTarget: string;
}

export interface ExampleControllerOptions {
  /** Where its log goes, shown when it ends early. */
  readonly dir: string;
  readonly kubeconfigPath: string;
  readonly signal: AbortSignal;
}

/** Starts the program and waits until it is ready. */
export async function startExampleController(options: ExampleControllerOptions): Promise<ExampleController> {
  const { dir, kubeconfigPath, signal } = options;
  const [gate, health, metrics] = [await freePort(), await freePort(), await freePort()];
  const args = [
    "--enable-webhook=false",
    "--dev-allow-loopback",
    "--log-format=text",
    `--metrics-bind-address=127.0.0.1:${metrics}`,
    `--health-probe-bind-address=127.0.0.1:${health}`,
    `--gate-bind-address=127.0.0.1:${gate}`,
  ];
  const logFile = join(dir, "controller.log");
  const child = spawn(join(root, "bin", "stageset-controller"), args, {
    env: { ...process.env, KUBECONFIG: kubeconfigPath },
    stdio: ["ignore", "ignore", "pipe"],
    detached: true,
  });
  child.stderr.pipe(createWriteStream(logFile));
  try {
    for (const giveUpAt = systemClock.monotonic() + 30_000; ;) {
      const ready = await fetch(`http://127.0.0.1:${health}/readyz`).then(
        (response) => response.status === 200,
        () => false,
      );
      if (ready) break;
      if (child.exitCode !== null || systemClock.monotonic() > giveUpAt)
        throw new Error(`the controller did not start:\n${await readFile(logFile, "utf8")}`);
      await sleep(systemClock, 50, signal);
    }
  } catch (error) {
    await end(child);
    throw error;
  }
  return {
    gateUrl: `http://127.0.0.1:${gate}`,
    metricsTarget: `127.0.0.1:${metrics}`,
    [Symbol.asyncDispose]: () => end(child),
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const timer = systemClock.timer(10_000, () => child.kill("SIGKILL"));
  await ended;
  timer[Symbol.dispose]();
}

/** Applies every document of a file. */
export async function applyFile(api: ApiTarget, file: string): Promise<void> {
  for (const document of parseAllDocuments(await readFile(file, "utf8"))) {
    const object: unknown = document.toJS();
    const answer = await callApi(api, "PATCH", `${pathOf(object)}?fieldManager=example`, {
      body: object,
      contentType: "application/apply-patch+yaml",
    });
    if (answer.status >= 300) throw new Error(`cannot apply ${file}: ${asText(at(answer.body, "message")) ?? ""}`);
  }
}

function pathOf(object: unknown): string {
  const apiVersion = asText(at(object, "apiVersion")) ?? "";
  const namespace = asText(at(object, "metadata", "namespace"));
  const rootPath = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const scope = namespace === undefined ? "" : `/namespaces/${namespace}`;
  return `${rootPath}${scope}/${plurals[asText(at(object, "kind")) ?? ""] ?? ""}/${asText(at(object, "metadata", "name")) ?? ""}`;
}

export interface FollowOptions {
  /** All in the namespace `shop`. */
  readonly stageSet: string;
  readonly stages: readonly string[];
  readonly revision: string;
  /** Address of the last stage's gate. */
  readonly gate: string;
  /** Further lines below the tree, asked for at every look. */
  readonly also?: () => Promise<readonly string[]>;
  readonly signal: AbortSignal;
}

/** Shows the stages whenever one of them, or the gate's answer, changes, until all are Ready at the revision. */
export async function follow(api: ApiTarget, options: FollowOptions): Promise<void> {
  const { stageSet, stages, revision, gate, also, signal } = options;
  const started = systemClock.monotonic();
  let shown = "";
  for (;;) {
    const { body } = await callApi(api, "GET", `/apis/stages.metio.wtf/v1/namespaces/shop/stagesets/${stageSet}`);
    const answer = await fetch(gate).then(
      async (response) => `${response.status} ${(await response.text()).trim()}`,
      () => "not listening yet",
    );
    const more = (await also?.()) ?? [];
    const lines = [...renderTree(body, options), ...more, `  gate of stage "${stages.at(-1) ?? ""}": ${answer}`];
    if (lines.join("\n") !== shown) {
      shown = lines.join("\n");
      const elapsed = ((systemClock.monotonic() - started) / 1_000).toFixed(1);
      say(`[${elapsed.padStart(5)}s] ${shown}`);
    }
    const done = stages.every((name) => {
      const stage = asArray(at(body, "status", "stages")).find((each) => at(each, "name") === name);
      return at(stage, "phase") === "Ready" && at(stage, "appliedRevision") === revision;
    });
    if (done && answer.startsWith("200")) return;
    if (systemClock.monotonic() - started > releaseTimeoutMs)
      throw new Error("the release is not Ready after 2 minutes");
    await sleep(systemClock, 100, signal);
  }
}

function renderTree(object: unknown, { stageSet, stages }: FollowOptions): readonly string[] {
  const ready = asArray(at(object, "status", "conditions")).find((each) => at(each, "type") === "Ready");
  const summary = ready === undefined ? "not seen yet" : (asText(at(ready, "reason")) ?? "");
  const lines = stages.map((name, index) => {
    const stage = asArray(at(object, "status", "stages")).find((each) => at(each, "name") === name);
    const phase = asText(at(stage, "phase")) ?? "Pending";
    const revision = asText(at(stage, "appliedRevision")) ?? "-";
    const branch = index === stages.length - 1 ? "└─" : "├─";
    return `  ${branch} ${marks[phase] ?? "…"} ${name.padEnd(7)} ${phase.padEnd(10)} ${revision}`;
  });
  return [`StageSet shop/${stageSet}: ${summary}`, ...lines];
}
