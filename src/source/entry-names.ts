import { hash } from "node:crypto";
import type { ArtifactCaps } from "./caps.ts";
import { SourceError } from "./source-error.ts";

/** `other`: a link or device, which is not kept but holds its name. */
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

/** Where an entry belongs. Folders are numbered in the order in which they are first named; the root is 0. */
export interface Place {
  /** The folder it is in; for a folder its own number. */
  readonly folder: number;
  /** The folders that are named for the first time, in the order of their numbers: the name of each, and what it is in. */
  readonly fresh: readonly { readonly parent: number; readonly name: string }[];
}

/** The names an archive has used so far. */
export interface EntryNames {
  /**
   * Takes a normal name.
   *
   * @throws {SourceError} `Malformed`: another entry has the name, or a part of it as a file. `TooLarge`: too many folders
   */
  take(path: string, kind: EntryKind): Place;
}

/** What holds a name but is no folder. */
const noFolder = -1;

export function createEntryNames(caps: ArtifactCaps): EntryNames {
  // By hash: 100,000 names of 1 KiB would not fit the memory an artifact may cost. The number of a folder, or `noFolder`.
  const taken = new Map<string, number>([[keyOf(""), 0]]);
  let folders = 0;
  const placeIn = (path: string): Place => {
    const missing: { readonly key: string; readonly name: string }[] = [];
    let folder: number | undefined;
    for (let at = path; folder === undefined; at = parentOf(at)) {
      const key = keyOf(at);
      folder = taken.get(key);
      if (folder === noFolder) throw clash(at);
      if (folder === undefined) missing.push({ key, name: lastOf(at) });
    }
    if (folders + missing.length > caps.entries)
      throw new SourceError("TooLarge", `there are more than ${caps.entries} folders`);
    const fresh: Place["fresh"][number][] = [];
    for (const { key, name } of missing.reverse()) {
      fresh.push({ parent: folder, name });
      folder = ++folders;
      taken.set(key, folder);
    }
    return { folder, fresh };
  };
  return {
    take(path, kind) {
      if (kind === "folder") return placeIn(path);
      const key = keyOf(path);
      if (taken.has(key)) throw clash(path);
      const place = placeIn(parentOf(path));
      taken.set(key, noFolder);
      return place;
    },
  };
}

/** The last segment of a path. */
export function lastOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
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
