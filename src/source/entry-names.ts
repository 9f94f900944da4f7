import { hash } from "node:crypto";
import type { ArtifactCaps } from "./caps.ts";
import { SourceError } from "./source-error.ts";

/** `other`: a link or device, which is not unpacked but holds its name. */
export type EntryKind = "file" | "folder" | "other";

const longestSegmentBytes = 255;

/**
 * `./a//b/` → `a/b`; the root is the empty path. Takes and gives binary strings, one character per byte: all bytes but
 * the refused ones are kept.
 *
 * @throws {SourceError} `Malformed`: absolute, or with `..`, `\` or NUL. `TooLarge`: too long or too deep
 */
export function normalName(name: string, { pathBytes, pathDepth }: ArtifactCaps): string {
  const segments = name.split("/").filter((segment) => segment !== "" && segment !== ".");
  if (name.startsWith("/") || name.includes("\\") || name.includes("\0") || segments.includes(".."))
    throw new SourceError("Malformed", `entry ${quotedName(name)} has a name that leads elsewhere`);
  const path = segments.join("/");
  if (path.length > pathBytes)
    throw new SourceError("TooLarge", `entry ${quotedName(name)} has a path longer than ${pathBytes} bytes`);
  if (segments.length > pathDepth)
    throw new SourceError("TooLarge", `entry ${quotedName(name)} is more than ${pathDepth} levels deep`);
  if (segments.some((segment) => segment.length > longestSegmentBytes))
    throw new SourceError("Malformed", `entry ${quotedName(name)} has a name longer than ${longestSegmentBytes} bytes`);
  return path;
}

/** A binary name for people: as UTF-8, cut when long. */
export function quotedName(name: string): string {
  const text = Buffer.from(name.slice(0, 200), "latin1").toString("utf8");
  return JSON.stringify(name.length > 200 ? `${text}…` : text);
}

/** The names an archive has used so far. */
export interface EntryNames {
  /**
   * Takes a normal name. Answers the folder that is to be made for it, and how many levels of it are new; undefined when
   * it is there.
   *
   * @throws {SourceError} `Malformed`: another entry has the name, or a part of it as a file. `TooLarge`: too many folders
   */
  take(path: string, kind: EntryKind): { readonly folder: string; readonly levels: number } | undefined;
}

export function createEntryNames(caps: ArtifactCaps): EntryNames {
  // By hash: 100,000 names of 1 KiB would not fit the memory an artifact may cost.
  const taken = new Map<string, EntryKind>([[keyOf(""), "folder"]]);
  let folders = 0;
  const addFolders = (path: string): number => {
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
    return missing.length;
  };
  return {
    take(path, kind) {
      const folder = kind === "folder" ? path : parentOf(path);
      const key = keyOf(path);
      if (kind !== "folder" && taken.has(key)) throw clash(path);
      const levels = addFolders(folder);
      if (kind !== "folder") taken.set(key, kind);
      return levels === 0 ? undefined : { folder, levels };
    },
  };
}

function clash(path: string): SourceError {
  return new SourceError("Malformed", `two entries have the name ${quotedName(path)}`);
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

function keyOf(path: string): string {
  return hash("sha256", Buffer.from(path, "latin1"), "base64url").slice(0, 22);
}
