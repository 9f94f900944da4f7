import { execFile } from "node:child_process";
import { access, constants, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { withFileLock } from "./file-lock.ts";
import { cacheDir, ToolError, type ToolOptions } from "./tools.ts";

const aptTimeoutMs = 180_000;

/** Prometheus, see {@link programPath}. */
export function prometheusPath(options: ToolOptions = {}): Promise<string> {
  return programPath("prometheus", options);
}

/** What finds mistakes in shell scripts, see {@link programPath}. */
export function shellcheckPath(options: ToolOptions = {}): Promise<string> {
  return programPath("shellcheck", options);
}

/**
 * The path of a program: from `KUBEBUILDER_ASSETS`, the cache or the PATH, else out of Debian's package of that name, which
 * is unpacked into the cache and not installed, so that no service starts and no rights are needed.
 *
 * @throws {ToolError} `PackageMissing`, when there is none and apt cannot fetch it
 * @throws the signal's reason, when aborted
 */
async function programPath(name: "prometheus" | "shellcheck", options: ToolOptions): Promise<string> {
  const env = options.env ?? process.env;
  const folders = `${env["KUBEBUILDER_ASSETS"] ?? ""}${delimiter}${env["PATH"] ?? ""}`;
  for (const folder of folders.split(delimiter))
    if (folder !== "" && (await isProgram(join(folder, name)))) return join(folder, name);
  const dir = join(cacheDir(env), "debian");
  const target = join(dir, name, "usr", "bin", name);
  if (await isProgram(target)) return target;
  await withFileLock(join(dir, `${name}.lock`), { signal: options.signal }, async () => {
    if (!(await isProgram(target))) await unpack(name, dir, options);
  });
  return target;
}

/** Downloads a package and unpacks it as `<dir>/<name>`. */
async function unpack(name: string, dir: string, { onProgress, signal }: ToolOptions): Promise<void> {
  onProgress?.(`downloading Debian's package "${name}" …`);
  await mkdir(dir, { recursive: true });
  const work = await mkdtemp(join(dir, `${name}-`));
  try {
    const run = (command: string, args: readonly string[]) => runIn(work, command, args, signal);
    // The machine's package lists may be missing or older than the mirror, and updating them would need root.
    await run("apt-get", ["download", name]).catch(async (error: unknown) => {
      signal?.throwIfAborted();
      if (isAbsent(error)) throw error;
      onProgress?.("reading Debian's package lists …");
      const own = ["lists/partial", "cache/archives/partial"].map((folder) => join(work, folder));
      for (const folder of own) await mkdir(folder, { recursive: true });
      const ownState = [
        ...["-o", `Dir::State::Lists=${join(work, "lists")}`],
        ...["-o", `Dir::Cache=${join(work, "cache")}`],
        ...["-o", "APT::Sandbox::User="],
      ];
      await run("apt-get", [...ownState, "update"]);
      await run("apt-get", [...ownState, "download", name]);
    });
    const file = (await readdir(work)).find((each) => each.endsWith(".deb")) ?? "";
    await run("dpkg-deb", ["--extract", file, "unpacked"]);
    await rm(join(dir, name), { recursive: true, force: true });
    await rename(join(work, "unpacked"), join(dir, name));
  } catch (cause) {
    signal?.throwIfAborted();
    const why = cause instanceof Error ? cause.message.trim().split("\n").slice(-3).join("; ") : String(cause);
    const message = `Cannot get "${name}" from Debian's packages: ${why}; put it on the PATH or into KUBEBUILDER_ASSETS`;
    throw new ToolError("PackageMissing", message, { cause });
  } finally {
    await rm(work, { recursive: true, force: true, maxRetries: 5 });
  }
  onProgress?.(`unpacked "${name}"`);
}

/** The program itself is not there. */
function isAbsent(error: unknown): boolean {
  return (
    error instanceof Error && error.cause instanceof Error && "code" in error.cause && error.cause.code === "ENOENT"
  );
}

function runIn(
  cwd: string,
  command: string,
  args: readonly string[],
  signal: AbortSignal | undefined,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const options = { cwd, timeout: aptTimeoutMs, ...(signal === undefined ? {} : { signal }) };
    execFile(command, [...args], options, (error, _stdout, stderr) => {
      if (error === null) resolve(undefined);
      else reject(new Error(stderr === "" ? error.message : stderr, { cause: error }));
    });
  });
}

function isProgram(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
