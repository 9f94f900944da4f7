import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { access, constants, mkdir, readdir, readFile, readlink, rename, rm, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { systemClock } from "../lib/clock.ts";
import { asText, at } from "../lib/json.ts";
import { createSemaphore } from "../lib/semaphore.ts";
import { withFileLock } from "./file-lock.ts";

/** Why a tool could not be had. Nothing here heals by itself: no `retry`. */
export class ToolError extends Error {
  override name = "ToolError";
  readonly retry = "never";
  readonly reason: "GoMissing" | "BuildFailed" | "ModuleMissing" | "PackageMissing";
  constructor(reason: ToolError["reason"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** One program or WebAssembly module built from a pinned Go module under `tools/`. */
interface Tool {
  /** The folder under `tools/`. */
  readonly module: string;
  readonly package: string;
  readonly wasm?: "command" | "reactor";
  readonly ldflags?: string;
}

const kubernetesVersion = "1.36.3";
const kubernetesStamp = [
  `-X k8s.io/component-base/version.gitVersion=v${kubernetesVersion}`,
  "-X k8s.io/component-base/version.gitMajor=1",
  "-X k8s.io/component-base/version.gitMinor=36",
].join(" ");
const kubernetes = (name: string): Tool => ({
  module: "kubernetes",
  package: `k8s.io/kubernetes/cmd/${name}`,
  ldflags: kubernetesStamp, // Without a version stamp clients refuse the server.
});

// Without a stamp it takes clusters it is not connected to for 1.20.
const helmStamp = [
  "-X helm.sh/helm/v3/internal/version.version=v3.21.1",
  "-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
  "-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=36",
].join(" ");

const tools = {
  etcd: { module: "etcd", package: "go.etcd.io/etcd/server/v3" },
  "kube-apiserver": kubernetes("kube-apiserver"),
  "kustomize.wasm": { module: "kustomize", package: "sigs.k8s.io/kustomize/kustomize/v5", wasm: "command" },
  "cel.wasm": { module: "cel", package: ".", wasm: "reactor" },
  kwok: { module: "kwok", package: "sigs.k8s.io/kwok/cmd/kwok" },
  "kube-controller-manager": kubernetes("kube-controller-manager"),
  "kube-scheduler": kubernetes("kube-scheduler"),
  kubectl: kubernetes("kubectl"),
  kustomize: { module: "kustomize", package: "sigs.k8s.io/kustomize/kustomize/v5" },
  registry: { module: "registry", package: "github.com/google/go-containerregistry/cmd/registry" },
  "source-controller": { module: "source-controller", package: "github.com/fluxcd/source-controller" },
  flagger: { module: "flagger", package: "github.com/fluxcd/flagger/cmd/flagger" },
  "rollouts-controller": {
    module: "rollouts-controller",
    package: "github.com/argoproj/argo-rollouts/cmd/rollouts-controller",
  },
  helm: { module: "helm", package: "helm.sh/helm/v3/cmd/helm", ldflags: helmStamp },
  actionlint: { module: "actionlint", package: "github.com/rhysd/actionlint/cmd/actionlint" },
  "grafana-schema": { module: "grafana-schema", package: "." },
  sops: { module: "sops", package: "github.com/getsops/sops/v3/cmd/sops" },
  cosign: { module: "cosign", package: "github.com/sigstore/cosign/v3/cmd/cosign" },
} as const satisfies Readonly<Record<string, Tool>>;

export type ToolName = keyof typeof tools;
/** Whose pinned modules are meant: a tool's, or those that are read only for the definitions they carry. */
export type ModuleOwner = ToolName | "crds";
/** Every tool, in the order in which a cold machine should build them. */
export const toolNames = Object.keys(tools) as readonly ToolName[]; // The keys of a literal.
/** What tests of the chart, the manifests, the dashboard and the workflows run. */
export const chartTools: readonly ToolName[] = ["helm", "kubectl", "actionlint", "grafana-schema"];
/** Writes encrypted files, as users do. */
export const sopsTools: readonly ToolName[] = ["sops"];
/** Signs images, as users do. */
export const signingTools: readonly ToolName[] = ["cosign", "registry"];
/** The delivery controllers that hold promotions on a stage. */
export const deliveryTools: readonly ToolName[] = ["flagger", "rollouts-controller"];
/** What `startControlPlane` needs without, and with, a simulated node. */
export const controlPlaneTools: readonly ToolName[] = ["etcd", "kube-apiserver"];
export const kwokTools: readonly ToolName[] = [
  ...controlPlaneTools,
  "kwok",
  "kube-controller-manager",
  "kube-scheduler",
];

export interface ToolOptions {
  /** Called with one line of text when a build starts, every ten seconds while it runs, and when it is done. */
  readonly onProgress?: ((line: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Default: the process's own. Read: KUBEBUILDER_ASSETS, STAGESET_CACHE, XDG_CACHE_HOME, PATH. */
  readonly env?: NodeJS.ProcessEnv | undefined;
}

const moduleRoot = fileURLToPath(new URL("../../tools/", import.meta.url));

/** The folder that keeps what was built; `STAGESET_CACHE`, else the user's cache folder. */
export function cacheDir(env: NodeJS.ProcessEnv = process.env): string {
  const own = env["STAGESET_CACHE"];
  if (own !== undefined && own !== "") return own;
  const xdg = env["XDG_CACHE_HOME"];
  return join(xdg !== undefined && xdg !== "" ? xdg : join(homedir(), ".cache"), "stageset-controller");
}

/**
 * The path of a program, building it when it is neither in `KUBEBUILDER_ASSETS` nor in the cache. A cold build takes
 * between seconds and four minutes; two processes that ask at once build it once.
 *
 * @throws {ToolError} `GoMissing`, `BuildFailed` (with the compiler's last lines), `ModuleMissing`
 * @throws the signal's reason, when aborted
 */
export async function toolPath(name: ToolName, options: ToolOptions = {}): Promise<string> {
  const env = options.env ?? process.env;
  for (const folder of (env["KUBEBUILDER_ASSETS"] ?? "").split(delimiter)) {
    if (folder !== "" && (await isPresent(join(folder, name)))) return join(folder, name);
  }
  const target = join(await moduleDir(tools[name], env), name);
  if (await isPresent(target)) return target;
  await withFileLock(`${target}.lock`, { signal: options.signal }, async () => {
    if (!(await isPresent(target))) await build(name, target, { ...options, env });
  });
  return target;
}

/** The kustomize command as a WebAssembly module (wasip1). */
export function kustomizeWasm(options: ToolOptions = {}): Promise<string> {
  return toolPath("kustomize.wasm", options);
}

/** The CEL evaluator as a WebAssembly module (wasip1 reactor). */
export function celWasm(options: ToolOptions = {}): Promise<string> {
  return toolPath("cel.wasm", options);
}

/**
 * Paths of several tools. Modules are built two at a time, the programs of one module one after the other: they share
 * most of their packages, which side by side would be compiled twice.
 */
export async function toolPaths(
  names: readonly ToolName[],
  options: ToolOptions = {},
): Promise<ReadonlyMap<ToolName, string>> {
  const paths = new Map<ToolName, string>();
  const lanes = createSemaphore(2);
  const modules = Map.groupBy(names, (name) => tools[name].module);
  await Promise.all(
    [...modules.values()].map(async (members) => {
      const lane = await lanes.acquire(options.signal);
      try {
        for (const name of members) paths.set(name, await toolPath(name, options));
      } finally {
        lane[Symbol.dispose]();
      }
    }),
  );
  return paths;
}

/** A folder with a link to each of the given tools under its plain name, the same folder each time. */
export async function toolFolder(names: readonly ToolName[], options: ToolOptions = {}): Promise<string> {
  const env = options.env ?? process.env;
  const folder = join(
    cacheDir(env),
    "bin",
    digestOf([await moduleDir(tools["kube-apiserver"], env), env["KUBEBUILDER_ASSETS"] ?? ""]),
  );
  await mkdir(folder, { recursive: true });
  for (const [name, path] of await toolPaths(names, options)) {
    const link = join(folder, name);
    if ((await readlink(link).catch(() => undefined)) === path) continue;
    const fresh = `${link}.${process.pid}`;
    await rm(fresh, { force: true });
    await symlink(path, fresh);
    await rename(fresh, link);
  }
  return folder;
}

/** The tools that are there already, so that listing them builds nothing. */
export async function builtTools(env: NodeJS.ProcessEnv = process.env): Promise<readonly ToolName[]> {
  const found: ToolName[] = [];
  const assets = (env["KUBEBUILDER_ASSETS"] ?? "").split(delimiter).filter((folder) => folder !== "");
  for (const name of toolNames) {
    if (!(await isPresent(join(moduleRoot, tools[name].module, "go.mod")))) continue;
    const folders = [...assets, await moduleDir(tools[name], env)];
    const hits = await Promise.all(folders.map((folder) => isPresent(join(folder, name))));
    if (hits.includes(true)) found.push(name);
  }
  return found;
}

/**
 * A folder inside a pinned Go module, such as the one with its CustomResourceDefinitions, in Go's module cache.
 *
 * @throws {ToolError} `BuildFailed`, when the module cannot be downloaded
 */
export async function moduleFolder(
  owner: ModuleOwner,
  goModule: string,
  folder: string,
  { env = process.env, signal }: ToolOptions = {},
): Promise<string> {
  const cwd = join(moduleRoot, owner === "crds" ? owner : tools[owner].module);
  const args = ["mod", "download", "-json", goModule];
  const { code, stdout, stderr } = await runGo(args, { cwd, env: { ...env, GOWORK: "off" }, signal });
  const dir = code === 0 ? asText(at(JSON.parse(stdout), "Dir")) : undefined;
  if (dir === undefined) {
    throw new ToolError(
      "BuildFailed",
      `Cannot download the Go module "${goModule}": ${stderr.trim() || stdout.trim()}`,
    );
  }
  return join(dir, folder);
}

/** The cache folder of a module: its name and a key of everything that decides the outcome of a build. */
async function moduleDir(tool: Tool, env: NodeJS.ProcessEnv): Promise<string> {
  const source = join(moduleRoot, tool.module);
  const files = (await readdir(source).catch(() => [])).filter((file) => /\.(go|mod|sum)$/.test(file)).sort();
  if (!files.includes("go.mod")) {
    throw new ToolError("ModuleMissing", `Cannot build "${tool.package}": "tools/${tool.module}/go.mod" is missing`);
  }
  const parts = [await goVersion(source, env), tool.ldflags ?? ""];
  for (const file of files) parts.push(file, await readFile(join(source, file), "utf8"));
  return join(cacheDir(env), "tools", `${tool.module}-${digestOf(parts)}`);
}

function digestOf(parts: readonly string[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(`${part.length}\n${part}`);
  return hash.digest("hex").slice(0, 16);
}

async function goVersion(cwd: string, env: NodeJS.ProcessEnv): Promise<string> {
  const { code, stdout, stderr } = await runGo(["env", "GOVERSION", "GOOS", "GOARCH"], { cwd, env });
  if (code !== 0) throw new ToolError("BuildFailed", `Cannot ask Go for its version: ${stderr.trim()}`);
  return stdout;
}

async function build(name: ToolName, target: string, options: ToolOptions & { env: NodeJS.ProcessEnv }): Promise<void> {
  const tool: Tool = tools[name];
  const report = options.onProgress ?? (() => undefined);
  const started = systemClock.monotonic();
  const elapsed = (): string => renderElapsed(systemClock.monotonic() - started);
  report(`building ${name} …`);
  const ticker = setInterval(() => report(`building ${name} … ${elapsed()}`), 10_000);
  const fresh = `${target}.${process.pid}.new`;
  try {
    const { code, stderr } = await runGo(
      [
        "build",
        "-trimpath",
        "-buildvcs=false",
        ...(tool.wasm === "reactor" ? ["-buildmode=c-shared"] : []),
        `-ldflags=-s -w ${tool.ldflags ?? ""}`.trimEnd(),
        `-o=${fresh}`,
        tool.package,
      ],
      {
        cwd: join(moduleRoot, tool.module),
        env: {
          ...options.env,
          CGO_ENABLED: "0",
          GOWORK: "off",
          ...(tool.wasm === undefined ? {} : { GOOS: "wasip1", GOARCH: "wasm" }),
        },
        signal: options.signal,
      },
    );
    options.signal?.throwIfAborted();
    if (code !== 0) {
      throw new ToolError("BuildFailed", `Cannot build "${name}": ${stderr.trim().split("\n").slice(-15).join("\n")}`);
    }
    await rename(fresh, target);
  } finally {
    clearInterval(ticker);
    await rm(fresh, { force: true });
  }
  report(`built ${name} in ${elapsed()}`);
}

interface GoRun {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal | undefined;
}

function runGo(
  args: readonly string[],
  { cwd, env, signal }: GoRun,
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const child = spawn("go", args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    // An interrupt, because Go passes it on to the compilers it runs and a termination it does not.
    const stop = (): void => void child.kill("SIGINT");
    signal?.addEventListener("abort", stop, { once: true });
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-64_000)));
    child.once("error", (cause: NodeJS.ErrnoException) => {
      signal?.removeEventListener("abort", stop);
      reject(cause.code === "ENOENT" ? goMissing(cause) : cause);
    });
    child.once("close", (code) => {
      signal?.removeEventListener("abort", stop);
      resolve({ code: code ?? 1, stdout, stderr });
    });
  });
}

function goMissing(cause: Error): ToolError {
  const message =
    'Cannot build the tools: "go" is not on the PATH; install Go 1.26 or later, or point KUBEBUILDER_ASSETS at built tools';
  return new ToolError("GoMissing", message, { cause });
}

/** `80000` → `1m20s`. */
function renderElapsed(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}

function isPresent(path: string): Promise<boolean> {
  return access(path, constants.R_OK).then(
    () => true,
    () => false,
  );
}
