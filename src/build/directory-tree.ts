import { isUtf8 } from "node:buffer";
import { lstatSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { join, relative, sep } from "node:path";
import type { ArtifactTree, ListedEntry, TreeEntry } from "../pack/artifact-tree.ts";
import { BuildError } from "./build-error.ts";

/**
 * A real directory as the tree of an artifact. Links are followed inside of it; one that leads out ends the build, whatever
 * is asked of it. It must not change meanwhile.
 *
 * @throws a file system's error, when there is no such directory
 */
export function openDirectory(path: string): ArtifactTree {
  return new DirectoryTree(path);
}

class DirectoryTree implements ArtifactTree {
  readonly #root: string;

  constructor(path: string) {
    this.#root = realpathSync(path);
  }

  find(path: string): TreeEntry | undefined {
    const real = this.#confined(path);
    const found = real === undefined ? undefined : lstatSync(real, { throwIfNoEntry: false });
    if (found?.isDirectory() === true) return { kind: "directory" };
    return found?.isFile() === true ? { kind: "file", bytes: found.size } : undefined;
  }

  *list(path: string): Generator<ListedEntry> {
    if (this.find(path)?.kind !== "directory") return;
    const entries = readdirSync(this.#confined(path) ?? this.#root, { withFileTypes: true, encoding: "buffer" });
    entries.sort((one, other) => one.name.compare(other.name));
    for (const entry of entries) {
      const name = entry.name.toString("utf8");
      const addressable = isUtf8(entry.name);
      if (entry.isDirectory()) yield { kind: "directory", name, addressable };
      else {
        const found = entry.isFile() && addressable ? this.find(path === "" ? name : `${path}/${name}`) : undefined;
        yield { ...(found ?? { kind: "other" }), name, addressable };
      }
    }
  }

  read(path: string): Uint8Array {
    return readFileSync(this.#confined(path) ?? join(this.#root, path));
  }

  isBiggerThan({ bytes, entries }: { readonly bytes: number; readonly entries: number }): boolean {
    let [leftBytes, leftEntries] = [bytes, entries];
    const directories = [this.#root];
    for (const directory of directories) {
      for (const entry of readdirSync(directory, { withFileTypes: true })) {
        if (--leftEntries < 0) return true;
        const path = join(directory, entry.name);
        if (entry.isDirectory()) directories.push(path);
        else leftBytes -= lstatSync(path, { throwIfNoEntry: false })?.size ?? 0;
        if (leftBytes < 0) return true;
      }
    }
    return false;
  }

  [Symbol.dispose](): void {
    // Nothing is open between calls.
  }

  /** Where a path really is; undefined when there is nothing. */
  #confined(path: string): string | undefined {
    let real: string;
    try {
      real = realpathSync.native(join(this.#root, path));
    } catch {
      return undefined;
    }
    const inside = relative(this.#root, real);
    if (inside === ".." || inside.startsWith(`..${sep}`))
      throw new BuildError("Invalid", `Cannot read "${path}": it leads out of the artifact`);
    return real;
  }
}
