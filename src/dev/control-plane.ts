import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { at } from "../lib/json.ts";
import { callApi } from "./api-call.ts";
import {
  apiServerArgs,
  auditPolicy,
  controllerManagerArgs,
  createSigningKey,
  etcdArgs,
  type Layout,
  layoutOf,
  renderKubeconfig,
  schedulerArgs,
  simulatedNode,
  type SystemUser,
  systemUsers,
} from "./control-plane-config.ts";
import { freePort } from "./free-port.ts";
import { renderKwokConfig } from "./kwok-config.ts";
import { createProcessGroup, type GroupProcess, type ProcessGroup, untilReady } from "./process-group.ts";
import { controlPlaneTools, kwokTools, type ToolName, toolPaths } from "./tools.ts";

export interface ControlPlaneOptions {
  /** Where certificates, keys, data and logs go. Default: a temporary folder, removed by `stop`. */
  readonly dir?: string | undefined;
  /** Adds controller-manager, scheduler and a simulated node with room for 10,000 pods. */
  readonly kwok?: boolean | undefined;
  /** Whom its ServiceAccount tokens are from; default `https://kubernetes.default.svc`. */
  readonly issuer?: string | undefined;
  /** A file of `AuthenticationConfiguration`: other issuers that it trusts. */
  readonly authenticationConfig?: string | undefined;
  /** A kubeconfig of whoever reviews tokens it does not know. */
  readonly tokenReviewer?: string | undefined;
  /** Lines about tools being built. */
  readonly onProgress?: ((line: string) => void) | undefined;
  /** Aborting it ends the start; it has no effect on a control plane that is up. */
  readonly signal?: AbortSignal | undefined;
}

/** A Kubernetes API server of our own on loopback, without containers. Disposing it stops it. */
export interface ControlPlane extends AsyncDisposable {
  /** `https://127.0.0.1:<port>`; the port outlives a restart of the API server. */
  readonly server: string;
  readonly dir: string;
  readonly caFile: string;
  readonly caPem: string;
  /** A bearer token in `system:masters`. There is no client certificate: it would beat a tenant's token. */
  readonly adminToken: string;
  /** The admin's. */
  readonly kubeconfigPath: string;
  /** One JSON event a line, level Metadata; requests of the control plane's own programs are left out. */
  readonly auditLogPath: string;
  /** Process ids by program name, of what runs now. */
  readonly pids: Readonly<Record<string, number>>;
  /** A kubeconfig for whoever holds the token. */
  kubeconfig(token: string): string;
  /** Ends every process, waits for it, removes a temporary folder. Twice is harmless. */
  stop(): Promise<void>;
  /** SIGKILL, and waits until it is gone. */
  killApiServer(): Promise<void>;
  /** Kills the API server if it runs, starts it on the same port and data, waits until it is ready. */
  restartApiServer(): Promise<void>;
}

const readyTimeoutMs = 60_000;

/**
 * Starts etcd and kube-apiserver (and, with `kwok`, a simulated node with its controllers) and waits until they are ready.
 * Everything ends with this process, however that ends.
 *
 * @throws {ToolError} when a program is missing and cannot be built
 * @throws an Error with the program's last lines, when it does not come up within a minute
 * @throws the signal's reason, when aborted
 */
export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  const { signal } = options;
  const tools = await toolPaths(options.kwok === true ? kwokTools : controlPlaneTools, options);
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), "stageset-control-plane-")));
  const temporaryDir = options.dir === undefined ? dir : undefined;
  const group = createProcessGroup({ temporaryDir });
  const program = (name: ToolName): string => tools.get(name) ?? name;
  try {
    const layout = layoutOf(dir, { etcdPort: await freePort(), apiServerPort: await freePort() });
    const tokens = await writeFiles(layout);
    const start = (name: ToolName, args: readonly string[]): Promise<GroupProcess> =>
      group.start({ name, path: program(name), args, logFile: join(layout.logs, `${name}.log`) });
    const etcd = await start("etcd", etcdArgs(layout, temporaryDir !== undefined));
    await untilReady(etcd, () => isHealthy(layout), { timeoutMs: readyTimeoutMs, signal });
    const startApiServer = async (): Promise<GroupProcess> => {
      const process = await start("kube-apiserver", apiServerArgs(layout, options));
      await untilReady(process, () => isServing(layout, tokens.admin), { timeoutMs: readyTimeoutMs, signal });
      return process;
    };
    let apiServer = await startApiServer();
    const caPem = await readFile(layout.caFile, "utf8");
    for (const user of systemUsers) {
      await writeFile(layout.kubeconfigs[user], renderKubeconfig(layout.server, caPem, tokens[user]), { mode: 0o600 });
    }
    if (options.kwok === true) await startNode({ layout, caPem, token: tokens.admin, start, signal });
    const stop = createStop({ group, etcd, temporaryDir });
    return {
      server: layout.server,
      dir,
      caFile: layout.caFile,
      caPem,
      adminToken: tokens.admin,
      kubeconfigPath: layout.kubeconfigs.admin,
      auditLogPath: layout.auditLog,
      get pids() {
        return Object.fromEntries(group.running.map(({ name, pid }) => [name, pid]));
      },
      kubeconfig: (token) => renderKubeconfig(layout.server, caPem, token),
      stop,
      killApiServer: () => apiServer.end("SIGKILL"),
      async restartApiServer() {
        await apiServer.end("SIGKILL");
        apiServer = await startApiServer();
      },
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await group.close();
    if (temporaryDir !== undefined) await removeDir(temporaryDir);
    throw error;
  }
}

interface StopParts {
  readonly group: ProcessGroup;
  readonly etcd: GroupProcess;
  readonly temporaryDir: string | undefined;
}

function createStop({ group, etcd, temporaryDir }: StopParts): () => Promise<void> {
  const stop = async (): Promise<void> => {
    // Only etcd has state to bring to safety, and in a temporary folder nobody reads it again.
    await Promise.all(group.running.filter((process) => process !== etcd).map((process) => process.end("SIGKILL")));
    if (temporaryDir === undefined) await etcd.end("SIGTERM", 5_000);
    await group.close();
    if (temporaryDir !== undefined) await removeDir(temporaryDir);
  };
  let stopping: Promise<void> | undefined;
  return () => (stopping ??= stop());
}

function removeDir(dir: string): Promise<void> {
  return rm(dir, { recursive: true, force: true, maxRetries: 5 });
}

type Tokens = Readonly<Record<SystemUser, string>>;

async function writeFiles(layout: Layout): Promise<Tokens> {
  for (const folder of [layout.certificates, layout.logs]) await mkdir(folder, { recursive: true });
  const tokens: Tokens = {
    admin: newToken(),
    "kube-controller-manager": newToken(),
    "kube-scheduler": newToken(),
    kwok: newToken(),
  };
  const lines = systemUsers.map((user) => `${tokens[user]},${layout.userNames[user]},${user},"system:masters"`);
  await writeFile(layout.tokenFile, `${lines.join("\n")}\n`, { mode: 0o600 });
  // A kept folder keeps its key: tokens that were issued before stay valid.
  await writeFile(layout.signingKey, await createSigningKey(), { mode: 0o600, flag: "wx" }).catch(ignoreExisting);
  await writeFile(layout.auditPolicy, auditPolicy(layout));
  await writeFile(layout.kwokConfig, renderKwokConfig());
  return tokens;
}

function newToken(): string {
  return randomBytes(24).toString("hex");
}

function ignoreExisting(error: unknown): void {
  if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
}

function isHealthy(layout: Layout): Promise<boolean> {
  return new Promise((resolve, reject) => {
    get(`${layout.etcdUrl}/health`, { agent: false, timeout: 5_000 }, (incoming) => {
      incoming.resume();
      resolve(incoming.statusCode === 200);
    }).once("error", reject);
  });
}

async function isServing(layout: Layout, token: string): Promise<boolean> {
  const caPem = await readFile(layout.caFile, "utf8");
  return (await callApi({ server: layout.server, caPem, token }, "GET", "/readyz")).status === 200;
}

interface NodeParts {
  readonly layout: Layout;
  readonly caPem: string;
  readonly token: string;
  readonly signal: AbortSignal | undefined;
  readonly start: (name: ToolName, args: readonly string[]) => Promise<GroupProcess>;
}

async function startNode({ layout, caPem, token, start, signal }: NodeParts): Promise<void> {
  const api = { server: layout.server, caPem, token };
  const [manager, kwok] = await Promise.all([
    start("kube-controller-manager", controllerManagerArgs(layout)),
    start("kwok", [
      `--kubeconfig=${layout.kubeconfigs.kwok}`,
      `--config=${layout.kwokConfig}`,
      "--manage-all-nodes=true",
      "--node-lease-duration-seconds=0",
      "--node-ip=127.0.0.1",
      "--cidr=10.1.0.0/16",
    ]),
    start("kube-scheduler", schedulerArgs(layout)),
  ]);
  await callApi(api, "POST", "/api/v1/nodes", { body: simulatedNode }); // A kept folder has it: 409.
  const isNodeReady = async (): Promise<boolean> => {
    const { body } = await callApi(api, "GET", `/api/v1/nodes/${simulatedNode.metadata.name}`);
    const conditions = at(body, "status", "conditions");
    return (
      Array.isArray(conditions) && conditions.some((one) => at(one, "type") === "Ready" && at(one, "status") === "True")
    );
  };
  const hasDefaultAccount = async (): Promise<boolean> =>
    (await callApi(api, "GET", "/api/v1/namespaces/default/serviceaccounts/default")).status === 200;
  await untilReady(kwok, isNodeReady, { timeoutMs: readyTimeoutMs, signal });
  await untilReady(manager, hasDefaultAccount, { timeoutMs: readyTimeoutMs, signal });
}
