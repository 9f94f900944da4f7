import type { LadderFile } from "../domain/versions/read-migrations.ts";
import { isLadderFile } from "../domain/versions/read-migrations.ts";
import type { ArtifactTree } from "../pack/artifact-tree.ts";
import { PackError } from "../pack/pack-error.ts";
import { mostLadderBytes, readLadderFile, tooLarge } from "./ladder-file.ts";
import { openTree } from "./open-tree.ts";
import { cleanedPath } from "./text-file.ts";

/** Bounds one ladder, beside {@link mostLadderBytes}. */
const mostFiles = 1_000;

/** The files of a ladder, or that what is kept of the artifact is not what was fetched. */
export type LadderTree =
  /** `bytes`: of those that were read. */
  | { readonly kind: "files"; readonly files: readonly LadderFile[]; readonly bytes: number }
  | { readonly kind: "damaged" };

/** Reads the ladder at a file or directory of an artifact (spec 30 §7); what is wrong with it is a value, not thrown. */
export async function readLadderTree(root: string, written: string): Promise<LadderTree> {
  try {
    using tree = await openTree(root);
    const read = { bytes: 0 };
    return { kind: "files", files: [...filesAt(tree, cleanedPath(written), read)], bytes: read.bytes };
  } catch (error) {
    if (error instanceof PackError) return { kind: "damaged" };
    throw error;
  }
}

function* filesAt(tree: ArtifactTree, path: string | undefined, read: Read): Generator<LadderFile> {
  const entry = path === undefined ? undefined : tree.find(path);
  if (path === undefined || entry === undefined) {
    yield {
      kind: "unreadable",
      path: path ?? "",
      problem: "the artifact has nothing at spec.migrationsSourceRef.path",
    };
    return;
  }
  if (entry.kind === "file") {
    if (!isLadderFile(path.slice(path.lastIndexOf("/") + 1)))
      yield { kind: "unreadable", path, problem: "is no .yaml, .yml or .json file, and so is not read" };
    else yield* contentsOf(tree, [{ path, shown: path, bytes: entry.bytes }], read);
    return;
  }
  const found: Found[] = [];
  for (const file of filesBelow(tree, path)) {
    found.push(file);
    if (found.length > mostFiles) {
      yield { kind: "unreadable", path, problem: `holds more than ${mostFiles} files of migrations` };
      return;
    }
  }
  // Byte order of the whole path: a directory's own order ends at its names.
  found.sort((a, b) => Buffer.compare(Buffer.from(a.shown), Buffer.from(b.shown)));
  yield* contentsOf(tree, found, read);
}

interface Found {
  readonly path: string;
  /** From the root of the ladder. */
  readonly shown: string;
  readonly bytes: number;
}

function* filesBelow(tree: ArtifactTree, root: string): Generator<Found> {
  const directories = [""];
  for (let below = directories.pop(); below !== undefined; below = directories.pop()) {
    const directory = [root, below].filter((part) => part !== "").join("/");
    for (const { kind, name, addressable, ...entry } of tree.list(directory)) {
      const shown = below === "" ? name : `${below}/${name}`;
      if (!addressable || name.startsWith(".")) continue;
      if (kind === "directory") directories.push(shown);
      else if (kind === "file" && isLadderFile(shown))
        yield {
          path: directory === "" ? name : `${directory}/${name}`,
          shown,
          bytes: "bytes" in entry ? entry.bytes : 0,
        };
    }
  }
}

/** How much was read so far. */
interface Read {
  bytes: number;
}

function* contentsOf(tree: ArtifactTree, files: readonly Found[], read: Read): Generator<LadderFile> {
  for (const { path, shown, bytes } of files) {
    if (read.bytes + bytes > mostLadderBytes) {
      yield { kind: "unreadable", path: shown, problem: tooLarge };
      return;
    }
    read.bytes += bytes;
    yield readLadderFile({ path: shown, bytes: tree.read(path) });
  }
}
