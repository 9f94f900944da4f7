import { createHash } from "node:crypto";
import type { ArtifactCaps } from "./caps.ts";
import { SourceError } from "./source-error.ts";

/** `other`: a link or device, which is not unpacked but holds its name. */
export type EntryKind = "file" | "folder" | "other";

const longestSegmentBytes = 255;

/**
 * `./a//b/` → `a/b`; the root is the empty path. All bytes but the refused ones are kept.
 *
 * @throws {SourceError} `Malformed`: absolute, or with `..`, `\` or NUL. `TooLarge`: too long or too deep
 */
export function normalName(name: string, { pathBytes, pathDepth }: ArtifactCaps): string {
  const segments = name.split("/").filter((segment) => segment !== "" && segment !== ".");
  if (name.startsWith("/") || name.includes("\\") || name.includes("\0") || segments.includes(".."))
    throw new SourceError("Malformed", `entry ${quoted(name)} has a name that leads elsewhere`);
  const path = segments.join("/");
  if (Buffer.byteLength(path) > pathBytes)
    throw new SourceError("TooLarge", `entry ${quoted(name)} has a path longer than ${pathBytes} bytes`);
  if (segments.length > pathDepth)
    throw new SourceError("TooLarge", `entry ${quoted(name)} is more than ${pathDepth} levels deep`);
  if (segments.some((segment) => Buffer.byteLength(segment) > longestSegmentBytes))
    throw new SourceError("Malformed", `entry ${quoted(name)} has a name longer than ${longestSegmentBytes} bytes`);
  return path;
}

function quoted(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}…` : name);
}

/** The names an archive has used so far. */
export interface EntryNames {
  /**
   * Takes a normal name. Answers the folder to be made before it, if that is not known yet.
   *
   * @throws {SourceError} `Malformed`: another entry has the name, or a part of it as a file. `TooLarge`: too many folders
   */
  take(path: string, kind: EntryKind): string | undefined;
}

export function createEntryNames(caps: ArtifactCaps): EntryNames {
  // By hash: 100,000 names of 1 KiB would not fit the memory an artifact may cost.
  const taken = new Map<string, EntryKind>([[keyOf(""), "folder"]]);
  let folders = 0;
  const addFolders = (path: string): boolean => {
    const missing: string[] = [];
    for (let at = path; ; at = parentOf(at)) {
      const key = keyOf(at);
      const kind = taken.get(key);
      if (kind === "folder") break;
      if (kind !== undefined) throw clash(at);
      missing.push(key);
    }
    folders += missing.length;
    if (folders > caps.entries) throw new SourceError("TooLarge", `there are more than ${caps.entries} folders`);
    for (const key of missing) taken.set(key, "folder");
    return missing.length > 0;
  };
  return {
    take(path, kind) {
      if (kind === "folder") return addFolders(path) ? path : undefined;
      const key = keyOf(path);
      if (taken.has(key)) throw clash(path);
      const parent = parentOf(path);
      const added = addFolders(parent);
      taken.set(key, kind);
      return added ? parent : undefined;
    },
  };
}

function clash(path: string): SourceError {
  return new SourceError("Malformed", `two entries have the name ${quoted(path)}`);
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

function keyOf(path: string): string {
  return createHash("sha256").update(path).digest().toString("latin1", 0, 16);
}
