import { expect } from "vitest";
import { tokenCredential } from "../../src/kube/credential.ts";
import { localClusterKey } from "../../src/kube/endpoint.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import type { Clock } from "../../src/lib/clock.ts";
import { readConfig, type Config } from "../../src/main/config.ts";
import { startController, type RunningController } from "../../src/main/start-controller.ts";
import { createLogger } from "../../src/observe/logger.ts";
import { systemClock } from "../../src/lib/clock.ts";
import type { MemoryReading } from "../../src/runtime/memory-guard.ts";
import type { TestCluster } from "./cluster.ts";
import { bindInstallation, controllerToken } from "./controller-account.ts";
import { eventually } from "./eventually.ts";

export interface TestControllerOptions {
  /** What it watches: the namespaces of one test, so that tests do not see each other's StageSets. */
  readonly namespaces: readonly string[];
  readonly config?: Partial<Config>;
  readonly clock?: Clock;
  /**
   * Default: a ServiceAccount's that may do what the chart renders, and nothing else. A StageSet that names no ServiceAccount
   * needs more: the admin's, as with the chart's `rbac.clusterAdmin`.
   */
  readonly token?: string;
  /** An API server address other than the control plane's own: a proxy's. */
  readonly server?: string;
  readonly caPem?: string;
  /** Default: without a limit, for many controllers share this process. */
  readonly memory?: () => MemoryReading | undefined;
}

/** The controller in this process, its gate, metrics and probes on free ports of loopback. */
export interface TestController extends AsyncDisposable {
  readonly running: RunningController;
  /** One record per line, as JSON. */
  readonly logs: readonly string[];
  /** Status and text of a gate answer; waits until the gate listens. */
  gate(path: string, init?: RequestInit): Promise<{ readonly status: number; readonly body: string }>;
  metrics(): Promise<string>;
  probe(path: string): Promise<{ readonly status: number; readonly body: string }>;
}

export async function startTestController(
  cluster: TestCluster,
  options: TestControllerOptions,
): Promise<TestController> {
  const logs: string[] = [];
  const clock = options.clock ?? systemClock;
  const logger = createLogger({ level: "debug", format: "json", clock, write: (line) => void logs.push(line) });
  const config = testConfig(options);
  const home = config.leaderElect ? config.leaderElectionNamespace : undefined;
  if (home !== undefined && options.token === undefined && (await isNamespace(cluster, home)))
    await bindInstallation(cluster, { namespace: home });
  const running = await startController({
    config,
    logger,
    clock,
    cluster: {
      endpoint: {
        key: localClusterKey,
        server: options.server ?? cluster.server,
        caPem: options.caPem ?? cluster.caPem,
      },
      credential: tokenCredential(options.token ?? (await controllerToken(cluster))),
    },
    memory: options.memory ?? (() => undefined),
    drainMs: 0,
  });
  const fetchFrom = async (
    name: "gate" | "health" | "metrics",
    path: string,
    init?: RequestInit,
  ): Promise<{ readonly status: number; readonly body: string }> => {
    await eventually(() => running.ports()[name] !== undefined, { timeoutMs: 20_000 });
    const response = await fetch(`http://127.0.0.1:${running.ports()[name] ?? 0}${path}`, init);
    return { status: response.status, body: await response.text() };
  };
  return {
    running,
    logs,
    gate: (path, init) => fetchFrom("gate", path, init),
    metrics: async () => (await fetchFrom("metrics", "/metrics")).body,
    probe: (path) => fetchFrom("health", path),
    [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
  };
}

/** A replica that must not lead has its Lease in none. */
async function isNamespace({ admin }: TestCluster, name: string): Promise<boolean> {
  return (await admin.get({ apiVersion: "v1", kind: "Namespace", metadata: { name } })) !== undefined;
}

function testConfig({ namespaces, config }: TestControllerOptions): Config {
  const read = readConfig(["--dev-allow-loopback", "--enable-webhook=false"], {}, "test");
  if (read.kind !== "config") throw new Error(JSON.stringify(read));
  const listener = { host: "127.0.0.1", port: 0 };
  return {
    ...read.config,
    namespaces,
    metrics: listener,
    health: listener,
    gate: listener,
    logLevel: "debug",
    // Tests compare messages without what ends them.
    runbookBaseUrl: undefined,
    ...config,
  };
}

/** A StageSet as tests write it. */
export interface StageSetManifest {
  readonly namespace: string;
  readonly name: string;
  readonly spec: Readonly<Record<string, unknown>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export function stageSetRef(namespace: string, name: string) {
  return { apiVersion: "stages.metio.wtf/v1", kind: "StageSet", metadata: { name, namespace } } as const;
}

export function createStageSet(
  cluster: TestCluster,
  { namespace, name, spec, annotations }: StageSetManifest,
): Promise<KubeObject> {
  const ref = stageSetRef(namespace, name);
  return cluster.admin.create({
    ...ref,
    metadata: { ...ref.metadata, ...(annotations === undefined ? {} : { annotations }) },
    spec,
  });
}

/** The Ready condition as `<status> <reason>`; empty before the controller has seen the object. */
export function readyOf(stageSet: KubeObject | undefined): string {
  const ready = readyCondition(stageSet);
  return ready === undefined ? "" : `${asText(at(ready, "status")) ?? ""} ${asText(at(ready, "reason")) ?? ""}`;
}

export function messageOf(stageSet: KubeObject | undefined): string {
  return asText(at(readyCondition(stageSet), "message")) ?? "";
}

function readyCondition(stageSet: KubeObject | undefined): unknown {
  return asArray(at(stageSet, "status", "conditions")).find((each) => at(each, "type") === "Ready");
}

/** The status entry of a stage. */
export function stageStatus(stageSet: KubeObject | undefined, stage: string): unknown {
  return asArray(at(stageSet, "status", "stages")).find((each) => at(each, "name") === stage);
}

/** Waits until Ready is `<status> <reason>` at the current generation, and gives the StageSet. */
export async function untilReady(
  cluster: TestCluster,
  { namespace, name }: { readonly namespace: string; readonly name: string },
  wanted = "True Succeeded",
  options: { readonly timeoutMs?: number } = {},
): Promise<KubeObject> {
  let last: KubeObject | undefined;
  await eventually(
    async () => {
      last = await cluster.admin.get(stageSetRef(namespace, name));
      expect(readyOf(last), messageOf(last)).toBe(wanted);
      expect(at(last, "status", "observedGeneration")).toBe(last?.metadata.generation);
      return true;
    },
    { timeoutMs: options.timeoutMs ?? 30_000 },
  );
  if (last === undefined) throw new Error("the StageSet is gone");
  return last;
}

/** A ConfigMap manifest as YAML. */
export function configMap(name: string, values: Readonly<Record<string, string>> = {}): string {
  const lines = Object.entries(values).map(([key, value]) => `  ${key}: ${JSON.stringify(value)}\n`);
  const end = lines.length === 0 ? "" : `data:\n${lines.join("")}`;
  return `apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\n${end}`;
}
