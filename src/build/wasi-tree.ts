import { lstatSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { BuildError } from "./build-error.ts";

/** What stands at a path. */
export type TreeEntry = { readonly kind: "file"; readonly bytes: number } | { readonly kind: "directory" };

/**
 * An artifact as a WebAssembly program sees it: regular files and directories, read only, with a few files replaced or
 * added in memory. Links are followed inside the root; one that leads out ends the build. Paths are relative, with `/`.
 */
export class WasiTree {
  readonly #root: string;
  readonly #overlay = new Map<string, Uint8Array>();
  readonly #mostBytes: number;
  readonly #read = new Set<string>();
  #bytesRead = 0;

  /** At most `mostBytes` of distinct files are read. */
  constructor(root: string, mostBytes: number) {
    this.#root = realpathSync(root);
    this.#mostBytes = mostBytes;
  }

  /** Replaces a file or adds one, in memory only. */
  put(path: string, bytes: Uint8Array): void {
    this.#overlay.set(path, bytes);
  }

  /** @throws {BuildError} `Invalid`, when the path leads out of the root */
  find(path: string): TreeEntry | undefined {
    const added = this.#overlay.get(path);
    if (added !== undefined) return { kind: "file", bytes: added.byteLength };
    const real = this.#confined(path);
    const found = real === undefined ? undefined : lstatSync(real, { throwIfNoEntry: false });
    if (found?.isDirectory() === true) return { kind: "directory" };
    return found?.isFile() === true ? { kind: "file", bytes: found.size } : undefined;
  }

  /** @throws {BuildError} `Limit` */
  read(path: string): Uint8Array {
    const bytes = this.#overlay.get(path) ?? readFileSync(this.#confined(path) ?? join(this.#root, path));
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
    const real = this.#confined(path);
    const names = new Set(real === undefined ? [] : readdirSync(real));
    const prefix = path === "" ? "" : `${path}/`;
    for (const added of this.#overlay.keys()) {
      const name = added.slice(prefix.length);
      if (added.startsWith(prefix) && !name.includes("/")) names.add(name);
    }
    return [...names].sort();
  }

  #confined(path: string): string | undefined {
    let real: string;
    try {
      real = realpathSync.native(join(this.#root, path));
    } catch {
      return undefined;
    }
    const inside = relative(this.#root, real);
    if (inside === ".." || inside.startsWith(`..${sep}`))
      throw new BuildError("Invalid", `Cannot build: "${path}" leads out of the artifact`);
    return real;
  }
}
