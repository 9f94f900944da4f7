import { execFile } from "node:child_process";
import { access, chmod, constants, mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
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

const chromiumPackage = "chromium-headless-shell";

/**
 * A Chromium without windows: one on the PATH, else out of Debian's packages with the libraries and a font this machine
 * lacks, unpacked into the cache and not installed.
 *
 * @throws {ToolError} `PackageMissing`, when there is none and apt cannot fetch it
 * @throws the signal's reason, when aborted
 */
export async function chromiumPath(options: ToolOptions = {}): Promise<string> {
  const env = options.env ?? process.env;
  for (const folder of (env["PATH"] ?? "").split(delimiter))
    for (const name of [chromiumPackage, "google-chrome", "chromium"])
      if (folder !== "" && (await isProgram(join(folder, name)))) return join(folder, name);
  const dir = join(cacheDir(env), "debian");
  const target = join(dir, chromiumPackage, "run");
  if (await isProgram(target)) return target;
  await withFileLock(join(dir, `${chromiumPackage}.lock`), { signal: options.signal }, async () => {
    if (!(await isProgram(target))) await unpack({ name: chromiumPackage, dir, prepare: prepareChromium }, options);
  });
  return target;
}

/** Libraries and fonts are found where they were unpacked, next to the machine's own. */
async function prepareChromium(unpacked: string): Promise<void> {
  const fonts = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir prefix="relative">usr/share/fonts</dir><dir>/usr/share/fonts</dir><cachedir prefix="xdg">fontconfig</cachedir></fontconfig>
`;
  await writeFile(join(unpacked, "fonts.conf"), fonts);
  const run = `#!/bin/sh
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
libraries=$(find "$here/usr/lib" -name '*.so*' -printf '%h:\\n' | sort -u | tr -d '\\n')
LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:-}" FONTCONFIG_FILE="$here/fonts.conf" exec "$here/usr/lib/chromium/${chromiumPackage}" "$@"
`;
  await writeFile(join(unpacked, "run"), run);
  await chmod(join(unpacked, "run"), 0o755);
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
    if (!(await isProgram(target))) await unpack({ name, dir }, options);
  });
  return target;
}

interface Wanted {
  readonly name: string;
  readonly dir: string;
  /** Given, what the package depends on and the machine lacks is unpacked along, and then this is called with the folder. */
  readonly prepare?: (unpacked: string) => Promise<void>;
}

/** Downloads a package and unpacks it as `<dir>/<name>`. */
async function unpack({ name, dir, prepare }: Wanted, { onProgress, signal }: ToolOptions): Promise<void> {
  onProgress?.(`downloading Debian's package "${name}" …`);
  await mkdir(dir, { recursive: true });
  const work = await mkdtemp(join(dir, `${name}-`));
  try {
    const run = (command: string, args: readonly string[]) => runIn(work, command, args, signal);
    const download = async (state: readonly string[]): Promise<void> => {
      const names = prepare === undefined ? [name] : await missingPackages(run, { state, name });
      await run("apt-get", [...state, "download", ...names]);
    };
    // The machine's package lists may be missing or older than the mirror, and updating them would need root.
    await download([]).catch(async (error: unknown) => {
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
      await download(ownState);
    });
    for (const file of await readdir(work))
      if (file.endsWith(".deb")) await run("dpkg-deb", ["--extract", file, "unpacked"]);
    await prepare?.(join(work, "unpacked"));
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

/** The package, a font, and what of their dependencies is not installed, as apt would install them. */
async function missingPackages(
  run: (command: string, args: readonly string[]) => Promise<string>,
  { state, name }: { readonly state: readonly string[]; readonly name: string },
): Promise<readonly string[]> {
  const wanted = ["-s", "install", "--no-install-recommends", name, "fonts-dejavu-core"];
  const plan = await run("apt-get", [...state, ...wanted]);
  return [name, ...[...plan.matchAll(/^Inst (\S+)/gm)].flatMap(([, each]) => each ?? [])];
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
): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      cwd,
      timeout: aptTimeoutMs,
      maxBuffer: 64 * 1024 * 1024,
      ...(signal === undefined ? {} : { signal }),
    };
    execFile(command, [...args], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
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
