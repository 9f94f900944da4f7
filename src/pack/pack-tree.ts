import { isUtf8 } from "node:buffer";
import { crc32 } from "node:zlib";
import type { ArtifactTree, ListedEntry, TreeEntry } from "./artifact-tree.ts";
import { PackError } from "./pack-error.ts";
import { PackFile } from "./pack-file.ts";
import {
  footerBytes,
  indexBytes,
  readFooter,
  readRecord,
  recordBytes,
  type Footer,
  type PackRecord,
} from "./pack-format.ts";

/** Larger indexes are checked piece by piece without blocking the thread. */
const pieceBytes = 1024 * 1024;
const replacement = "\ufffd";

/**
 * The tree of a pack. Of its index no more than 4 MiB is in memory at a time.
 *
 * @throws {PackError} also later, from what is read
 * @throws a file system's error
 */
export async function openPack(path: string): Promise<ArtifactTree> {
  const file = new PackFile(path);
  try {
    const footer = readFooter(file.range(file.bytes - footerBytes, footerBytes), file.bytes);
    if ((await sumOf(file, footer)) !== footer.indexSum) throw new PackError();
    return new PackTree(file, footer);
  } catch (error) {
    file[Symbol.dispose]();
    throw error;
  }
}

async function sumOf(file: PackFile, footer: Footer): Promise<number> {
  const length = indexBytes(footer);
  if (length <= pieceBytes) return crc32(file.range(footer.contentBytes, length));
  const piece = Buffer.allocUnsafeSlow(pieceBytes);
  let sum = 0;
  for (let done = 0; done < length; done += pieceBytes) {
    const part = piece.subarray(0, Math.min(pieceBytes, length - done));
    await file.rangeLater(footer.contentBytes + done, part);
    sum = crc32(part, sum);
  }
  return sum;
}

type Directory = Pick<Extract<PackRecord, { kind: "directory" }>, "kind" | "firstRecord" | "records">;
type Found = Extract<PackRecord, { kind: "file" }> | Directory;

class PackTree implements ArtifactTree {
  readonly #file: PackFile;
  readonly #footer: Footer;
  readonly #namesAt: number;

  constructor(file: PackFile, footer: Footer) {
    this.#file = file;
    this.#footer = footer;
    this.#namesAt = footer.contentBytes + footer.records * recordBytes;
  }

  find(path: string): TreeEntry | undefined {
    const found = this.#find(path);
    return found === undefined ? undefined : entryOf(found);
  }

  *list(path: string): Generator<ListedEntry> {
    const directory = this.#find(path);
    if (directory?.kind !== "directory") return;
    const { firstRecord, records } = directory;
    for (let position = firstRecord; position < firstRecord + records; position++) {
      const record = this.#record(position);
      const bytes = this.#name(record);
      const name = bytes.toString("utf8");
      const addressable = !name.includes(replacement) || isUtf8(bytes);
      yield { ...entryOf(record), name, addressable };
    }
  }

  read(path: string): Uint8Array {
    const found = this.#find(path);
    if (found?.kind !== "file") throw new RangeError("there is no such file");
    const content = this.#file.range(found.contentAt, found.bytes);
    if (crc32(content) !== found.sum) throw new PackError();
    return content;
  }

  isBiggerThan({ bytes, entries }: { readonly bytes: number; readonly entries: number }): boolean {
    return this.#footer.contentBytes > bytes || this.#footer.records > entries;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  #find(path: string): Found | undefined {
    let at: Found = { kind: "directory", firstRecord: 0, records: this.#footer.rootRecords };
    if (path === "") return at;
    for (const segment of path.split("/")) {
      const found: Found | undefined = at.kind === "directory" ? this.#search(at, Buffer.from(segment)) : undefined;
      if (found === undefined) return undefined;
      at = found;
    }
    return at;
  }

  #search({ firstRecord, records }: Directory, name: Buffer): PackRecord | undefined {
    let [from, to] = [firstRecord, firstRecord + records];
    while (from < to) {
      const middle = (from + to) >>> 1;
      const record = this.#record(middle);
      const order = name.compare(this.#name(record));
      if (order === 0) return record;
      if (order < 0) to = middle;
      else from = middle + 1;
    }
    return undefined;
  }

  #record(position: number): PackRecord {
    if (position >= this.#footer.records) throw new PackError();
    return readRecord(this.#file.near(this.#footer.contentBytes + position * recordBytes, recordBytes));
  }

  #name({ nameAt, nameBytes }: PackRecord): Buffer {
    return this.#file.near(this.#namesAt + nameAt, nameBytes);
  }
}

function entryOf(found: Found): TreeEntry {
  return found.kind === "file" ? { kind: "file", bytes: found.bytes } : { kind: "directory" };
}
