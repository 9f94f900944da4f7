import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { prometheusPath } from "./debian-package.ts";
import { freePort } from "./free-port.ts";
import { createProcessGroup, logTail, untilReady } from "./process-group.ts";
import { toolPath, type ToolOptions } from "./tools.ts";

/** A delivery controller, or what it asks, on loopback. Disposing it stops it and removes its files. */
export interface DeliveryProgram extends AsyncDisposable {
  /** Where it listens, `http://127.0.0.1:<port>`. */
  readonly url: string;
  /** The last lines it wrote. */
  log(): Promise<string>;
}

const readyTimeoutMs = 60_000;

interface ClusterAccess extends ToolOptions {
  readonly kubeconfigPath: string;
  /** The only one it looks at. */
  readonly namespace: string;
}

/** Flagger, which looks for canaries every second; metrics are not to be had. */
export async function startFlagger({ kubeconfigPath, namespace, ...options }: ClusterAccess): Promise<DeliveryProgram> {
  const port = await freePort();
  return startProgram({
    name: "flagger",
    path: await toolPath("flagger", options),
    readyUrl: `http://127.0.0.1:${port}/healthz`,
    args: () => [
      `-kubeconfig=${kubeconfigPath}`,
      `-namespace=${namespace}`,
      "-mesh-provider=kubernetes",
      "-control-loop-interval=1s",
      "-metrics-server=http://127.0.0.1:9",
      "-log-level=info",
      `-port=${port}`,
    ],
  });
}

/** The controller of Argo Rollouts. */
export async function startRolloutsController({
  kubeconfigPath,
  namespace,
  ...options
}: ClusterAccess): Promise<DeliveryProgram> {
  const [health, metrics] = [await freePort(), await freePort()];
  return startProgram({
    name: "rollouts-controller",
    path: await toolPath("rollouts-controller", options),
    readyUrl: `http://127.0.0.1:${health}/healthz`,
    args: () => [
      `--kubeconfig=${kubeconfigPath}`,
      `--namespace=${namespace}`,
      "--namespaced",
      "--leader-elect=false",
      `--metricsPort=${metrics}`,
      `--healthzPort=${health}`,
    ],
  });
}

export interface PrometheusOptions extends ToolOptions {
  /** `host:port` of each. */
  readonly targets: readonly string[];
  /** Default `stageset-controller`. */
  readonly job?: string;
  /** Whose label `namespace` counts: `series` as in production (spec 60 §10), or by default the target's. */
  readonly labels?: "series" | "target";
  /** Paths of rule files, evaluated every second. */
  readonly rules?: readonly string[];
}

/** Prometheus, scraping the targets every second. */
export async function startPrometheus({
  targets,
  job = "stageset-controller",
  labels = "target",
  rules = [],
  ...options
}: PrometheusOptions): Promise<DeliveryProgram> {
  const port = await freePort();
  const config = {
    global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
    rule_files: rules,
    scrape_configs: [{ job_name: job, honor_labels: labels === "series", static_configs: [{ targets }] }],
  };
  return startProgram({
    name: "prometheus",
    path: await prometheusPath(options),
    readyUrl: `http://127.0.0.1:${port}/-/ready`,
    files: { "prometheus.yml": stringify(config) },
    args: (dir) => [
      `--config.file=${join(dir, "prometheus.yml")}`,
      `--storage.tsdb.path=${join(dir, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
      "--log.level=warn",
    ],
  });
}

interface Program {
  readonly name: string;
  readonly path: string;
  /** Answers 200 when the program is up; its origin is the program's. */
  readonly readyUrl: string;
  /** Written before the start, by name. */
  readonly files?: Readonly<Record<string, string>>;
  /** Given the folder of its files. */
  readonly args: (dir: string) => readonly string[];
}

async function startProgram({ name, path, readyUrl, files = {}, args }: Program): Promise<DeliveryProgram> {
  const dir = await mkdtemp(join(tmpdir(), `stageset-${name}-`));
  for (const [file, text] of Object.entries(files)) await writeFile(join(dir, file), text);
  const group = createProcessGroup({ temporaryDir: dir });
  const stop = async (): Promise<void> => {
    await Promise.all(group.running.map((process) => process.end("SIGTERM", 5_000)));
    await group.close();
    await rm(dir, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    const logFile = join(dir, `${name}.log`);
    const process = await group.start({ name, path, args: args(dir), logFile });
    await untilReady(process, () => answersOk(readyUrl), { timeoutMs: readyTimeoutMs });
    return { url: new URL(readyUrl).origin, log: () => logTail(logFile, 100), [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function answersOk(url: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    get(url, { agent: false, timeout: 5_000 }, (incoming) => {
      incoming.resume();
      resolve(incoming.statusCode === 200);
    }).once("error", reject);
  });
}
