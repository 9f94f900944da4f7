import type { EntryKind } from "./entry-names.ts";
import { SourceError } from "./source-error.ts";

/** A piece of an archive, in its order. A file's bodies add up to its size; folders and others have none. */
export type TarPart =
  | { readonly kind: "entry"; readonly name: string; readonly entry: EntryKind; readonly sizeBytes: number }
  | { readonly kind: "body"; readonly bytes: Uint8Array };

/**
 * Reads a tar archive (POSIX ustar and pax, GNU long names, v7) from chunks cut anywhere. Names are binary strings: one
 * character per byte, so that none is lost. The caller bounds what is fed and what is kept; extended headers are bounded
 * here. Of pax only `path` and `size` count, and global ones are passed over, as in Go's archive/tar.
 */
export interface TarParser {
  /** @throws {SourceError} `Malformed`; `TooLarge`, for an extended header over 1 MiB */
  push(chunk: Uint8Array): Generator<TarPart>;
  /** To be called after the last chunk. @throws {SourceError} `Malformed`, when the archive is cut */
  end(): void;
}

const blockBytes = 512;
const mostExtensionBytes = 1024 * 1024;

type Expected =
  | { readonly kind: "header" }
  | { readonly kind: "extension"; readonly type: "x" | "L"; readonly sizeBytes: number }
  /** `paddingBytes` follow the body. */
  | { readonly kind: "body"; leftBytes: number; readonly given: boolean; readonly paddingBytes: number }
  | { readonly kind: "padding"; leftBytes: number }
  | { readonly kind: "nothing" };

interface Extension {
  readonly name?: string;
  readonly sizeBytes?: number;
}

export function createTarParser(): TarParser {
  return new Parser();
}

class Parser implements TarParser {
  #expected: Expected = { kind: "header" };
  #extension: Extension = {};
  /** What is there of a header or extension that is not complete yet. */
  #partial: Uint8Array[] = [];
  #partialBytes = 0;

  *push(chunk: Uint8Array): Generator<TarPart> {
    let rest = chunk;
    while (rest.length > 0) {
      const expected = this.#expected;
      switch (expected.kind) {
        case "header":
        case "extension": {
          const needed = (expected.kind === "header" ? blockBytes : expected.sizeBytes) - this.#partialBytes;
          const piece = rest.subarray(0, needed);
          rest = rest.subarray(piece.length);
          const whole = this.#gather(piece, needed);
          if (whole === undefined) break;
          if (expected.kind === "extension") this.#readExtension(whole, expected);
          else yield* this.#readHeader(whole);
          break;
        }
        case "body": {
          const bytes = rest.subarray(0, expected.leftBytes);
          rest = rest.subarray(bytes.length);
          expected.leftBytes -= bytes.length;
          if (expected.leftBytes === 0) this.#expected = padding(expected.paddingBytes);
          if (expected.given) yield { kind: "body", bytes };
          break;
        }
        case "padding": {
          const skipped = Math.min(expected.leftBytes, rest.length);
          rest = rest.subarray(skipped);
          expected.leftBytes -= skipped;
          if (expected.leftBytes === 0) this.#expected = { kind: "header" };
          break;
        }
        case "nothing":
          if (rest.some((byte) => byte !== 0)) throw malformed("something follows the end of the archive");
          return;
      }
    }
  }

  end(): void {
    const { kind } = this.#expected;
    const whole = kind === "nothing" || kind === "padding" || (kind === "header" && this.#partialBytes === 0);
    if (!whole || Object.keys(this.#extension).length > 0) throw malformed("the archive is cut");
  }

  #gather(piece: Uint8Array, needed: number): Buffer | undefined {
    if (piece.length === needed && this.#partial.length === 0)
      return Buffer.from(piece.buffer, piece.byteOffset, piece.length);
    this.#partial.push(piece);
    this.#partialBytes += piece.length;
    if (piece.length < needed) return undefined;
    const whole = Buffer.concat(this.#partial);
    this.#partial = [];
    this.#partialBytes = 0;
    return whole;
  }

  *#readHeader(header: Buffer): Generator<TarPart> {
    if (header.every((byte) => byte === 0)) {
      this.#expected = { kind: "nothing" };
      return;
    }
    if (checksumOf(header) !== octal(header, 148, 8)) throw malformed("an entry's header has a wrong checksum");
    const type = String.fromCharCode(header[156] ?? 0);
    const declaredBytes = numberAt(header, 124, 12);
    if (type === "x" || type === "L") {
      if (declaredBytes > mostExtensionBytes)
        throw new SourceError("TooLarge", `an extended header is larger than ${mostExtensionBytes} bytes`);
      if (declaredBytes > 0) this.#expected = { kind: "extension", type, sizeBytes: declaredBytes };
      return;
    }
    if (type === "g" || type === "K") {
      this.#expected = body(declaredBytes, false);
      return;
    }
    const { name = nameOf(header), sizeBytes: extendedBytes = declaredBytes } = this.#extension;
    this.#extension = {};
    const entry = kindOf(type, name);
    const sizeBytes = hasNoBody(type) || entry === "folder" ? 0 : extendedBytes;
    this.#expected = body(sizeBytes, entry === "file");
    yield { kind: "entry", name, entry, sizeBytes };
  }

  #readExtension(content: Buffer, { type, sizeBytes }: Extract<Expected, { kind: "extension" }>): void {
    this.#expected = padding(paddingOf(sizeBytes));
    const read = type === "L" ? { name: textUntilNul(content) } : readPax(content);
    this.#extension = { ...this.#extension, ...read };
  }
}

function body(leftBytes: number, given: boolean): Expected {
  const paddingBytes = paddingOf(leftBytes);
  return leftBytes === 0 ? { kind: "header" } : { kind: "body", leftBytes, given, paddingBytes };
}

function padding(leftBytes: number): Expected {
  return leftBytes === 0 ? { kind: "header" } : { kind: "padding", leftBytes };
}

function paddingOf(sizeBytes: number): number {
  return (blockBytes - (sizeBytes % blockBytes)) % blockBytes;
}

function malformed(why: string): SourceError {
  return new SourceError("Malformed", `the content is not a gzipped tar archive: ${why}`);
}

function kindOf(type: string, name: string): EntryKind {
  // Its body is not the file's content; taking it as such would be wrong, leaving it out too.
  if (type === "S") throw malformed("sparse files are not supported");
  if (type === "5") return "folder";
  if (type !== "0" && type !== "\0" && type !== "7") return "other";
  return name.endsWith("/") ? "folder" : "file";
}

/** Hard link, symbolic link, character device, block device, folder, FIFO: whatever size is declared (pax(1)). */
function hasNoBody(type: string): boolean {
  return type >= "1" && type <= "6";
}

function nameOf(header: Buffer): string {
  const name = textUntilNul(header.subarray(0, 100));
  // GNU archives have "ustar " there, and times in place of the prefix.
  const isPosix = header.toString("latin1", 257, 263) === "ustar\0";
  const prefix = isPosix ? textUntilNul(header.subarray(345, 500)) : "";
  return prefix === "" ? name : `${prefix}/${name}`;
}

function textUntilNul(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString("latin1", 0, end < 0 ? bytes.length : end);
}

/** The field itself counts as spaces. */
function checksumOf(header: Buffer): number {
  let sum = 8 * 32;
  for (let at = 0; at < blockBytes; at++) if (at < 148 || at >= 156) sum += header[at] ?? 0;
  return sum;
}

function numberAt(header: Buffer, start: number, bytes: number): number {
  const first = header[start] ?? 0;
  if (first < 0x80) return octal(header, start, bytes);
  // GNU base-256: a number too large for octal digits. The highest bit is a mark, the next one the sign.
  if (first !== 0x80) throw malformed("an entry has a negative size");
  return Number(BigInt(`0x${header.toString("hex", start + 1, start + bytes)}`));
}

function octal(header: Buffer, start: number, bytes: number): number {
  const digits = textUntilNul(header.subarray(start, start + bytes)).trim();
  if (!/^[0-7]*$/.test(digits)) throw malformed("an entry's header holds something that is not a number");
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

/** Records of `<length> <key>=<value>\n`, the length counting itself (pax(1), "pax Extended Header"). */
function readPax(content: Buffer): Extension {
  const found: { name?: string; sizeBytes?: number } = {};
  for (let at = 0; at < content.length;) {
    const space = content.indexOf(0x20, at);
    const digits = space < 0 ? "" : content.toString("latin1", at, Math.min(space, at + 20));
    const end = at + Number(digits);
    const equals = content.indexOf(0x3d, space);
    if (!/^[1-9][0-9]*$/.test(digits) || end > content.length || content[end - 1] !== 0x0a)
      throw malformed("an extended header is not readable");
    if (equals < 0 || equals >= end) throw malformed("an extended header is not readable");
    const key = content.toString("latin1", space + 1, equals);
    const value = content.toString("latin1", equals + 1, end - 1);
    if (key === "path" && value !== "") found.name = value;
    if (key === "size") found.sizeBytes = paxSize(value);
    if (key.startsWith("GNU.sparse.")) throw malformed("sparse files are not supported");
    at = end;
  }
  return found;
}

function paxSize(value: string): number {
  if (!/^[0-9]+$/.test(value)) throw malformed("an extended header is not readable");
  return Number(value);
}
