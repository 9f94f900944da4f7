import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openTree } from "../../src/build/open-tree.ts";
import { scanTree, type TreeFile } from "../../src/build/scan-tree.ts";
import { buildStage, type Built, type BuildRequest } from "../../src/build/build-stage.ts";
import { kustomizeWasm } from "../../src/dev/tools.ts";
import { artifactCaps } from "../../src/source/caps.ts";
import { unpack } from "../../src/source/unpack.ts";
import { filesIn } from "../support/packs.ts";
import { paxRecord, rawEntry, rawTarGz, type RawEntry } from "./artifact-archive.ts";
import { bodies, scopes, startPool, writeTree } from "./build-support.ts";

const pool = startPool();
const { signal } = new AbortController();
let dir: string;
let made = 0;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "packed-"));
});
afterAll(async () => {
  await pool[Symbol.asyncDispose]();
  await rm(dir, { recursive: true });
});

interface Packed extends AsyncDisposable {
  readonly root: string;
  readonly diskBytes: number;
}

async function packed(archive: Buffer): Promise<Packed> {
  const root = join(dir, String(made++));
  await writeFile(`${root}.tar.gz`, archive);
  const { diskBytes } = await unpack(`${root}.tar.gz`, { path: root, caps: artifactCaps, signal });
  await rm(`${root}.tar.gz`);
  return { root, diskBytes, [Symbol.asyncDispose]: () => rm(root) };
}

/** What everything in the folder of the tests takes of the disk, in whole blocks. */
async function takenBytes(): Promise<number> {
  const stats = await Promise.all(
    (await readdir(dir, { recursive: true })).map(async (name) => (await stat(join(dir, name))).blocks * 512),
  );
  return stats.reduce((sum, bytes) => sum + bytes, 0);
}

/** A name of any length, as only an extended header can give it. */
function longNamed(name: string, body: string): Buffer {
  return Buffer.concat([
    rawEntry({ name: "x", type: "x", body: paxRecord("path", name) }),
    rawEntry({ name: "y", body }),
  ]);
}

const count = 100_000;

/** In many gzip members, so that it never lies inflated in memory. */
function archiveOf(entries: number, entry: (index: number) => Buffer): Buffer {
  const members: Buffer[] = [];
  for (let from = 0; from < entries; from += 1_000) {
    const some = Array.from({ length: Math.min(1_000, entries - from) }, (_, index) => entry(from + index));
    members.push(gzipSync(Buffer.concat(some), { level: 1 }));
  }
  return Buffer.concat([...members, gzipSync(Buffer.alloc(1_024))]);
}

/** How often others had their turn while something ran. */
async function turnsDuring(run: () => Promise<void>): Promise<number> {
  let turns = 0;
  let running = true;
  const next = (): void => {
    turns++;
    if (running) setImmediate(next);
  };
  setImmediate(next);
  await run();
  running = false;
  return turns;
}

/** The most that buffers outside of the heap grew by while something ran, bytes. */
async function buffersDuring(run: () => Promise<void>): Promise<number> {
  const before = process.memoryUsage().arrayBuffers;
  let most = before;
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage().arrayBuffers);
  }, 5);
  await run().finally(() => clearInterval(watch));
  return most - before;
}

interface Shape {
  readonly what: string;
  readonly entry: (index: number) => Buffer;
  /** Files and folders, and the sum of their names. */
  readonly records: number;
  readonly nameBytes: number;
}

const shuffled = (index: number): string => `${(index * 7_919) % count}.yaml`;
const shapes: readonly Shape[] = [
  {
    what: "in some folders",
    entry: (index) => rawEntry({ name: `d${index % 97}/${index}.yaml`, body: "a: 1\n" }),
    records: count + 97,
    nameBytes: (count + 97) * 10,
  },
  {
    what: "in one folder, in no order",
    entry: (index) => rawEntry({ name: shuffled(index), body: "a: 1\n" }),
    records: count,
    nameBytes: count * 10,
  },
  {
    what: "with the longest names, each in a folder of its own",
    entry: (index) => longNamed(`${String(index).padEnd(255, "d")}/${shuffled(index).padStart(255, "n")}`, "a: 1\n"),
    records: 2 * count,
    nameBytes: 2 * count * 255,
  },
];

describe("100,000 tiny files", () => {
  test.each(shapes)(
    "[50.38] take their bytes and an index of the disk: $what",
    { timeout: 180_000 },
    async ({ entry, records, nameBytes }) => {
      const archive = archiveOf(count, entry);
      const most = count * 5 + records * 20 + nameBytes + 8_192;
      let artifact: Packed | undefined;
      const buffers = await buffersDuring(async () => {
        artifact = await packed(archive);
      });
      if (artifact === undefined) throw new TypeError("not unpacked");
      await using kept = artifact;
      expect(buffers).toBeLessThan(128 * 1024 * 1024);
      const taken = await takenBytes();
      expect(taken).toBeLessThan(most);
      expect(Math.abs(kept.diskBytes - taken)).toBeLessThan(8_192);
      using tree = await openTree(kept.root);
      let scanned: readonly TreeFile[] = [];
      const turns = await turnsDuring(async () => {
        scanned = (await scanTree(tree, ".")).files;
      });
      // Each time some milliseconds, rather than once for all.
      expect(turns).toBeGreaterThan(50);
      expect(scanned).toHaveLength(count);
      for (let index = 0; index < count; index += 997)
        expect(Buffer.from(tree.read(scanned[index]?.path ?? "")).toString()).toBe("a: 1\n");
    },
  );

  test("[50.38] empty ones count by their index", async () => {
    await using artifact = await packed(archiveOf(20_000, (index) => rawEntry({ name: String(index) })));
    expect(artifact.diskBytes).toBeGreaterThan(20_000 * 20);
    expect(Math.abs(artifact.diskBytes - (await takenBytes()))).toBeLessThan(8_192);
  });
});

describe("a link in an archive", () => {
  test("[50.38] does not take the folder it is in from the files beside it", async () => {
    const entries: readonly RawEntry[] = [
      { name: "d/link", type: "2" },
      { name: "d/file.yaml", body: "x" },
    ];
    await using artifact = await packed(rawTarGz(entries));
    expect(await filesIn(artifact.root)).toEqual({ "d/file.yaml": "x" });
  });
});

type Files = Readonly<Record<string, string>>;

async function outcomeOf(root: string, o: { readonly path: string; readonly patched: boolean }): Promise<unknown> {
  const patch = JSON.stringify({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "a" },
    data: { patched: "yes" },
  });
  const request: BuildRequest = {
    ...{
      root,
      path: o.path,
      patches: o.patched ? [{ patch, target: { kind: "ConfigMap" } }] : [],
      variables: undefined,
    },
    ...{ applyHelmHookResources: true, defaultNamespace: "team" },
    labels: { stage: "web", name: "shop", namespace: "team" },
  };
  const options = { compute: pool, scopes, signal, queue: "team", kustomize: () => kustomizeWasm() };
  const built = await buildStage(request, options).catch((error: unknown) => error);
  if (!(built instanceof Error)) return bodies(built as Built);
  const { name, message, reason } = built as Error & { readonly reason?: string };
  return { name, message, reason };
}

const configMap = (name: string): string => `apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\n`;
const segments = fc.constantFrom("a", "a-b", "a.b", "b", ".hidden", "é");
const fileNames = fc.constantFrom(
  ...["a.yaml", "a-b.yaml", "b.yml", "c.JSON", "d.txt", ".e.yaml", "é.yaml", "kustomization.yaml", "kustomization.yml"],
);
const paths = fc
  .tuple(fc.array(segments, { maxLength: 2 }), fileNames)
  .map(([directories, name]) => [...directories, name].join("/"));

/** Kustomizations refer to what is beside them, most of it there; the other files are ConfigMaps, few of them broken. */
function contentOf(path: string, all: readonly string[], random: number): string {
  if (!/kustomization\.ya?ml$/.test(path))
    return random % 23 === 0
      ? "broken: ["
      : configMap(`n${all.indexOf(path)}${random % 11 === 0 ? "" : `-${random % 5}`}`);
  const directory = path.slice(0, path.lastIndexOf("/") + 1);
  const beside = all
    .filter((other) => other.startsWith(directory) && other !== path)
    .map((other) => other.slice(directory.length).split("/", 1)[0] ?? "")
    .filter((name) => !name.startsWith("kustomization"));
  const resources = [...new Set(beside)].filter((_, index) => (random >> (index % 8)) % 4 !== 0);
  if (random % 13 === 0) resources.push("missing.yaml");
  return JSON.stringify({ resources, ...(random % 3 === 0 ? { namePrefix: "p-" } : {}) });
}

const files = fc.array(fc.tuple(paths, fc.nat(10_000)), { minLength: 1, maxLength: 9 }).map((drawn): Files => {
  const unique = new Map(drawn);
  const all = [...unique.keys()];
  return Object.fromEntries([...unique].map(([path, random]) => [path, contentOf(path, all, random)] as const));
});

describe("a directory and a pack of the same files", () => {
  test("[20.22] render to the same objects, or fail with the same words", { timeout: 120_000 }, async () => {
    const seen = { built: 0, failed: 0 };
    const stagePaths = fc.oneof(
      { weight: 3, arbitrary: fc.constant(".") },
      fc.constantFrom("a", "a/b", ".hidden", "é", "x"),
    );
    await fc.assert(
      fc.asyncProperty(files, stagePaths, fc.nat(3), async (content, path, random) => {
        await using tree = await writeTree(content);
        const entries = Object.entries(content).map(([name, text]): RawEntry => ({
          name: Buffer.from(name).toString("latin1"),
          body: Buffer.from(text),
        }));
        await using artifact = await packed(rawTarGz(entries));
        const how = { path, patched: random === 0 };
        const [ofDirectory, ofPack] = [await outcomeOf(tree.root, how), await outcomeOf(artifact.root, how)];
        expect(ofPack).toEqual(ofDirectory);
        seen[Array.isArray(ofPack) ? "built" : "failed"]++;
      }),
      { numRuns: 30 },
    );
    // Else the trees are drawn badly, and nothing is compared.
    expect(seen.built).toBeGreaterThan(3);
    expect(seen.failed).toBeGreaterThan(1);
  });
});

describe("names that are not UTF-8", () => {
  const beside: RawEntry = { name: "ok.yaml", body: configMap("ok") };
  const building = async (...entries: readonly RawEntry[]): Promise<unknown> => {
    await using artifact = await packed(rawTarGz([beside, ...entries]));
    return await outcomeOf(artifact.root, { path: ".", patched: false });
  };

  test("[50.38] are kept, and in nobody's way", async () => {
    expect(await building({ name: "caf\xe9.txt" }, { name: ".\xff/x.yaml" })).toHaveLength(1);
  });

  test("[50.38] are not left out when they are to be built", async () => {
    for (const name of ["caf\xe9.yaml", "caf\xe9/x.yaml"])
      expect(await building({ name, body: configMap("x") })).toMatchObject({
        reason: "Invalid",
        message: expect.stringContaining("its name is not UTF-8") as string,
      });
  });
});

describe("a damaged pack", () => {
  test.each([
    ["index, seen at once", 10, -40],
    ["content of a small build", 10, 30],
    ["content that a worker reads", 200_000, 100_000],
  ])("is told as what it is, and may be tried again: %s", async (_what, bytes, at) => {
    await using artifact = await packed(
      rawTarGz([{ name: "a.yaml", body: `${configMap("x")}# ${"x".repeat(bytes)}\n` }]),
    );
    const { root } = artifact;
    expect(await outcomeOf(root, { path: ".", patched: false })).toHaveLength(1);
    await using changed = await damage(root, at);
    expect(await outcomeOf(changed.root, { path: ".", patched: false })).toEqual({
      ...{ name: "BuildError", reason: "Damaged" },
      message: "Cannot build: what is kept of the artifact is damaged",
    });
  });
});

/** A copy with one byte changed; counted from the end, when negative. */
async function damage(path: string, at: number): Promise<{ readonly root: string } & AsyncDisposable> {
  const bytes = await readFile(path);
  const place = at < 0 ? bytes.length + at : at;
  bytes[place] = (bytes[place] ?? 0) ^ 1;
  await writeFile(`${path}.damaged`, bytes);
  return { root: `${path}.damaged`, [Symbol.asyncDispose]: () => rm(`${path}.damaged`) };
}
