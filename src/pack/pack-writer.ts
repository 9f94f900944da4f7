import { writeFileSync } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { recordBytes, writeFooter, writeRecord } from "./pack-format.ts";
import { PendingRecords } from "./pending-records.ts";

/** A pack up to this size is one write without leaving the thread, which costs less than the way to the pool and back. */
const flushBytes = 256 * 1024;
const namePieceBytes = 64 * 1024;
const entriesPerTurn = 4_096;
const mode = 0o400;

/**
 * Writes a pack (see `Footer`) at a path where nothing is. Contents go to disk as they come; what is kept in memory until
 * the end is 24 bytes and the name of each entry. What is written is no pack before `finish` has answered; the caller
 * removes what is left when it does not come to that. Disposing closes the file.
 */
export class PackWriter implements AsyncDisposable {
  readonly #out: Output;
  readonly #pending = new PendingRecords();
  #contentBytes = 0;
  /** The file that is being written. */
  #file = { entry: 0, leftBytes: 0, sum: 0 };

  constructor(path: string) {
    this.#out = new Output(path);
  }

  /** Adds a directory to one that is there. They are numbered as they come; the root is 0. Names are binary strings. */
  addDirectory(parent: number, name: string): void {
    this.#pending.addDirectory(parent, name);
  }

  /** Begins a file; exactly so many bytes are to be written then. */
  addFile(parent: number, name: string, bytes: number): void {
    this.#requireWhole();
    const entry = this.#pending.addFile(parent, name, { contentAt: this.#contentBytes, bytes });
    this.#contentBytes += bytes;
    this.#file = { entry, leftBytes: bytes, sum: 0 };
  }

  /** Goes on with the file; there is something to wait for when a promise is answered. */
  write(bytes: Uint8Array): Promise<void> | undefined {
    const file = this.#file;
    file.leftBytes -= bytes.length;
    if (file.leftBytes < 0) throw new RangeError("a file is longer than announced");
    file.sum = crc32(bytes, file.sum);
    if (file.leftBytes === 0) this.#pending.setSum(file.entry, file.sum);
    return this.#out.append(bytes);
  }

  /** Writes the index and closes the file. Answers with the pack's size in bytes. */
  async finish(): Promise<number> {
    this.#requireWhole();
    const { order, firstRecords } = await this.#pending.arrange();
    const records = Buffer.allocUnsafeSlow(order.length * recordBytes);
    let nameBytes = 0;
    for (const [position, entry] of order.entries()) {
      const record = this.#pending.record(entry, { nameAt: nameBytes, firstRecords });
      writeRecord(records, position * recordBytes, record);
      nameBytes += record.nameBytes;
      if (position % entriesPerTurn === entriesPerTurn - 1) await setImmediate();
    }
    await this.#out.append(records);
    let indexSum = crc32(records);
    for (const piece of this.#names(order)) {
      indexSum = crc32(piece, indexSum);
      await this.#out.append(piece);
    }
    const totals = { records: order.length, rootRecords: firstRecords[1] ?? 0, contentBytes: this.#contentBytes };
    await this.#out.append(writeFooter({ ...totals, nameBytes, indexSum }));
    return this.#out.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#out[Symbol.asyncDispose]();
  }

  #requireWhole(): void {
    if (this.#file.leftBytes > 0) throw new RangeError("a file is shorter than announced");
  }

  /** In the order of the records; a piece is valid until the next one is asked for. */
  *#names(order: Uint32Array): Generator<Buffer> {
    const piece = Buffer.allocUnsafeSlow(namePieceBytes);
    let filled = 0;
    for (const entry of order) {
      const name = this.#pending.name(entry);
      if (filled + name.length > piece.length) {
        yield piece.subarray(0, filled);
        filled = 0;
      }
      piece.set(name, filled);
      filled += name.length;
    }
    yield piece.subarray(0, filled);
  }
}

/** A file that is written from its beginning to its end. */
class Output implements AsyncDisposable {
  readonly #path: string;
  #buffer = Buffer.allocUnsafeSlow(4_096);
  #filled = 0;
  #bytes = 0;
  #file: FileHandle | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** What is given may be changed again once the promise is kept, or at once when there is none. */
  append(bytes: Uint8Array): Promise<void> | undefined {
    this.#bytes += bytes.length;
    const needed = this.#filled + bytes.length;
    if (needed > flushBytes) return this.#flushWith(bytes);
    if (needed > this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(flushBytes, Math.max(needed, this.#buffer.length * 4)));
      larger.set(this.#buffer.subarray(0, this.#filled));
      this.#buffer = larger;
    }
    this.#buffer.set(bytes, this.#filled);
    this.#filled = needed;
    return undefined;
  }

  /** Answers with the number of bytes. */
  async end(): Promise<number> {
    const rest = this.#buffer.subarray(0, this.#filled);
    if (this.#file === undefined) writeFileSync(this.#path, rest, { flag: "wx", mode });
    else await this.#file.writeFile(rest);
    await this[Symbol.asyncDispose]();
    return this.#bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async #flushWith(bytes: Uint8Array): Promise<void> {
    this.#file ??= await open(this.#path, "wx", mode);
    const filled = this.#filled;
    this.#filled = 0;
    await this.#file.writeFile(this.#buffer.subarray(0, filled));
    await this.#file.writeFile(bytes);
  }
}
