import { closeSync, fstatSync, openSync, read, readSync } from "node:fs";
import { promisify } from "node:util";
import { PackError } from "./pack-error.ts";

const readLater = promisify(read);

/** So much of the end is read at once: small packs are whole in it, of most others the index. */
const tailBytes = 16 * 1024;
const blockBytes = 16 * 1024;
/** So many blocks are remembered: 4 MiB. */
const mostBlocks = 256;

/** A file of one descriptor that is read here and there, mostly near its end. Disposing closes it. */
export class PackFile implements Disposable {
  readonly bytes: number;
  readonly #tail: Buffer;
  readonly #blocks = new Map<number, Buffer>();
  #descriptor: number;

  /** @throws a file system's error */
  constructor(path: string) {
    this.#descriptor = openSync(path, "r");
    try {
      this.bytes = fstatSync(this.#descriptor).size;
      const length = Math.min(this.bytes, tailBytes);
      this.#tail = this.#readAt(this.bytes - length, length);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * What stands there; not to be changed.
   *
   * @throws {PackError} when the file does not reach there
   */
  range(at: number, length: number): Buffer {
    return this.#inTail(at, length) ?? this.#readAt(at, length);
  }

  /** The same without blocking the thread, into a buffer of the caller. */
  async rangeLater(at: number, into: Buffer): Promise<void> {
    for (let filled = 0; filled < into.length;) {
      const { bytesRead } = await readLater(this.#descriptor, into, filled, into.length - filled, at + filled);
      if (bytesRead === 0) throw new PackError();
      filled += bytesRead;
    }
  }

  /** The same as `range`, for what is short and near to what is asked for next. */
  near(at: number, length: number): Buffer {
    const known = this.#inTail(at, length);
    if (known !== undefined) return known;
    const number = Math.floor(at / blockBytes);
    const start = at - number * blockBytes;
    const first = this.#block(number).subarray(start, start + length);
    if (first.length === length) return first;
    const [next, left] = [this.#block(number + 1), length - first.length];
    if (next.length < left) throw new PackError();
    return Buffer.concat([first, next.subarray(0, left)]);
  }

  [Symbol.dispose](): void {
    if (this.#descriptor < 0) return;
    closeSync(this.#descriptor);
    // Numbers are given to other files again.
    this.#descriptor = -1;
  }

  #inTail(at: number, length: number): Buffer | undefined {
    const start = at - (this.bytes - this.#tail.length);
    if (start < 0) return undefined;
    if (start + length > this.#tail.length) throw new PackError();
    return this.#tail.subarray(start, start + length);
  }

  #block(number: number): Buffer {
    const known = this.#blocks.get(number);
    if (known !== undefined) return known;
    const at = number * blockBytes;
    const block = this.#readAt(at, Math.max(0, Math.min(blockBytes, this.bytes - at)));
    const [oldest] = this.#blocks.keys();
    if (this.#blocks.size >= mostBlocks && oldest !== undefined) this.#blocks.delete(oldest);
    this.#blocks.set(number, block);
    return block;
  }

  #readAt(at: number, length: number): Buffer {
    if (at < 0 || at + length > this.bytes) throw new PackError();
    const bytes = Buffer.allocUnsafeSlow(length);
    for (let filled = 0; filled < length;) {
      const count = readSync(this.#descriptor, bytes, filled, length - filled, at + filled);
      if (count === 0) throw new PackError();
      filled += count;
    }
    return bytes;
  }
}
