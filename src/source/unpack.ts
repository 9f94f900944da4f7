import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { abortReason } from "../lib/abort-reason.ts";
import { PackWriter } from "../pack/pack-writer.ts";
import type { ArtifactCaps } from "./caps.ts";
import { createEntryNames, lastOf, normalName, quotedName, type EntryKind, type Place } from "./entry-names.ts";
import { SourceError } from "./source-error.ts";
import { createTarParser, type TarPart } from "./tar-parser.ts";

/**
 * Larger archives are read twice, the first time only to hold them against the caps: a hostile one would otherwise have
 * 64 MiB written before it is refused, and whatever else waits for the disk would wait for them.
 */
const trustedPackedBytes = 16 * 1024;

/** What unpacking left on disk. */
export interface Unpacked {
  readonly diskBytes: number;
}

/**
 * Unpacks a gzipped tar into one file, a pack (src/pack): regular files and folders; links and devices are passed over.
 * No name of an entry ever reaches the file system. Contents are not held in memory. After a failure there may be a part
 * of the file, which is no pack; the caller removes it.
 *
 * @throws {SourceError} `TooLarge` or `Malformed`
 * @throws a file system's error
 * @throws the signal's reason, when aborted
 */
export async function unpack(
  packed: string,
  { path, caps, signal }: { readonly path: string; readonly caps: ArtifactCaps; readonly signal: AbortSignal },
): Promise<Unpacked> {
  try {
    // An inflater takes nothing for an archive of nothing.
    const { size } = await stat(packed);
    if (size === 0) throw new SourceError("Malformed", "the content is empty");
    if (size > trustedPackedBytes) {
      const census = createCensus(caps);
      await read(packed, { caps, signal }, (part) => {
        if (part.kind === "entry") census(part);
        return undefined;
      });
    }
    await using pack = new PackWriter(path);
    const census = createCensus(caps);
    await read(packed, { caps, signal }, (part) => {
      if (part.kind === "body") return pack.write(part.bytes);
      addEntry(pack, part.entry, census(part), part.sizeBytes);
      return undefined;
    });
    return { diskBytes: await pack.finish() };
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
  take: (part: TarPart) => Promise<void> | undefined,
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

/**
 * Holds the entries of an archive against the caps, one after the other, and tells where each belongs.
 *
 * @throws {SourceError} `TooLarge` or `Malformed`
 */
type Census = (entry: Entry) => Place & { readonly name: string };

function createCensus(caps: ArtifactCaps): Census {
  const names = createEntryNames(caps);
  let entries = 0;
  let keptBytes = 0;
  return ({ name, entry, sizeBytes }) => {
    if (++entries > caps.entries) throw new SourceError("TooLarge", `there are more than ${caps.entries} entries`);
    const path = normalName(name, caps);
    if (sizeBytes > caps.entryBytes)
      throw new SourceError("TooLarge", `entry ${quotedName(name)} is larger than ${caps.entryBytes} bytes`);
    const place = names.take(path, entry);
    // What is declared is what is read: the parser gives a body exactly its size.
    if (entry === "file") keptBytes += sizeBytes;
    if (keptBytes > caps.keptBytes)
      throw new SourceError("TooLarge", `the files are larger than ${caps.keptBytes} bytes in all`);
    return { ...place, name: lastOf(path) };
  };
}

function addEntry(
  pack: PackWriter,
  kind: EntryKind,
  { folder, fresh, name }: ReturnType<Census>,
  sizeBytes: number,
): void {
  for (const made of fresh) pack.addDirectory(made.parent, made.name);
  if (kind === "file") pack.addFile(folder, name, sizeBytes);
}
