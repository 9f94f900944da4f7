import { describe, expect, test } from "vitest";
import { artifactCaps } from "./caps.ts";
import { createEntryNames, normalName, type EntryKind } from "./entry-names.ts";

describe("normalName", () => {
  test.each([
    ["a/./b", "a/b"],
    ["a//b", "a/b"],
    ["./a/", "a"],
    ["./", ""],
    ["", ""],
    [".github/x.yaml", ".github/x.yaml"],
    ["a b/…/..c/d..", "a b/…/..c/d.."],
    ["C:/x", "C:/x"],
  ])("%j is %j", (name, expected) => {
    expect(normalName(name, artifactCaps)).toBe(expected);
  });

  const deep = (levels: number): string => Array<string>(levels).fill("d").join("/");
  test.each([
    ...["/a", "/", "//a", "../a", "a/../b", "a/..", "..", "a\\b", "\\\\server\\x", "a\0", "\0"].map((name) => [
      name,
      "Malformed",
    ]),
    ["x".repeat(256), "Malformed"],
    [`${"x".repeat(204)}/`.repeat(5).slice(0, -1) + "y", "TooLarge"],
    [deep(65), "TooLarge"],
  ])("%j is refused", (name = "", reason = "") => {
    expect(() => normalName(name, artifactCaps)).toThrow(expect.objectContaining({ reason }));
  });

  test("[50.38] paths at their caps pass", () => {
    const longest = `${"x".repeat(204)}/`.repeat(5).slice(0, -1);
    expect(normalName(longest, artifactCaps)).toHaveLength(1024);
    expect(normalName(deep(64), artifactCaps)).toBe(deep(64));
    expect(normalName("x".repeat(255), artifactCaps)).toHaveLength(255);
  });
});

describe("createEntryNames", () => {
  const take = (entries: readonly (readonly [string, EntryKind])[], most = 100): readonly unknown[] => {
    const names = createEntryNames({ ...artifactCaps, entries: most });
    return entries.map(([path, kind]) => names.take(path, kind));
  };

  test("folders are numbered as they are named, with those above them", () => {
    const taken = take([
      ["a/b/c", "file"],
      ["a/b/d", "file"],
      ["a/b", "folder"],
      ["a/e", "folder"],
      ["a/e", "folder"],
      ["f", "file"],
    ]);
    expect(taken).toEqual([
      {
        folder: 2,
        fresh: [
          { parent: 0, name: "a" },
          { parent: 1, name: "b" },
        ],
      },
      { folder: 2, fresh: [] },
      { folder: 2, fresh: [] },
      { folder: 3, fresh: [{ parent: 1, name: "e" }] },
      { folder: 3, fresh: [] },
      { folder: 0, fresh: [] },
    ]);
  });

  test.each<readonly [string, readonly (readonly [string, EntryKind])[]]>([
    [
      "two files",
      [
        ["a", "file"],
        ["a", "file"],
      ],
    ],
    [
      "a file and a link",
      [
        ["a", "other"],
        ["a", "file"],
      ],
    ],
    [
      "a file and a folder",
      [
        ["a", "file"],
        ["a", "folder"],
      ],
    ],
    [
      "a folder and a file",
      [
        ["a", "folder"],
        ["a", "file"],
      ],
    ],
    [
      "a file below a file",
      [
        ["a", "file"],
        ["a/b", "file"],
      ],
    ],
    [
      "a file below a link",
      [
        ["a", "other"],
        ["a/b/c", "file"],
      ],
    ],
    ["a file that is the root", [["", "file"]]],
  ])("%s of one name are refused", (_what, entries) => {
    expect(() => take(entries)).toThrow(expect.objectContaining({ reason: "Malformed" }));
  });

  test("[50.38] folders that nobody asked for are bounded as entries are", () => {
    expect(take([["a/b/c", "file"]], 2)).toHaveLength(1);
    expect(() => take([["a/b/c/d", "file"]], 2)).toThrow(expect.objectContaining({ reason: "TooLarge" }));
  });
});
