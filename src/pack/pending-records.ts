import { setImmediate } from "node:timers/promises";
import type { PackRecord } from "./pack-format.ts";
import { sortInTurns } from "./sort-in-turns.ts";

/** Names are kept in pieces of this size, none of them in two. */
const namePieceBytes = 16 * 1024;
const slotBytes = 24;
const sumAt = 20;
const directoryFlag = 256;
const entriesPerTurn = 4_096;

/** Where entries go: those of one directory are together, sorted by name, those of the root first. */
export interface Arrangement {
  /** The entries in the order of their records. */
  readonly order: Uint32Array;
  /** By the number of a directory: the position of its first record; one more at the end. */
  readonly firstRecords: Uint32Array;
}

/** What a pack will hold, as entries come: by their numbers, in no order. */
export class PendingRecords {
  /**
   * Per entry: directory it is in, place of its name, length of its name (256 more for a directory), offset or own number
   * as a directory, bytes, sum.
   */
  #slots = Buffer.allocUnsafeSlow(16 * slotBytes);
  readonly #names: Buffer[] = [];
  #namesEnd = 0;
  #entries = 0;
  #directories = 1;

  addDirectory(parent: number, name: string): void {
    this.#add(parent, name, { flags: directoryFlag, first: this.#directories++, bytes: 0 });
  }

  /** Answers with the entry's number. */
  addFile(parent: number, name: string, o: { readonly contentAt: number; readonly bytes: number }): number {
    return this.#add(parent, name, { flags: 0, first: o.contentAt, bytes: o.bytes });
  }

  setSum(entry: number, sum: number): void {
    this.#slots.writeUInt32LE(sum, entry * slotBytes + sumAt);
  }

  name(entry: number): Buffer {
    const { piece, at, end } = this.#place(entry);
    return piece.subarray(at, end);
  }

  record(entry: number, o: { readonly nameAt: number; readonly firstRecords: Uint32Array }): PackRecord {
    const at = entry * slotBytes;
    const length = this.#slots.readUInt32LE(at + 8);
    const first = this.#slots.readUInt32LE(at + 12);
    const name = { nameAt: o.nameAt, nameBytes: length % directoryFlag };
    if (length < directoryFlag) {
      const [bytes, sum] = [this.#slots.readUInt32LE(at + 16), this.#slots.readUInt32LE(at + sumAt)];
      return { kind: "file", ...name, contentAt: first, bytes, sum };
    }
    const [firstRecord = 0, end = 0] = o.firstRecords.subarray(first, first + 2);
    return { kind: "directory", ...name, firstRecord, records: end - firstRecord };
  }

  async arrange(): Promise<Arrangement> {
    const firstRecords = new Uint32Array(this.#directories + 1);
    for (let entry = 0; entry < this.#entries; entry++) add(firstRecords, this.#parent(entry) + 1, 1);
    for (let number = 1; number < firstRecords.length; number++)
      add(firstRecords, number, firstRecords[number - 1] ?? 0);
    const order = new Uint32Array(this.#entries);
    const next = firstRecords.slice();
    for (let entry = 0; entry < this.#entries; entry++) {
      const parent = this.#parent(entry);
      order[next[parent] ?? 0] = entry;
      add(next, parent, 1);
    }
    const compare = (one: number, other: number): number => this.#compare(one, other);
    let sorted = 0;
    for (let directory = 0; directory < this.#directories; directory++) {
      const children = order.subarray(firstRecords[directory], firstRecords[directory + 1]);
      if (children.length > 1) await sortInTurns(children, compare);
      sorted += 1 + children.length;
      if (sorted < entriesPerTurn) continue;
      sorted = 0;
      await setImmediate();
    }
    return { order, firstRecords };
  }

  #add(
    parent: number,
    text: string,
    o: { readonly flags: number; readonly first: number; readonly bytes: number },
  ): number {
    if (text.length >= directoryFlag) throw new RangeError("a name is longer than 255 bytes");
    const at = this.#entries * slotBytes;
    if (at === this.#slots.length) this.#slots = Buffer.concat([this.#slots], 2 * at);
    this.#slots.writeUInt32LE(parent, at);
    this.#slots.writeUInt32LE(this.#addName(text), at + 4);
    this.#slots.writeUInt32LE(text.length + o.flags, at + 8);
    this.#slots.writeUInt32LE(o.first, at + 12);
    this.#slots.writeUInt32LE(o.bytes, at + 16);
    this.#slots.writeUInt32LE(0, at + sumAt);
    return this.#entries++;
  }

  #addName(text: string): number {
    const left = this.#names.length * namePieceBytes - this.#namesEnd;
    if (text.length > left) {
      this.#namesEnd += left;
      this.#names.push(Buffer.allocUnsafeSlow(namePieceBytes));
    }
    const place = this.#namesEnd;
    this.#names.at(-1)?.write(text, place % namePieceBytes, "latin1");
    this.#namesEnd += text.length;
    return place;
  }

  #parent(entry: number): number {
    return this.#slots.readUInt32LE(entry * slotBytes);
  }

  #place(entry: number): { readonly piece: Buffer; readonly at: number; readonly end: number } {
    const place = this.#slots.readUInt32LE(entry * slotBytes + 4);
    const length = this.#slots.readUInt32LE(entry * slotBytes + 8) % directoryFlag;
    const piece = this.#names[Math.floor(place / namePieceBytes)];
    if (piece === undefined) throw new RangeError("no such entry");
    const at = place % namePieceBytes;
    return { piece, at, end: at + length };
  }

  #compare(one: number, other: number): number {
    const [left, right] = [this.#place(one), this.#place(other)];
    return left.piece.compare(right.piece, right.at, right.end, left.at, left.end);
  }
}

function add(numbers: Uint32Array, at: number, more: number): void {
  numbers[at] = (numbers[at] ?? 0) + more;
}
