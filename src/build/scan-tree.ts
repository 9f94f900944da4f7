import { posix } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { ArtifactTree, ListedEntry } from "../pack/artifact-tree.ts";
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

/** After so many entries others have their turn. */
const entriesPerTurn = 1_000;
const kustomizationNames: readonly string[] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

export function isKustomizationName(name: string): boolean {
  return kustomizationNames.includes(name);
}

/**
 * Finds what is to be built in a directory of an artifact (spec 20 §5.1). Names that start with a dot are passed over
 * below `path`, not in it.
 *
 * @throws {BuildError} `NotFound`; `Empty`, when there is nothing to build; `Invalid`, when a link leads out of the root,
 * or what is to be built has a name that is not UTF-8
 */
export async function scanTree(
  tree: ArtifactTree,
  path: string,
  { stopAfterBytes = Infinity }: { readonly stopAfterBytes?: number } = {},
): Promise<ScannedTree> {
  const directory = normalisePath(path);
  const described = directory === "" ? "the artifact" : `"${directory}"`;
  if (tree.find(directory)?.kind !== "directory")
    throw new BuildError("NotFound", `Cannot find directory "${path}" in the artifact`);
  const scan = new Scan(tree, stopAfterBytes);
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

class Scan {
  readonly files: TreeFile[] = [];
  readonly kustomizations: string[] = [];
  readonly entries: string[] = [];
  totalBytes = 0;
  #looked = 0;
  readonly #tree: ArtifactTree;
  readonly #stopAfterBytes: number;

  constructor(tree: ArtifactTree, stopAfterBytes: number) {
    this.#tree = tree;
    this.#stopAfterBytes = stopAfterBytes;
  }

  async enter(directory: string): Promise<void> {
    const manifests: ListedEntry[] = [];
    for (const entry of this.#tree.list(directory)) {
      if (++this.#looked % entriesPerTurn === 0) await setImmediate();
      if (isKustomizationName(entry.name) && entry.kind !== "directory") {
        this.kustomizations.push(directory);
        this.entries.push(directory);
        return;
      }
      const counts = entry.kind === "directory" || /\.(?:ya?ml|json)$/i.test(entry.name);
      if (counts && !entry.name.startsWith(".")) manifests.push(entry);
    }
    for (const entry of manifests) {
      const path = directory === "" ? entry.name : `${directory}/${entry.name}`;
      if (!entry.addressable) throw new BuildError("Invalid", `Cannot read "${path}": its name is not UTF-8`);
      if (entry.kind === "directory") await this.enter(path);
      else this.#add(path, entry);
    }
  }

  #add(path: string, entry: ListedEntry): void {
    if (this.totalBytes > this.#stopAfterBytes) return;
    const found = entry.kind === "other" ? this.#tree.find(path) : entry;
    if (found?.kind !== "file") return;
    this.files.push({ path, bytes: found.bytes });
    this.entries.push(path);
    this.totalBytes += found.bytes;
  }
}
