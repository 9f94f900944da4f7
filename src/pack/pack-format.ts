import { crc32 } from "node:zlib";
import { PackError } from "./pack-error.ts";

/**
 * A pack is one file: the contents of all files one after another, a record per file and directory, the names that records
 * point into, and the footer. The records of a directory are together, in the byte order of their names, those of the root
 * first; a directory comes before what it holds. Names are segments, not paths. Numbers are little-endian, offsets in bytes.
 *
 * The footer is written last and tells the length of everything and a checksum: a file that is cut anywhere has none.
 */
export interface Footer {
  readonly records: number;
  /** Records of the root directory. */
  readonly rootRecords: number;
  /** The sum of all files; here the records begin. */
  readonly contentBytes: number;
  readonly nameBytes: number;
  /** CRC-32 of records and names. */
  readonly indexSum: number;
}

export const footerBytes = 32;
export const recordBytes = 20;
const magic = Buffer.from("STSPACK1", "latin1");

export type PackRecord = {
  /** Below the start of the names. */
  readonly nameAt: number;
  /** At most 255. */
  readonly nameBytes: number;
} & (
  | { readonly kind: "file"; readonly contentAt: number; readonly bytes: number; readonly sum: number }
  | { readonly kind: "directory"; readonly firstRecord: number; readonly records: number }
);

export function writeFooter({ records, rootRecords, contentBytes, nameBytes, indexSum }: Footer): Buffer {
  const bytes = Buffer.alloc(footerBytes);
  magic.copy(bytes);
  bytes.writeUInt32LE(records, 8);
  bytes.writeUInt32LE(rootRecords, 12);
  bytes.writeUInt32LE(contentBytes, 16);
  bytes.writeUInt32LE(nameBytes, 20);
  bytes.writeUInt32LE(indexSum, 24);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 28)), 28);
  return bytes;
}

/**
 * The footer of a pack that is so many bytes long.
 *
 * @throws {PackError}
 */
export function readFooter(bytes: Buffer, packBytes: number): Footer {
  if (bytes.length !== footerBytes || !bytes.subarray(0, 8).equals(magic)) throw new PackError();
  if (bytes.readUInt32LE(28) !== crc32(bytes.subarray(0, 28))) throw new PackError();
  const footer = {
    records: bytes.readUInt32LE(8),
    rootRecords: bytes.readUInt32LE(12),
    contentBytes: bytes.readUInt32LE(16),
    nameBytes: bytes.readUInt32LE(20),
    indexSum: bytes.readUInt32LE(24),
  };
  if (footer.contentBytes + indexBytes(footer) + footerBytes !== packBytes) throw new PackError();
  return footer;
}

/** Records and names. */
export function indexBytes({ records, nameBytes }: Pick<Footer, "records" | "nameBytes">): number {
  return records * recordBytes + nameBytes;
}

export function writeRecord(bytes: Buffer, at: number, record: PackRecord): void {
  const isFile = record.kind === "file";
  bytes.writeUInt32LE(record.nameAt, at);
  bytes.writeUInt32LE(record.nameBytes + (isFile ? 0 : 256), at + 4);
  bytes.writeUInt32LE(isFile ? record.contentAt : record.firstRecord, at + 8);
  bytes.writeUInt32LE(isFile ? record.bytes : record.records, at + 12);
  bytes.writeUInt32LE(isFile ? record.sum : 0, at + 16);
}

export function readRecord(bytes: Buffer): PackRecord {
  const nameAt = bytes.readUInt32LE(0);
  const nameBytes = bytes.readUInt8(4);
  const [first, second] = [bytes.readUInt32LE(8), bytes.readUInt32LE(12)];
  return bytes.readUInt8(5) === 0
    ? { kind: "file", nameAt, nameBytes, contentAt: first, bytes: second, sum: bytes.readUInt32LE(16) }
    : { kind: "directory", nameAt, nameBytes, firstRecord: first, records: second };
}
