import type { ArtifactTree, TreeEntry } from "../pack/artifact-tree.ts";
import { BuildError } from "./build-error.ts";

/**
 * An artifact as a WebAssembly program sees it: regular files and directories, read only, with a few files replaced or
 * added in memory.
 */
export class WasiTree {
  readonly #tree: ArtifactTree;
  readonly #overlay = new Map<string, Uint8Array>();
  readonly #mostBytes: number;
  readonly #read = new Set<string>();
  #bytesRead = 0;

  /** At most `mostBytes` of distinct files are read. */
  constructor(tree: ArtifactTree, mostBytes: number) {
    this.#tree = tree;
    this.#mostBytes = mostBytes;
  }

  /** Replaces a file or adds one, in memory only. */
  put(path: string, bytes: Uint8Array): void {
    this.#overlay.set(path, bytes);
  }

  /** @throws {BuildError} `Invalid`, when the path leads out of the root */
  find(path: string): TreeEntry | undefined {
    const added = this.#overlay.get(path);
    return added === undefined ? this.#tree.find(path) : { kind: "file", bytes: added.byteLength };
  }

  /** @throws {BuildError} `Limit`; `Invalid`, for what is no file */
  read(path: string): Uint8Array {
    const bytes = this.#overlay.get(path) ?? this.#readFile(path);
    if (!this.#read.has(path)) {
      this.#read.add(path);
      this.#bytesRead += bytes.byteLength;
    }
    if (this.#bytesRead > this.#mostBytes)
      throw new BuildError("Limit", `Cannot build: it reads more than ${this.#mostBytes} bytes of files`);
    return bytes;
  }

  /** Names in a directory; those in memory are only seen where files of their directory are. */
  list(path: string): readonly string[] {
    const names = new Set([...this.#tree.list(path)].map(({ name }) => name));
    const prefix = path === "" ? "" : `${path}/`;
    for (const added of this.#overlay.keys()) {
      const name = added.slice(prefix.length);
      if (added.startsWith(prefix) && !name.includes("/")) names.add(name);
    }
    return [...names].sort();
  }

  #readFile(path: string): Uint8Array {
    if (this.#tree.find(path)?.kind !== "file")
      throw new BuildError("Invalid", `Cannot build: "${path}" is not a file`);
    return this.#tree.read(path);
  }
}
