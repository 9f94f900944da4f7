import { createReadStream, mkdirSync, writeFileSync } from "node:fs";
import { mkdir, open, stat, writeFile, type FileHandle } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { abortReason } from "../lib/abort-reason.ts";
import { createSemaphore } from "../lib/semaphore.ts";
import type { ArtifactCaps } from "./caps.ts";
import { createEntryNames, normalName, quotedName, type EntryNames } from "./entry-names.ts";
import { SourceError } from "./source-error.ts";
import { createTarParser, type TarPart } from "./tar-parser.ts";

/** Files up to this size are written while the next entries are read. */
const smallFileBytes = 64 * 1024;
const smallFilesAtOnce = 16;
/**
 * So many entries are written without leaving the thread: the way to the pool and back costs more than the call, and
 * most artifacts are no larger. The rest must not hold up the event loop.
 */
const fewEntries = 64;
/**
 * Larger archives are read twice, the first time only to hold them against the caps: a hostile one would otherwise have
 * 100,000 files written before it is refused, and whatever else waits for the disk would wait for them.
 */
const trustedPackedBytes = 16 * 1024;
const blockBytes = 4096;

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
 * @throws a file system's error
 * @throws the signal's reason, when aborted
 */
export async function unpack(
  packed: string,
  { root, caps, signal }: { readonly root: string; readonly caps: ArtifactCaps; readonly signal: AbortSignal },
): Promise<Unpacked> {
  try {
    // An inflater takes nothing for an archive of nothing.
    const { size } = await stat(packed);
    if (size === 0) throw new SourceError("Malformed", "the content is empty");
    if (size > trustedPackedBytes) {
      const census = createCensus(caps);
      await read(packed, { caps, signal }, (part) => {
        if (part.kind === "entry") census.take(part);
      });
    }
    await using files = new Files(root, caps);
    await read(packed, { caps, signal }, (part) => files.take(part));
    await files.settle();
    return { diskBytes: files.diskBytes };
  } catch (error) {
    if (signal.aborted) throw abortReason(signal);
    if (error instanceof Error && "code" in error && String(error.code).startsWith("Z_"))
      throw new SourceError("Malformed", "the content is not gzip, or it is cut", { cause: error });
    throw error;
  }
}

async function read(
  packed: string,
  { caps, signal }: { readonly caps: ArtifactCaps; readonly signal: AbortSignal },
  take: (part: TarPart) => Promise<void> | void,
): Promise<void> {
  const consume = async (inflated: AsyncIterable<unknown>): Promise<void> => {
    const parser = createTarParser();
    let inflatedBytes = 0;
    for await (const chunk of inflated) {
      if (!(chunk instanceof Uint8Array)) continue;
      inflatedBytes += chunk.length;
      if (inflatedBytes > caps.inflatedBytes)
        throw new SourceError("TooLarge", `the archive inflates to more than ${caps.inflatedBytes} bytes`);
      for (const part of parser.push(chunk)) {
        const taken = take(part);
        if (taken !== undefined) await taken;
      }
    }
    parser.end();
  };
  await pipeline(createReadStream(packed), createGunzip(), consume, { signal });
}

type Entry = Extract<TarPart, { kind: "entry" }>;

/** The entries of an archive so far, held against the caps. */
interface Census {
  /** How many there were. */
  readonly entries: number;
  /** @throws {SourceError} `TooLarge` or `Malformed` */
  take(entry: Entry): { readonly path: string; readonly fresh: ReturnType<EntryNames["take"]> };
}

function createCensus(caps: ArtifactCaps): Census {
  const names = createEntryNames(caps);
  let entries = 0;
  let keptBytes = 0;
  return {
    get entries() {
      return entries;
    },
    take({ name, entry, sizeBytes }) {
      if (++entries > caps.entries) throw new SourceError("TooLarge", `there are more than ${caps.entries} entries`);
      const path = normalName(name, caps);
      if (sizeBytes > caps.entryBytes)
        throw new SourceError("TooLarge", `entry ${quotedName(name)} is larger than ${caps.entryBytes} bytes`);
      const fresh = names.take(path, entry);
      // What is declared is what is read: the parser gives a body exactly its size.
      if (entry === "file") keptBytes += sizeBytes;
      if (keptBytes > caps.keptBytes)
        throw new SourceError("TooLarge", `the files are larger than ${caps.keptBytes} bytes in all`);
      return { path, fresh };
    },
  };
}

/** What is written to at the moment. */
type Open =
  | { readonly kind: "none" }
  | { readonly kind: "small"; readonly path: string; readonly bytes: Buffer; filled: number }
  | { readonly kind: "big"; readonly file: FileHandle; leftBytes: number };

/** The files of an archive on their way to disk. Disposing waits for what is being written. */
class Files implements AsyncDisposable {
  diskBytes = 0;
  readonly #root: Buffer;
  readonly #census: Census;
  readonly #writing = new Set<Promise<void>>();
  readonly #places = createSemaphore(smallFilesAtOnce);
  #open: Open = { kind: "none" };
  #failure: { readonly error: unknown } | undefined;

  constructor(root: string, caps: ArtifactCaps) {
    this.#root = Buffer.from(`${root}/`);
    this.#census = createCensus(caps);
  }

  async take(part: TarPart): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    await (part.kind === "entry" ? this.#begin(part) : this.#continue(part.bytes));
  }

  /** Waits for all writes; throws what one of them met. */
  async settle(): Promise<void> {
    await Promise.all(this.#writing);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#writing);
    if (this.#open.kind === "big") await this.#open.file.close();
  }

  async #begin(found: Entry): Promise<void> {
    const { entry, sizeBytes } = found;
    const { path, fresh } = this.#census.take(found);
    if (entry === "other") return;
    if (fresh !== undefined) {
      const made = { recursive: true, mode: 0o700 } as const;
      if (this.#census.entries <= fewEntries) mkdirSync(this.#onDisk(fresh.folder), made);
      else await mkdir(this.#onDisk(fresh.folder), made);
      this.diskBytes += fresh.levels * blockBytes;
    }
    if (entry === "folder") return;
    this.diskBytes += Math.max(1, Math.ceil(sizeBytes / blockBytes)) * blockBytes;
    if (sizeBytes > smallFileBytes) {
      const file = await open(this.#onDisk(path), "wx", 0o400);
      this.#open = { kind: "big", file, leftBytes: sizeBytes };
    } else {
      this.#open = { kind: "small", path, bytes: Buffer.allocUnsafe(sizeBytes), filled: 0 };
      if (sizeBytes === 0) await this.#continue(new Uint8Array(0));
    }
  }

  async #continue(bytes: Uint8Array): Promise<void> {
    const target = this.#open;
    if (target.kind === "small") {
      target.bytes.set(bytes, target.filled);
      target.filled += bytes.length;
      if (target.filled < target.bytes.length) return;
      this.#open = { kind: "none" };
      await this.#write(target.path, target.bytes);
    } else if (target.kind === "big") {
      await target.file.writeFile(bytes);
      target.leftBytes -= bytes.length;
      if (target.leftBytes > 0) return;
      this.#open = { kind: "none" };
      await target.file.close();
    }
  }

  async #write(path: string, bytes: Buffer): Promise<void> {
    if (this.#census.entries <= fewEntries) {
      writeFileSync(this.#onDisk(path), bytes, { flag: "wx", mode: 0o400 });
      return;
    }
    const place = await this.#places.acquire();
    const write = async (): Promise<void> => {
      try {
        await writeFile(this.#onDisk(path), bytes, { flag: "wx", mode: 0o400 });
      } catch (error) {
        this.#failure ??= { error };
      } finally {
        place[Symbol.dispose]();
      }
    };
    const done = write().finally(() => this.#writing.delete(done));
    this.#writing.add(done);
  }

  /** Names are bytes: a disk takes them as they are. */
  #onDisk(path: string): Buffer {
    return Buffer.concat([this.#root, Buffer.from(path, "latin1")]);
  }
}
