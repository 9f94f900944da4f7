import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ControlPlane, startControlPlane } from "../../src/dev/control-plane.ts";
import { callApi } from "../../src/dev/api-call.ts";
import { installCrds } from "../../src/dev/crds.ts";
import { freePort } from "../../src/dev/free-port.ts";
import { type Publisher, startPublisher } from "../../src/dev/publisher.ts";
import { createKubeClient, type KubeClient } from "../../src/kube/client.ts";
import { tokenCredential } from "../../src/kube/credential.ts";
import { type ApiResource, applyRequest, getRequest } from "../../src/kube/request.ts";
import { sleep, systemClock } from "../../src/lib/clock.ts";
import { asText, at } from "../../src/lib/json.ts";
import { bundledProgram } from "./bundle.ts";
import type { ControlGroup } from "./control-group.ts";
import { deployment } from "./manifests.ts";

/** A control plane of its own for one row, with a bare client and a publisher of artifacts. */
export interface BenchCluster extends AsyncDisposable {
  readonly plane: ControlPlane;
  readonly client: KubeClient;
  readonly publisher: Publisher;
  apply(object: unknown): Promise<void>;
  /** Requests the API server has answered so far, watches left out. */
  requests(): Promise<number>;
}

const own = { group: "stages.metio.wtf", version: "v1", namespaced: true, verbs: [] } as const;
export const stageSets: ApiResource = { ...own, kind: "StageSet", plural: "stagesets" };
export const configMaps: ApiResource = {
  group: "",
  version: "v1",
  kind: "ConfigMap",
  plural: "configmaps",
  namespaced: true,
  verbs: [],
};
export const deployments: ApiResource = {
  group: "apps",
  version: "v1",
  kind: "Deployment",
  plural: "deployments",
  namespaced: true,
  verbs: [],
};
export const externalArtifacts: ApiResource = {
  group: "source.toolkit.fluxcd.io",
  version: "v1",
  kind: "ExternalArtifact",
  plural: "externalartifacts",
  namespaced: true,
  verbs: [],
};
const others: readonly ApiResource[] = [
  { group: "", version: "v1", kind: "Namespace", plural: "namespaces", namespaced: false, verbs: [] },
  { group: "", version: "v1", kind: "ServiceAccount", plural: "serviceaccounts", namespaced: true, verbs: [] },
  {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    namespaced: false,
    verbs: [],
  },
];

export async function startBenchCluster({ kwok }: { readonly kwok: boolean }): Promise<BenchCluster> {
  const stack = new AsyncDisposableStack();
  const plane = stack.use(await startControlPlane({ kwok, onProgress: progress }));
  const api = { server: plane.server, caPem: plane.caPem, token: plane.adminToken };
  await installCrds(api, ["stageset", "flux"], { onProgress: progress });
  const client = stack.use(
    createKubeClient({
      endpoint: { key: "local", server: plane.server, caPem: plane.caPem },
      credential: tokenCredential(plane.adminToken),
      identity: "bench",
    }),
  );
  const publisher = stack.use(await startPublisher(api));
  const apply = (object: unknown): Promise<void> => applyAs(client, object);
  if (kwok) await settle(client, apply);
  return {
    plane,
    client,
    publisher,
    apply,
    async requests() {
      const { body } = await callApi(api, "GET", "/metrics");
      let total = 0;
      for (const line of String(body).split("\n"))
        if (line.startsWith("apiserver_request_total{") && !line.includes('verb="WATCH"'))
          total += Number(line.slice(line.lastIndexOf(" ")));
      return total;
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

async function applyAs(client: KubeClient, object: unknown): Promise<void> {
  const kind = asText(at(object, "kind")) ?? "";
  const resource = [stageSets, configMaps, deployments, ...others].find((each) => each.kind === kind);
  if (resource === undefined) throw new RangeError(`no resource for kind "${kind}"`);
  const name = asText(at(object, "metadata", "name")) ?? "";
  const namespace = asText(at(object, "metadata", "namespace"));
  const body = JSON.stringify(object);
  await client.send(applyRequest(resource, { name, namespace, body, fieldManager: "bench", force: true }));
}

/**
 * Until the control plane's own controllers have started: a Deployment has become available. Their start takes seconds
 * of both cores and belongs neither to the floor nor to what is measured.
 */
async function settle(client: KubeClient, apply: (object: unknown) => Promise<void>): Promise<void> {
  const place = { namespace: "settled", name: "first" };
  await apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: place.namespace } });
  await apply(deployment({ ...place, readyAfter: "0s", version: "v1" }));
  while (at(await client.send(getRequest(deployments, place)), "status", "readyReplicas") !== 1)
    await sleep(systemClock, 100);
}

export function progress(line: string): void {
  process.stderr.write(`  ${line}\n`);
}

/** The program under measurement, with its CPU and memory as the kernel counts them. */
export interface MeasuredProgram extends AsyncDisposable {
  readonly gatePort: number;
  readonly healthPort: number;
  /** User and system time so far, ms. */
  cpuMs(): Promise<number>;
  rssMb(): Promise<number>;
  /** The most it has been so far. */
  peakRssMb(): Promise<number>;
  /** From its start until the gate listened, ms. */
  readonly startMs: number;
}

/** @param o `group`: what it may use; `args`: more flags. */
export async function startProgram(
  plane: ControlPlane,
  o: { readonly group?: ControlGroup; readonly args?: readonly string[] } = {},
): Promise<MeasuredProgram> {
  const dir = await mkdtemp(join(tmpdir(), "stageset-bench-"));
  const [gatePort, healthPort] = [await freePort(), await freePort()];
  const program = await bundledProgram();
  const began = systemClock.monotonic();
  const args = [
    "--enable-webhook=false",
    "--dev-allow-loopback",
    "--metrics-bind-address=0",
    `--health-probe-bind-address=127.0.0.1:${healthPort}`,
    `--gate-bind-address=127.0.0.1:${gatePort}`,
    ...(o.args ?? []),
    ...(process.env["BENCH_ARGS"] ?? "").split(" ").filter((arg) => arg !== ""),
  ];
  const profileDir = process.env["BENCH_CPU_PROF"];
  const profiling = profileDir === undefined ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profileDir}` };
  const child = spawn(program, args, {
    env: { ...process.env, KUBECONFIG: plane.kubeconfigPath, ...profiling },
    stdio: ["ignore", "ignore", "pipe"],
  });
  await o.group?.add(child.pid ?? 0);
  const logFile = join(dir, "controller.log");
  child.stderr.pipe(createWriteStream(logFile));
  const isReady = (): Promise<boolean> =>
    fetch(`http://127.0.0.1:${healthPort}/readyz`).then(
      (response) => response.status === 200,
      () => false,
    );
  while (!(await isReady())) {
    if (child.exitCode !== null) throw new Error(`the controller ended:\n${await readFile(logFile, "utf8")}`);
    await sleep(systemClock, 10);
  }
  const startMs = systemClock.monotonic() - began;
  const stat = (file: string): Promise<string> => readFile(`/proc/${child.pid ?? 0}/${file}`, "utf8");
  const kibibytes = async (field: string): Promise<number> =>
    Number(new RegExp(`${field}:\\s+(\\d+)`).exec(await stat("status"))?.[1] ?? "0");
  return {
    gatePort,
    healthPort,
    startMs,
    async cpuMs() {
      const fields = (await stat("stat")).replace(/^.*\) /s, "").split(" ");
      return (Number(fields[11]) + Number(fields[12])) * 10; // Ticks of 10 ms, proc(5).
    },
    rssMb: async () => Math.round((await kibibytes("VmRSS")) / 1024),
    peakRssMb: async () => Math.round((await kibibytes("VmHWM")) / 1024),
    async [Symbol.asyncDispose]() {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      // A profile is written at the end of a process that stops by itself.
      child.kill(profileDir === undefined ? "SIGKILL" : "SIGTERM");
      await ended;
      await rm(dir, { recursive: true, force: true });
    },
  };
}
