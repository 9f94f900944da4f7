import { spawn } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { eventually } from "./eventually.ts";
import { forward } from "./forward.ts";
import { runProgram } from "./chart.ts";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** What the Dockerfile says of how the image runs. */
export interface ImageConfig {
  readonly entrypoint: string;
  readonly user: string;
  readonly env: Readonly<Record<string, string>>;
}

export async function readDockerfile(): Promise<ImageConfig> {
  const text = await readFile(join(repository, "Dockerfile"), "utf8");
  const one = (pattern: RegExp): string => pattern.exec(text)?.[1] ?? "";
  return {
    entrypoint: one(/^ENTRYPOINT \["([^"]+)"\]$/m),
    user: one(/^USER (\S+)$/m),
    env: Object.fromEntries(
      [...text.matchAll(/^ENV (.*)$/gm)].flatMap(([, line = ""]) =>
        [...line.matchAll(/(\w+)=(?:"([^"]*)"|(\S+))/g)].map(([, name = "", quoted, plain]) => [
          name,
          quoted ?? plain ?? "",
        ]),
      ),
    ),
  };
}

/** Builds the release and lays out the image's root, with the steps of the Dockerfile; returns its folder below `dir`. */
export async function layOutImage(dir: string): Promise<string> {
  const [dist, stage, root] = [join(dir, "dist"), join(dir, "src"), join(dir, "root")];
  await run(["scripts/build.ts", "--out", dist], repository);
  // The stage `root` has what is copied into it, and nothing else.
  const text = await readFile(join(repository, "Dockerfile"), "utf8");
  for (const [, from = "", to = ""] of text.matchAll(/^COPY --from=build \/src\/(\S+) (\S+)$/gm)) {
    const source = from === "dist" ? dist : join(repository, from);
    await cp(source, join(stage, to.endsWith("/") ? join(to, basename(from)) : to), { recursive: true });
  }
  const [, command = ""] = /^RUN node (scripts\/image-root\.ts .*)$/m.exec(text) ?? [];
  await run(command.replace(/ \/image$/, ` ${root}`).split(" "), stage);
  return root;
}

async function run(args: readonly string[], cwd: string): Promise<void> {
  const { code, stderr } = await runProgram(process.execPath, args, {}, cwd);
  if (code !== 0) throw new Error(`${args.join(" ")}: ${stderr}`);
}

export interface ContainerOptions {
  readonly root: string;
  readonly args: readonly string[];
  readonly namespace: string;
  readonly token: string;
  readonly caPem: string;
  /** `https://127.0.0.1:<port>`. */
  readonly server: string;
  readonly artifactPort: number;
}

/** The controller in its image, in a network where only the API server and the artifacts of the test can be reached. */
export interface Container extends AsyncDisposable {
  readonly artifactUrl: string;
  get(
    listener: "gate" | "health" | "metrics",
    path: string,
  ): Promise<{ readonly status: number; readonly body: string }>;
  log(): Promise<string>;
  /** `EROFS` for a root that cannot be written to. */
  readOnly(): Promise<string>;
  /** Lines of /proc/<pid>/status. */
  processStatus(): Promise<string>;
  /** SIGTERM, and its exit code. */
  stop(): Promise<number | null>;
}

/** Needs root and Linux: namespaces, mounts, chroot. */
export async function runContainer(options: ContainerOptions): Promise<Container> {
  const dir = await mkdtemp(join(tmpdir(), "stageset-container-"));
  await chmod(dir, 0o755);
  await mkdir(join(dir, "secrets"));
  for (const [name, text] of [
    ["token", options.token],
    ["ca.crt", options.caPem],
    ["namespace", options.namespace],
  ] as const)
    await writeFile(join(dir, "secrets", name), text);
  const apiPort = new URL(options.server).port;
  const stops = [
    await forward(`unix:${dir}/api.sock`, `tcp:127.0.0.1:${apiPort}`),
    await forward(`unix:${dir}/artifacts.sock`, `tcp:127.0.0.1:${options.artifactPort}`),
  ];
  const { entrypoint, env } = await readDockerfile();
  const child = spawn(
    "unshare",
    [
      ...["--net", "--mount", "sh", here("./image.sh"), options.root, dir, apiPort],
      ...[process.execPath, here("./forward.ts"), entrypoint, ...options.args],
    ],
    { stdio: ["ignore", "ignore", "pipe"], env: { ...env, PATH: process.env["PATH"] } },
  );
  let problems = "";
  child.stderr.on("data", (chunk: Buffer) => (problems += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const read = (name: string): Promise<string> => readFile(join(dir, name), "utf8").catch(() => "");
  const log = async (): Promise<string> => `${problems}${await read("log")}${await read("forward.log")}`;
  const stop = async (): Promise<number | null> => {
    child.kill("SIGTERM");
    return ended;
  };
  const container: Container = {
    artifactUrl: "http://10.99.0.1:8000",
    get: (listener, path) => getFrom(join(dir, `${listener}.sock`), path),
    log,
    readOnly: async () => (await read("read-only")).trim(),
    processStatus: async () => readFile(`/proc/${(await read("pid")).trim()}/status`, "utf8"),
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
      for (const each of stops) each();
      await rm(dir, { recursive: true, force: true });
    },
  };
  await eventually(
    async () => {
      if (child.exitCode !== null) return true;
      const answer = await container.get("health", "/readyz?verbose");
      if (answer.status !== 200) throw new Error(`${answer.body}\n${await log()}`);
      return true;
    },
    { timeoutMs: 60_000 },
  );
  if (child.exitCode !== null) throw new Error(`the container ended:\n${await log()}`);
  return container;
}

function getFrom(socketPath: string, path: string): Promise<{ readonly status: number; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, path, headers: { host: "controller" } }, (incoming) => {
      let body = "";
      incoming.on("data", (chunk: Buffer) => (body += chunk.toString()));
      incoming.once("end", () => resolve({ status: incoming.statusCode ?? 0, body }));
    });
    outgoing.once("error", reject);
    outgoing.end();
  });
}
