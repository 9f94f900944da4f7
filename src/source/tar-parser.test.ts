import fc from "fast-check";
import { pack } from "tar-stream";
import { describe, expect, test } from "vitest";
import { paxRecord, rawEntry, rawTar, type RawEntry } from "../../test/protocol/artifact-archive.ts";
import { createTarParser } from "./tar-parser.ts";

interface ReadEntry {
  readonly name: string;
  readonly entry: string;
  readonly body: string;
}

function read(archive: Buffer, cuts: readonly number[] = []): readonly ReadEntry[] {
  const parser = createTarParser();
  const entries: { name: string; entry: string; body: string }[] = [];
  const edges = [0, ...[...cuts].map((cut) => cut % (archive.length + 1)).sort((a, b) => a - b), archive.length];
  for (const [index, start] of edges.slice(0, -1).entries()) {
    for (const part of parser.push(archive.subarray(start, edges[index + 1]))) {
      const last = entries.at(-1);
      if (part.kind === "entry") entries.push({ name: part.name, entry: part.entry, body: "" });
      else if (last !== undefined) last.body += Buffer.from(part.bytes).toString("latin1");
    }
  }
  parser.end();
  return entries;
}

function file(name: string, body = ""): ReadEntry {
  return { name, entry: "file", body };
}

const bodyless = ["1", "2", "3", "4", "6"];
const long = `${"d".repeat(90)}/${"f".repeat(90)}`;
const rows: readonly (readonly [string, readonly RawEntry[], readonly ReadEntry[]])[] = [
  [
    "files and folders",
    [
      { name: "a", body: "x" },
      { name: "d/", type: "5" },
    ],
    [file("a", "x"), { ...file("d/"), entry: "folder" }],
  ],
  [
    "an old file with a slash is a folder",
    [{ name: "d/", type: "\0", magic: "" }],
    [{ ...file("d/"), entry: "folder" }],
  ],
  ["the oldest format", [{ name: "a", body: "x", type: "\0", magic: "", prefix: "no" }], [file("a", "x")]],
  ["a contiguous file is a file", [{ name: "a", body: "x", type: "7" }], [file("a", "x")]],
  ["a POSIX prefix", [{ name: "b", prefix: "a" }], [file("a/b")]],
  ["no prefix in GNU archives", [{ name: "b", prefix: "123", magic: "ustar  \0" }], [file("b")]],
  [
    "a GNU long name",
    [
      { name: "@LongLink", type: "L", body: `${long}\0` },
      { name: "cut", body: "x" },
    ],
    [file(long, "x")],
  ],
  [
    "a GNU long link name is for a link",
    [
      { name: "@", type: "K", body: "x".repeat(600) },
      { name: "l", type: "2" },
    ],
    [{ ...file("l"), entry: "other" }],
  ],
  [
    "a pax path",
    [{ name: "x", type: "x", body: paxRecord("path", long) }, { name: "cut", body: "x" }, { name: "b" }],
    [file(long, "x"), file("b")],
  ],
  [
    "a pax size",
    [
      { name: "x", type: "x", body: paxRecord("size", "3") },
      { name: "a", body: "abc", sizeBytes: 0 },
    ],
    [file("a", "abc")],
  ],
  [
    "an empty pax path counts for nothing",
    [{ name: "x", type: "x", body: paxRecord("path", "") }, { name: "a" }],
    [file("a")],
  ],
  [
    "global pax headers are passed over",
    [{ name: "g", type: "g", body: paxRecord("path", "evil") }, { name: "a" }],
    [file("a")],
  ],
  [
    "a pax value may hold what separates",
    [{ name: "x", type: "x", body: paxRecord("path", "a=b\nc") }, { name: "y" }],
    [file("a=b\nc")],
  ],
  [
    "links and devices have no body, whatever they say",
    bodyless.map((type) => ({ name: type, type, sizeBytes: 99 })),
    bodyless.map((name) => ({ ...file(name), entry: "other" })),
  ],
  [
    "an unknown type's body is passed over",
    [{ name: "v", type: "V", body: "x".repeat(700) }, { name: "a" }],
    [{ ...file("v"), entry: "other" }, file("a")],
  ],
  ["names keep their bytes", [{ name: "\xff\xfe \xe9" }], [file("\xff\xfe \xe9")]],
  ["nothing", [], []],
];

describe("createTarParser", () => {
  test.each(rows)("%s", (_what, entries, expected) => {
    expect(read(rawTar(entries))).toEqual(expected);
  });

  test("any cut of the bytes reads the same", () => {
    const archive = rawTar(rows.flatMap(([, entries]) => entries));
    const whole = read(archive);
    fc.assert(
      fc.property(fc.array(fc.nat({ max: archive.length }), { maxLength: 60 }), (cuts) => {
        expect(read(archive, cuts)).toEqual(whole);
      }),
    );
    expect(read(archive, Array.from(archive.keys()))).toEqual(whole);
  });

  test("reads what another program packs", async () => {
    const name = fc.string({ unit: "grapheme", minLength: 1, maxLength: 200 }).filter((text) => !/\0|\/$/.test(text));
    const files = fc.array(fc.tuple(name, fc.uint8Array({ maxLength: 1_500 })), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(files, async (wanted) => {
        const archive = pack();
        const chunks: Uint8Array[] = [];
        archive.on("data", (chunk) => {
          if (chunk instanceof Uint8Array) chunks.push(chunk);
        });
        for (const [path, body] of wanted) archive.entry({ name: path }, Buffer.from(body));
        archive.finalize();
        await new Promise<void>((resolve) => {
          archive.once("end", () => resolve());
        });
        expect(read(Buffer.concat(chunks))).toEqual(
          wanted.map(([path, body]) =>
            file(Buffer.from(path).toString("latin1"), Buffer.from(body).toString("latin1")),
          ),
        );
      }),
      { numRuns: 60 },
    );
  });

  const base256 = (first: number): Buffer => {
    const header = rawEntry({ name: "a" });
    header.fill(0, 124, 136);
    header[124] = first;
    header[135] = 1;
    header.write("        ", 148);
    header.write(
      `${header
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, "0")}\0 `,
      148,
    );
    return Buffer.concat([header, Buffer.from("x"), Buffer.alloc(511)]);
  };
  test("a size in base 256", () => {
    expect(read(base256(0x80))).toEqual([file("a", "x")]);
  });

  const pax = (body: string): Buffer => rawTar([{ name: "x", type: "x", body }, { name: "a" }]);
  test.each([
    ["a wrong checksum", Buffer.alloc(512, 1), "Malformed"],
    ["a header that is cut", rawTar([{ name: "a" }]).subarray(0, 100), "Malformed"],
    ["a body that is cut", rawTar([{ name: "a", body: "abc" }]).subarray(0, 514), "Malformed"],
    ["an extended header for nothing", rawEntry({ name: "x", type: "x", body: paxRecord("path", "a") }), "Malformed"],
    ["something behind the end", Buffer.concat([rawTar([]), rawEntry({ name: "a" })]), "Malformed"],
    ["a negative size", base256(0xff), "Malformed"],
    ["a sparse file", rawTar([{ name: "a", type: "S" }]), "Malformed"],
    ["a sparse file of pax", pax(paxRecord("GNU.sparse.major", "1")), "Malformed"],
    ["a pax record longer than there is", pax("99 path=a\n"), "Malformed"],
    ["a pax record without a length", pax("path=a\n"), "Malformed"],
    ["a pax record of length 0", pax("0 path=a\n"), "Malformed"],
    ["a pax record without a value", pax("7 path\n"), "Malformed"],
    ["a pax record without its end", pax("9 path=ab"), "Malformed"],
    ["a pax size that is no number", pax(paxRecord("size", "-1")), "Malformed"],
    ["a huge extended header", rawEntry({ name: "x", type: "x", sizeBytes: 1024 * 1024 + 1 }), "TooLarge"],
  ])("%s is refused", (_what, archive, reason) => {
    expect(() => read(archive)).toThrow(expect.objectContaining({ reason }));
  });

  test("whatever comes, it is read or refused", () => {
    const archive = rawTar([
      { name: "x", type: "x", body: paxRecord("path", "some/path") },
      { name: "a", body: "abc" },
    ]);
    fc.assert(
      fc.property(fc.nat({ max: archive.length - 1 }), fc.nat({ max: 255 }), (at, byte) => {
        const spoiled = Buffer.from(archive);
        spoiled[at] = byte;
        try {
          read(spoiled);
        } catch (error) {
          expect(error).toHaveProperty("name", "SourceError");
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
