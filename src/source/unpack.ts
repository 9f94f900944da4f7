import { createReadStream } from "node:fs";
import { mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Transform, type TransformCallback } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { extract, type Header } from "tar-stream";
import { abortReason } from "../lib/abort-reason.ts";
import type { ArtifactCaps } from "./caps.ts";
import { createEntryNames, normalName, type EntryKind, type EntryNames } from "./entry-names.ts";
import { SourceError } from "./source-error.ts";

/** Files up to this size are written while the next entries are read. */
const smallFileBytes = 64 * 1024;
const smallFilesAtOnce = 16;
const blockBytes = 4096;

interface Entry extends AsyncIterable<unknown> {
  readonly header: Header;
  resume(): unknown;
}

/** What unpacking left on disk. */
export interface Unpacked {
  /** Files and folders in whole disk blocks, at least one each. */
  readonly diskBytes: number;
}

/**
 * Unpacks a gzipped tar into an existing empty folder: regular files (0400) and folders (0700); links and devices are
 * passed over. Memory does not grow with the archive. After a failure the folder holds a part; the caller removes it.
 *
 * @throws {SourceError} `TooLarge` or `Malformed`
 * @throws the signal's reason, when aborted
 */
export async function unpack(
  packed: string,
  { root, caps, signal }: { readonly root: string; readonly caps: ArtifactCaps; readonly signal: AbortSignal },
): Promise<Unpacked> {
  const archive = extract();
  const sink = new Sink(root, caps);
  const read = sink.readAll(archive);
  try {
    await Promise.all([
      read,
      pipeline(createReadStream(packed), createGunzip(), limit(caps.inflatedBytes), archive, { signal }),
    ]);
    return { diskBytes: sink.diskBytes };
  } catch (error) {
    archive.destroy();
    const [failed] = await Promise.allSettled([read]);
    if (signal.aborted) throw abortReason(signal);
    throw reported(failed.status === "rejected" ? failed.reason : error, error);
  }
}

/** The first error that says why: the other half of the pipe only sees that it was cut. */
function reported(...errors: readonly unknown[]): unknown {
  const own = errors.find((error) => error instanceof SourceError);
  if (own !== undefined) return own;
  const system = errors.find((error) => error instanceof Error && "syscall" in error);
  return system ?? new SourceError("Malformed", "the content is not a gzipped tar archive", { cause: errors[0] });
}

function limit(mostBytes: number): Transform {
  let seen = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding: BufferEncoding, callback: TransformCallback) {
      seen += chunk.length;
      if (seen > mostBytes) callback(new SourceError("TooLarge", `the archive inflates to over ${mostBytes} bytes`));
      else callback(null, chunk);
    },
  });
}

class Sink {
  diskBytes = 0;
  readonly #root: string;
  readonly #caps: ArtifactCaps;
  readonly #names: EntryNames;
  readonly #writes = new Set<Promise<void>>();
  #entries = 0;
  #keptBytes = 0;
  #writeError: { readonly error: unknown } | undefined;

  constructor(root: string, caps: ArtifactCaps) {
    this.#root = root;
    this.#caps = caps;
    this.#names = createEntryNames(caps);
  }

  async readAll(archive: AsyncIterable<Entry>): Promise<void> {
    try {
      for await (const entry of archive) await this.#readEntry(entry);
    } finally {
      // Nothing may still be written when the caller removes the folder.
      await Promise.all(this.#writes);
    }
    if (this.#writeError !== undefined) throw this.#writeError.error;
  }

  async #readEntry(entry: Entry): Promise<void> {
    if (this.#writeError !== undefined) throw this.#writeError.error;
    const { name, size, type } = entry.header;
    const { entries, entryBytes, keptBytes } = this.#caps;
    if (++this.#entries > entries) throw new SourceError("TooLarge", `there are more than ${entries} entries`);
    const path = normalName(name, this.#caps);
    if (size > entryBytes) throw tooLargeEntry(path, entryBytes);
    const kind: EntryKind = type === "file" ? "file" : type === "directory" ? "folder" : "other";
    if (kind === "file" && this.#keptBytes + size > keptBytes) throw tooMuchKept(keptBytes);
    const folder = this.#names.take(path, kind);
    if (folder !== undefined && kind !== "other") {
      await mkdir(join(this.#root, folder), { recursive: true, mode: 0o700 });
      this.diskBytes += blockBytes;
    }
    if (kind !== "file") {
      entry.resume();
      return;
    }
    await (size <= smallFileBytes ? this.#readSmall(entry, path) : this.#readBig(entry, path));
  }

  async #readSmall(entry: Entry, path: string): Promise<void> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.#counted(entry, path)) chunks.push(chunk);
    while (this.#writes.size >= smallFilesAtOnce) await Promise.race(this.#writes);
    const write = writeFile(join(this.#root, path), Buffer.concat(chunks), { flag: "wx", mode: 0o400 })
      .catch((error: unknown) => {
        this.#writeError ??= { error };
      })
      .finally(() => this.#writes.delete(write));
    this.#writes.add(write);
  }

  async #readBig(entry: Entry, path: string): Promise<void> {
    await using file = await open(join(this.#root, path), "wx", 0o400);
    for await (const chunk of this.#counted(entry, path)) await file.writeFile(chunk);
  }

  async *#counted(entry: Entry, path: string): AsyncGenerator<Uint8Array> {
    let bytes = 0;
    for await (const chunk of entry) {
      if (!(chunk instanceof Uint8Array)) continue;
      bytes += chunk.length;
      this.#keptBytes += chunk.length;
      if (bytes > this.#caps.entryBytes) throw tooLargeEntry(path, this.#caps.entryBytes);
      if (this.#keptBytes > this.#caps.keptBytes) throw tooMuchKept(this.#caps.keptBytes);
      yield chunk;
    }
    this.diskBytes += Math.max(1, Math.ceil(bytes / blockBytes)) * blockBytes;
  }
}

function tooLargeEntry(path: string, entryBytes: number): SourceError {
  return new SourceError("TooLarge", `entry ${JSON.stringify(path)} is larger than ${entryBytes} bytes`);
}

function tooMuchKept(keptBytes: number): SourceError {
  return new SourceError("TooLarge", `the files are larger than ${keptBytes} bytes in all`);
}
