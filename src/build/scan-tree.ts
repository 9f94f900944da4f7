import { lstatSync, type Stats } from "node:fs";
import { lstat, readdir, realpath, stat } from "node:fs/promises";
import { join, posix, relative, sep } from "node:path";
import { BuildError } from "./build-error.ts";

/** A file of an artifact tree. */
export interface TreeFile {
  /** Below the artifact root, with `/`. */
  readonly path: string;
  readonly bytes: number;
}

export interface ScannedTree {
  /** The directory that is built, below the artifact root; empty for the root. */
  readonly directory: string;
  /** Manifest files, in the byte order of their names, directory by directory; none from below a kustomization. */
  readonly files: readonly TreeFile[];
  /** Directories with a kustomization file, topmost ones only; the empty path is the root. */
  readonly kustomizations: readonly string[];
  /** Both of them, in order. */
  readonly entries: readonly string[];
  readonly totalBytes: number;
  /** Files were left out after `stopAfterBytes` of them; kustomizations are all there. */
  readonly stopped: boolean;
}

/** So many files are looked at without leaving the thread. */
const fewFiles = 64;
const kustomizationNames: readonly string[] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

export function isKustomizationName(name: string): boolean {
  return kustomizationNames.includes(name);
}

/**
 * Finds what is to be built in a directory of an artifact (spec 20 §5.1). Names that start with a dot are passed over
 * below `path`, not in it.
 *
 * @throws {BuildError} `NotFound`; `Empty`, when there is nothing to build; `Invalid`, when a link leads out of the root
 */
export async function scanTree(
  root: string,
  path: string,
  { stopAfterBytes = Infinity }: { readonly stopAfterBytes?: number } = {},
): Promise<ScannedTree> {
  const directory = normalisePath(path);
  const described = directory === "" ? "the artifact" : `"${directory}"`;
  const top = await confined(root, directory);
  if (top === undefined || !(await stat(top)).isDirectory())
    throw new BuildError("NotFound", `Cannot find directory "${path}" in the artifact`);
  const scan = new Scan(root, stopAfterBytes);
  await scan.enter(directory);
  const { files, kustomizations, entries, totalBytes } = scan;
  if (files.length === 0 && kustomizations.length === 0)
    throw new BuildError(
      "Empty",
      `Cannot build ${described}: it contains no manifests; the path is wrong or the source published something else`,
    );
  return { directory, files, kustomizations, entries, totalBytes, stopped: totalBytes > stopAfterBytes };
}

/** `./a//b/` → `a/b`; the root is the empty path. Throws `Invalid` when it leads out. */
function normalisePath(path: string): string {
  const normal = posix.normalize(`./${path}`).replace(/\/+$/, "");
  if (normal === ".." || normal.startsWith("../"))
    throw new BuildError("Invalid", `Cannot build "${path}": it leads out of the artifact`);
  return normal === "." ? "" : normal;
}

/**
 * Where a path below the root really is, links followed; undefined when there is nothing.
 *
 * @throws {BuildError} `Invalid`, when that is outside the root
 */
export async function confined(root: string, path: string): Promise<string | undefined> {
  const real = await realpath(join(root, path)).catch(() => undefined);
  if (real === undefined) return undefined;
  const inside = relative(await realpath(root), real);
  if (inside === ".." || inside.startsWith(`..${sep}`))
    throw new BuildError("Invalid", `Cannot read "${path}": it leads out of the artifact`);
  return real;
}

class Scan {
  readonly files: TreeFile[] = [];
  readonly kustomizations: string[] = [];
  readonly entries: string[] = [];
  totalBytes = 0;
  #statted = 0;
  readonly #root: string;
  readonly #stopAfterBytes: number;

  constructor(root: string, stopAfterBytes: number) {
    this.#root = root;
    this.#stopAfterBytes = stopAfterBytes;
  }

  async enter(directory: string): Promise<void> {
    const entries = await readdir(join(this.#root, directory), { withFileTypes: true });
    if (entries.some((entry) => isKustomizationName(entry.name) && !entry.isDirectory())) {
      this.kustomizations.push(directory);
      this.entries.push(directory);
      return;
    }
    entries.sort((one, other) => Buffer.compare(Buffer.from(one.name), Buffer.from(other.name)));
    for (const entry of entries) {
      if (entry.name.startsWith(".")) continue;
      const path = directory === "" ? entry.name : `${directory}/${entry.name}`;
      if (entry.isDirectory()) await this.enter(path);
      else if (/\.(?:ya?ml|json)$/i.test(entry.name)) await this.#add(path, entry.isFile());
    }
  }

  async #add(path: string, regular: boolean): Promise<void> {
    if (this.totalBytes > this.#stopAfterBytes) return;
    // A regular file in a folder that was reached without a link is where it seems to be.
    const real = regular ? join(this.#root, path) : await confined(this.#root, path);
    const found = real === undefined ? undefined : await this.#stat(real);
    if (found?.isFile() !== true) return;
    this.files.push({ path, bytes: found.size });
    this.entries.push(path);
    this.totalBytes += found.size;
  }

  /** The way to the thread pool and back costs more than the call; many of them must not hold up the event loop. */
  #stat(path: string): Stats | Promise<Stats> {
    return ++this.#statted <= fewFiles ? lstatSync(path) : lstat(path);
  }
}

/** The artifact holds more than this many bytes or entries, or more than can be told quickly. */
export async function isBiggerThan(
  root: string,
  { bytes, entries }: { readonly bytes: number; readonly entries: number },
): Promise<boolean> {
  let [leftBytes, leftEntries] = [bytes, entries];
  const directories = [root];
  for (const directory of directories) {
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      if (--leftEntries < 0) return true;
      const path = join(directory, entry.name);
      if (entry.isDirectory()) directories.push(path);
      else leftBytes -= (await lstat(path)).size;
      if (leftBytes < 0) return true;
    }
  }
  return false;
}
