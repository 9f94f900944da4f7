import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ArtifactTree } from "./artifact-tree.ts";
import { footerBytes } from "./pack-format.ts";
import { openPack } from "./pack-tree.ts";
import { PackWriter } from "./pack-writer.ts";

let dir: string;
let made = 0;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "pack-"));
});
afterAll(() => rm(dir, { recursive: true }));

/** By binary name: contents, or what is in a directory. */
interface Files {
  readonly [name: string]: Buffer | Files;
}

const fresh = (): string => join(dir, String(made++));

async function packed(files: Files): Promise<string> {
  const path = fresh();
  await using pack = new PackWriter(path);
  let directories = 0;
  const add = async (parent: number, content: Files): Promise<void> => {
    for (const [name, value] of Object.entries(content)) {
      if (Buffer.isBuffer(value)) {
        pack.addFile(parent, name, value.length);
        // In pieces, as an archive comes.
        for (let at = 0; at < value.length; at += 50_000) await pack.write(value.subarray(at, at + 50_000));
      } else {
        pack.addDirectory(parent, name);
        await add(++directories, value);
      }
    }
  };
  await add(0, files);
  expect(await pack.finish()).toBe((await stat(path)).size);
  return path;
}

const binary = (text: string): string => Buffer.from(text).toString("latin1");
const utf8 = (name: string): string => Buffer.from(name, "latin1").toString("utf8");

/** What a tree tells of everything in it. */
function told(tree: ArtifactTree, path = ""): unknown {
  return [...tree.list(path)].map(({ name, kind, addressable, ...more }) => {
    const below = path === "" ? name : `${path}/${name}`;
    if (!addressable) return { name, kind, addressable };
    const { kind: found, ...foundMore } = tree.find(below) ?? { kind: "nothing" };
    expect({ kind: found, ...foundMore }).toEqual({ kind, ...more });
    return kind === "directory"
      ? { name, in: told(tree, below) }
      : { name, is: Buffer.from(tree.read(below)).toString("latin1") };
  });
}

/** The same of what went in. */
function expected(files: Files): unknown {
  const names = Object.keys(files).sort((one, other) =>
    Buffer.from(one, "latin1").compare(Buffer.from(other, "latin1")),
  );
  return names.map((key) => {
    const value = files[key] ?? {};
    const name = utf8(key);
    const kind = Buffer.isBuffer(value) ? "file" : "directory";
    if (binary(name) !== key) return { name, kind, addressable: false };
    return Buffer.isBuffer(value) ? { name, is: value.toString("latin1") } : { name, in: expected(value) };
  });
}

const names = fc.oneof(
  fc.constantFrom(
    "a",
    "b.yaml",
    "kustomization.yaml",
    ".x",
    "..x",
    "a b",
    "__proto__x",
    binary("é"),
    "\xe9",
    "\xff\xfe",
  ),
  fc.string({ minLength: 1, maxLength: 12 }).map((text) => binary(text.replace(/[/\0\\]/g, "-"))),
);
const contents = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.integer({ min: 0, max: 300_000 }).map((length) => Buffer.alloc(length, "x")),
);
const trees = fc.letrec<{ tree: Files }>((tie) => ({
  tree: fc.dictionary(
    names,
    fc.oneof(
      { depthSize: "small" },
      contents.map((bytes) => Buffer.from(bytes)),
      tie("tree"),
    ),
    {
      maxKeys: 8,
    },
  ),
})).tree;

describe("a pack", () => {
  test("holds what went in, by the byte order of names", async () => {
    await fc.assert(
      fc.asyncProperty(trees, async (files) => {
        using tree = await openPack(await packed(files));
        expect(told(tree)).toEqual(expected(files));
      }),
      { numRuns: 30 },
    );
  });

  test.each([
    ["some hundred entries in a directory", 700, 20],
    ["so many that the index is read in parts", 30_000, 20],
    ["long names", 6_000, 250],
  ])("%s", async (_what, count, length) => {
    const numbered = (index: number): string => `${(index * 7_919) % count}`.padStart(length, "n");
    const flat = Object.fromEntries(
      Array.from({ length: count }, (_, index) => [numbered(index), Buffer.from(String(index))] as const),
    );
    using tree = await openPack(await packed({ deep: { er: flat }, z: Buffer.from("z") }));
    const listed = [...tree.list("deep/er")].map(({ name }) => name);
    expect(listed).toEqual(Object.keys(flat).sort());
    for (let index = 0; index < count; index += 13)
      expect(Buffer.from(tree.read(`deep/er/${numbered(index)}`)).toString()).toBe(String(index));
    expect(tree.find("z")).toEqual({ kind: "file", bytes: 1 });
    expect(tree.find(`deep/er/${"n".repeat(length)}`)).toBeUndefined();
  });

  test("has nothing at paths that lead elsewhere, or nowhere", async () => {
    using tree = await openPack(await packed({ a: { b: Buffer.from("b") }, c: Buffer.from("c") }));
    for (const path of [
      "..",
      "../a",
      "a/..",
      "a/../c",
      ".",
      "./c",
      "/c",
      "a/",
      "a//b",
      "c/",
      "c/d",
      "a/b/c",
      "x",
      "\0",
    ])
      expect([path, tree.find(path), [...tree.list(path)]]).toEqual([path, undefined, []]);
    for (const path of ["a", "", "x", "../c"]) expect(() => tree.read(path)).toThrow(RangeError);
    expect(tree.find("")).toEqual({ kind: "directory" });
    expect([...tree.list("c")]).toEqual([]);
  });

  test("knows its totals", async () => {
    using tree = await openPack(await packed({ a: { b: Buffer.from("12") }, c: Buffer.from("345") }));
    expect(tree.isBiggerThan({ bytes: 5, entries: 3 })).toBe(false);
    expect(tree.isBiggerThan({ bytes: 4, entries: 3 })).toBe(true);
    expect(tree.isBiggerThan({ bytes: 5, entries: 2 })).toBe(true);
  });

  test("takes its bytes, a record and a name for each entry, and the footer", async () => {
    const files = { d: { empty: Buffer.alloc(0) }, "a.yaml": Buffer.from("abc") };
    expect((await stat(await packed(files))).size).toBe(
      3 + 3 * 20 + "d".length + "empty".length + "a.yaml".length + footerBytes,
    );
  });

  test.each([1, -1])("is not made of a file that has %i byte more than announced", async (more) => {
    await using pack = new PackWriter(fresh());
    pack.addFile(0, "a", 10);
    const written = async (): Promise<unknown> => {
      await pack.write(Buffer.alloc(10 + more));
      return pack.finish();
    };
    await expect(written()).rejects.toThrow(RangeError);
  });

  test("is not written over another file", async () => {
    const path = fresh();
    await writeFile(path, "here");
    for (const bytes of [1, 1_000_000]) {
      await using pack = new PackWriter(path);
      const written = async (): Promise<unknown> => {
        pack.addFile(0, "a", bytes);
        await pack.write(Buffer.alloc(bytes));
        return pack.finish();
      };
      await expect(written()).rejects.toMatchObject({ code: "EEXIST" });
    }
    expect(await readFile(path, "utf8")).toBe("here");
  });
});

describe("a damaged pack", () => {
  const damaged = { name: "PackError", reason: "Damaged", retry: "backoff" };
  /** Opens it and reads everything. */
  const failureOf = async (bytes: Buffer): Promise<unknown> => {
    const path = fresh();
    await writeFile(path, bytes);
    try {
      using tree = await openPack(path);
      return told(tree);
    } catch (error) {
      return error;
    } finally {
      await rm(path);
    }
  };
  const files = { "a.yaml": Buffer.from("kind: A\n"), d: { "b.yaml": Buffer.alloc(100, "b"), e: {} } };

  test("is never taken for a whole one: cut anywhere", async () => {
    const sound = await readFile(await packed(files));
    for (let length = 0; length < sound.length; length++)
      expect([length, await failureOf(sound.subarray(0, length))]).toMatchObject([length, damaged]);
    expect(await failureOf(Buffer.concat([sound, Buffer.alloc(1)]))).toMatchObject(damaged);
    expect(await failureOf(sound.subarray(1))).toMatchObject(damaged);
    expect(await failureOf(sound)).toEqual(expected(files));
  });

  test("is never taken for a whole one: any byte changed", async () => {
    const sound = await readFile(await packed(files));
    for (let at = 0; at < sound.length; at++) {
      const changed = Buffer.from(sound);
      changed[at] = (changed[at] ?? 0) ^ 0x10;
      expect([at, await failureOf(changed)]).toMatchObject([at, damaged]);
    }
  });

  test("is never taken for a whole one: a large index, changed or cut", async () => {
    const many = Object.fromEntries(Array.from({ length: 60_000 }, (_, at) => [`f${at}`, Buffer.alloc(0)] as const));
    const sound = await readFile(await packed({ ...many, z: Buffer.alloc(1_000) }));
    for (const at of [1_000, 500_000, 1_100_000, sound.length - footerBytes - 1]) {
      const changed = Buffer.from(sound);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect([at, await failureOf(changed)]).toMatchObject([at, damaged]);
      expect([at, await failureOf(sound.subarray(0, at))]).toMatchObject([at, damaged]);
      // A hole in the middle, with the end where it belongs.
      const hole = Buffer.concat([sound.subarray(0, at), sound.subarray(at + 1)]);
      expect([at, await failureOf(hole)]).toMatchObject([at, damaged]);
    }
  });

  test("is what a writer leaves that did not come to its end", async () => {
    const path = fresh();
    {
      await using pack = new PackWriter(path);
      pack.addFile(0, "a", 1_000_000);
      await pack.write(Buffer.alloc(1_000_000));
    }
    expect((await stat(path)).size).toBe(1_000_000);
    await expect(openPack(path)).rejects.toMatchObject(damaged);
  });
});
