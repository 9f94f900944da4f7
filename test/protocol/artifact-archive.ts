import { gzipSync } from "node:zlib";

/** One entry of an archive, as raw as it can be asked for. */
export interface RawEntry {
  /** A binary string. */
  readonly name: string;
  readonly body?: string | Buffer;
  /** Default `0`, a regular file. */
  readonly type?: string;
  /** What the header says; default the length of the body. */
  readonly sizeBytes?: number;
  /** Default `ustar\0` and version `00`. */
  readonly magic?: string;
  readonly prefix?: string;
}

/** The bytes of one entry: header, body, padding. */
export function rawEntry({
  name,
  body = "",
  type = "0",
  sizeBytes,
  magic = "ustar\x0000",
  prefix = "",
}: RawEntry): Buffer {
  const content = Buffer.isBuffer(body) ? body : Buffer.from(body, "latin1");
  const header = Buffer.alloc(512);
  const put = (text: string, at: number): number => header.write(text, at, "latin1");
  put(name.slice(0, 100), 0);
  put("0000644\0", 100);
  put("0000000\0", 108);
  put("0000000\0", 116);
  put(`${(sizeBytes ?? content.length).toString(8).padStart(11, "0")}\0`, 124);
  put("00000000000\0", 136);
  put("        ", 148);
  put(type, 156);
  put(magic, 257);
  put(prefix, 345);
  put(
    `${header
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, "0")}\0 `,
    148,
  );
  return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

/** A pax record; its length counts itself. */
export function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}

/** A tar archive with its end. */
export function rawTar(entries: readonly RawEntry[]): Buffer {
  return Buffer.concat([...entries.map(rawEntry), Buffer.alloc(1024)]);
}

/** The same, as an artifact is served. */
export function rawTarGz(entries: readonly RawEntry[]): Buffer {
  return gzipSync(rawTar(entries), { level: 1 });
}
