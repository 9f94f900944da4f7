import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readLadderTree } from "./ladder-tree.ts";
import { readTextFile } from "./text-file.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "ladder-"));
});
afterEach(() => rmSync(root, { recursive: true }));

function write(files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}
async function shown(path: string): Promise<readonly string[]> {
  const tree = await readLadderTree(root, path);
  if (tree.kind !== "files") throw new Error(tree.kind);
  return tree.files.map((file) => (file.kind === "documents" ? file.path : `${file.path}: ${file.problem}`));
}

describe("files of a ladder", () => {
  test("in byte order of their whole paths, below the path alone, without what begins with a dot", async () => {
    write({
      "m/b.yaml": "",
      "m/a/z.yml": "",
      "m/a.yaml": "",
      "m/a-b/c.JSON": "null",
      "m/.git/x.yaml": "",
      "m/a/.x.yaml": "",
      "m/readme.md": "",
      "other.yaml": "",
    });
    expect(await shown("./m/")).toEqual(["a-b/c.JSON", "a.yaml", "a/z.yml", "b.yaml"]);
    expect(await shown("")).toContain("other.yaml");
    expect(await shown("m/b.yaml")).toEqual(["m/b.yaml"]);
  });

  test.each([
    ["../x", /nothing at spec\.migrationsSourceRef\.path/],
    ["none", /nothing at spec\.migrationsSourceRef\.path/],
    ["readme.md", /^readme\.md: is no \.yaml, \.yml or \.json file/],
  ])("nothing else is one: %s", async (path, problem) => {
    write({ "readme.md": "" });
    expect((await shown(path)).join()).toMatch(problem);
  });

  test("more than 1,000, or than 1 MiB of them, are refused", async () => {
    write(Object.fromEntries(Array.from({ length: 1_001 }, (_, index) => [`m/${index}.yaml`, ""])));
    expect(await shown("m")).toEqual(["m: holds more than 1000 files of migrations"]);
    const half = `# ${" ".repeat(512 * 1024)}`;
    write({ "n/a.yaml": half, "n/b.yaml": half });
    expect((await shown("n")).at(-1)).toMatch(
      /^b\.yaml: makes the ladder larger than 1048576 bytes: give long content to steps as artifacts/,
    );
  });
});

describe("a small file", () => {
  test.each([
    ["./a/VERSION", { kind: "text", text: "1.2.0\n" }],
    ["a/../a//VERSION", { kind: "text", text: "1.2.0\n" }],
    ["../VERSION", { kind: "unreadable", problem: "is not there: the artifact has no such file" }],
    ["a", { kind: "unreadable", problem: "is not there: the artifact has no such file" }],
    ["LONG", { kind: "unreadable", problem: "has 300 bytes, more than 256" }],
  ])("%s", async (path, reading) => {
    write({ "a/VERSION": "1.2.0\n", LONG: "1".repeat(300) });
    expect(await readTextFile(root, { path, mostBytes: 256 })).toEqual(reading);
  });

  test("of bytes that are no text", async () => {
    writeFileSync(join(root, "V"), Buffer.from([0xff, 0xfe]));
    expect(await readTextFile(root, { path: "V", mostBytes: 256 })).toMatchObject({ problem: "is not UTF-8 text" });
  });
});
