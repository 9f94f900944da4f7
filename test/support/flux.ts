import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { freePort } from "../../src/dev/free-port.ts";
import { createProcessGroup } from "../../src/dev/process-group.ts";
import { toolPath } from "../../src/dev/tools.ts";
import { tarGz } from "./artifacts.ts";
import type { TestCluster } from "./cluster.ts";
import { eventually } from "./eventually.ts";

const exec = promisify(execFile);

/** Flux' own source-controller, with its storage on loopback, watching every namespace of the control plane. */
export async function startSourceController(cluster: TestCluster): Promise<AsyncDisposable> {
  const path = await toolPath("source-controller");
  const dir = await mkdtemp(join(tmpdir(), "stageset-source-controller-"));
  const group = createProcessGroup({ temporaryDir: dir });
  const [storage, metrics, health] = [await freePort(), await freePort(), await freePort()];
  await mkdir(join(dir, "storage"));
  const process = await group.start({
    name: "source-controller",
    path,
    args: [
      `--storage-path=${join(dir, "storage")}`,
      `--storage-addr=127.0.0.1:${storage}`,
      `--storage-adv-addr=127.0.0.1:${storage}`,
      `--metrics-addr=127.0.0.1:${metrics}`,
      `--health-addr=127.0.0.1:${health}`,
      "--watch-all-namespaces=true",
      "--enable-leader-election=false",
      "--log-level=info",
    ],
    env: { ...globalThis.process.env, RUNTIME_NAMESPACE: "default", KUBECONFIG: cluster.kubeconfigPath },
    logFile: join(dir, "source-controller.log"),
  });
  await eventually(async () => (await fetch(`http://127.0.0.1:${health}/readyz`)).status === 200, {
    timeoutMs: 60_000,
  });
  return {
    async [Symbol.asyncDispose]() {
      await process.end("SIGTERM", 5_000);
      await group.close();
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** A Git repository served over smart HTTP on loopback. */
export interface GitServer extends AsyncDisposable {
  readonly url: string;
  /** Replaces the tree by these files and pushes; gives the commit. */
  commit(files: Readonly<Record<string, string>>, message: string): Promise<string>;
}

export async function startGitServer(): Promise<GitServer> {
  const dir = await mkdtemp(join(tmpdir(), "stageset-git-"));
  const bare = join(dir, "release.git");
  const work = join(dir, "work");
  const identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"];
  const git = (cwd: string, ...args: readonly string[]) => exec("git", [...identity, ...args], { cwd });
  await git(dir, "init", "--quiet", "--bare", "--initial-branch=main", bare);
  await git(dir, "init", "--quiet", "--initial-branch=main", work);
  await git(work, "remote", "add", "origin", bare);
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://git");
    const backend = spawn("git", ["http-backend"], {
      env: {
        PATH: process.env["PATH"],
        GIT_PROJECT_ROOT: dir,
        GIT_HTTP_EXPORT_ALL: "1",
        PATH_INFO: url.pathname,
        QUERY_STRING: url.search.slice(1),
        REQUEST_METHOD: request.method,
        CONTENT_TYPE: request.headers["content-type"] ?? "",
        HTTP_CONTENT_ENCODING: request.headers["content-encoding"] ?? "",
        GIT_PROTOCOL: String(request.headers["git-protocol"] ?? ""),
        // Anybody may push.
        GIT_CONFIG_COUNT: "1",
        GIT_CONFIG_KEY_0: "http.receivepack",
        GIT_CONFIG_VALUE_0: "true",
      },
    });
    request.pipe(backend.stdin);
    const chunks: Buffer[] = [];
    backend.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    backend.once("close", () => {
      const output = Buffer.concat(chunks);
      const end = output.indexOf("\r\n\r\n");
      const headers = output
        .subarray(0, end)
        .toString()
        .split("\r\n")
        .map((line) => line.split(": "));
      const status = headers.find(([name]) => name === "Status")?.[1];
      response.writeHead(
        Number(status?.split(" ")[0] ?? "200"),
        Object.fromEntries(
          headers.filter(([name]) => name !== "Status").map(([name = "", value = ""]) => [name, value]),
        ),
      );
      response.end(output.subarray(end + 4));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? (address?.port ?? 0) : 0;
  return {
    url: `http://127.0.0.1:${port}/release.git`,
    async commit(files, message) {
      const tree = await mkdtemp(join(dir, "tree-"));
      for (const [name, text] of Object.entries(files)) {
        await mkdir(dirname(join(tree, name)), { recursive: true });
        await writeFile(join(tree, name), text);
      }
      await git(work, "rm", "-r", "--quiet", "--ignore-unmatch", ".");
      await cp(tree, work, { recursive: true });
      await git(work, "add", "--all");
      await git(work, "commit", "--quiet", "--allow-empty", "-m", message);
      await git(work, "push", "--quiet", "origin", "HEAD:main");
      return (await git(work, "rev-parse", "HEAD")).stdout.trim();
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** An OCI registry on loopback. */
export interface Registry extends AsyncDisposable {
  /** `127.0.0.1:<port>`. */
  readonly host: string;
  /** Pushes files as a Flux artifact; gives the manifest's digest. */
  push(repository: string, tag: string, files: Readonly<Record<string, string>>): Promise<string>;
}

export async function startRegistry(): Promise<Registry> {
  const path = await toolPath("registry");
  const dir = await mkdtemp(join(tmpdir(), "stageset-registry-"));
  const group = createProcessGroup({ temporaryDir: dir });
  const port = await freePort();
  const process = await group.start({
    name: "registry",
    path,
    args: [`-port=${port}`],

    logFile: join(dir, "registry.log"),
  });
  const host = `127.0.0.1:${port}`;
  await eventually(async () => (await fetch(`http://${host}/v2/`)).status === 200, { timeoutMs: 20_000 });
  const upload = async (repository: string, bytes: Buffer): Promise<string> => {
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    const begun = await fetch(`http://${host}/v2/${repository}/blobs/uploads/`, { method: "POST" });
    const location = new URL(begun.headers.get("location") ?? "", `http://${host}`);
    location.searchParams.set("digest", digest);
    const done = await fetch(location, { method: "PUT", body: new Uint8Array(bytes) });
    if (done.status !== 201) throw new Error(`the registry refused a blob: ${done.status}`);
    return digest;
  };
  return {
    host,
    async push(repository, tag, files) {
      const layer = await tarGz(files);
      const config = Buffer.from("{}");
      const manifest = JSON.stringify({
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        config: {
          mediaType: "application/vnd.cncf.flux.config.v1+json",
          digest: await upload(repository, config),
          size: config.byteLength,
        },
        layers: [
          {
            mediaType: "application/vnd.cncf.flux.content.v1.tar+gzip",
            digest: await upload(repository, layer),
            size: layer.byteLength,
          },
        ],
        annotations: { "org.opencontainers.image.revision": tag },
      });
      const put = await fetch(`http://${host}/v2/${repository}/manifests/${tag}`, {
        method: "PUT",
        body: manifest,
        headers: { "content-type": "application/vnd.oci.image.manifest.v1+json" },
      });
      if (put.status !== 201) throw new Error(`the registry refused a manifest: ${put.status}`);
      return `sha256:${createHash("sha256").update(manifest).digest("hex")}`;
    },
    async [Symbol.asyncDispose]() {
      await process.end("SIGTERM", 5_000);
      await group.close();
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
