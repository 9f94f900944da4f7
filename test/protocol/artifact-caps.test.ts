import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../src/lib/clock.ts";
import { createGuardedFetch } from "../../src/outbound/guard.ts";
import { createArtifactStore, type ArtifactStore } from "../../src/source/artifact-store.ts";
import { artifactCaps, type ArtifactCaps } from "../../src/source/caps.ts";
import { unpack } from "../../src/source/unpack.ts";
import { sha256, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { filesIn } from "../support/packs.ts";
import { paxRecord, rawEntry, rawTar, rawTarGz, type RawEntry } from "./artifact-archive.ts";

const never = { signal: new AbortController().signal, tenant: "team" } as const;
const mebibyte = 1024 * 1024;

interface World {
  readonly server: ArtifactServer;
  readonly store: ArtifactStore;
}

async function startWorld(caps: Partial<ArtifactCaps> = {}): Promise<World> {
  const server = await startArtifactServer();
  const dir = await mkdtemp(join(tmpdir(), "artifact-test-"));
  const fetch = createGuardedFetch({ allowLoopback: true, clock: systemClock });
  const store = createArtifactStore({ dir, fetch, clock: systemClock, caps: { ...artifactCaps, ...caps } });
  onTestFinished(async () => {
    // A refused artifact leaves nothing behind.
    const [home] = await readdir(dir);
    const left = home === undefined ? [] : await readdir(join(dir, home));
    await store[Symbol.asyncDispose]();
    await rm(dir, { recursive: true });
    await server.stop();
    expect(left.filter((name) => name.endsWith(".gz"))).toEqual([]);
  });
  return { server, store };
}

/** The files that came of it, or the reason of its refusal, which must be a terminal one. */
async function outcomeOf({ server, store }: World, body: Buffer): Promise<unknown> {
  server.serve("/a", body);
  try {
    await using opened = await store.open({ url: `${server.url}/a`, digest: sha256(body) }, never);
    return await filesIn(opened.root);
  } catch (error) {
    if (!(error instanceof Error && "reason" in error && "retry" in error)) throw error;
    expect(error.retry).toBe("never");
    return error.reason;
  }
}

/** The most that memory grew while `run` did, bytes. */
async function growthDuring(run: () => Promise<void>): Promise<number> {
  const before = process.memoryUsage().rss;
  let most = before;
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage().rss);
  }, 5);
  try {
    await run();
  } finally {
    clearInterval(watch);
  }
  return Math.max(most, process.memoryUsage().rss) - before;
}

describe("a value at a cap passes, one more does not", () => {
  const entries: readonly RawEntry[] = [
    { name: "a/b.yaml", body: "x".repeat(700) },
    { name: "big.bin", body: "y".repeat(90_000) },
    { name: "link", type: "2" },
    { name: "c.yaml", body: "z".repeat(30) },
  ];
  const body = rawTarGz(entries);
  const exact: readonly (readonly [keyof ArtifactCaps, number])[] = [
    ["bodyBytes", body.length],
    ["inflatedBytes", gunzipSync(body).length],
    ["entryBytes", 90_000],
    ["keptBytes", 90_730],
    ["entries", 4],
    ["pathBytes", 8],
    ["pathDepth", 2],
  ];
  test.each(exact)("%s", async (cap, value) => {
    expect(await outcomeOf(await startWorld({ [cap]: value }), body)).toHaveProperty(["c.yaml"]);
    expect(await outcomeOf(await startWorld({ [cap]: value - 1 }), body)).toBe("TooLarge");
  });

  test("[20.24] [50.38] the body, when the server does not say how long it is", async () => {
    const { server, store } = await startWorld();
    server.serve("/a", { kind: "endless" });
    const growth = await growthDuring(async () => {
      const opened = store.open({ url: `${server.url}/a`, digest: sha256(body) }, never);
      await expect(opened).rejects.toMatchObject({ reason: "TooLarge", retry: "never" });
    });
    expect(growth).toBeLessThan(128 * mebibyte);
  });

  test("[20.24] [50.38] the size that a header says is enough to refuse an entry", async () => {
    const lies = gzipSync(rawEntry({ name: "a", sizeBytes: 16 * mebibyte + 1 }));
    expect(await outcomeOf(await startWorld(), lies)).toBe("TooLarge");
    const pax = rawTarGz([{ name: "x", type: "x", body: paxRecord("size", "99999999999999999999") }, { name: "a" }]);
    expect(await outcomeOf(await startWorld(), pax)).toBe("TooLarge");
    const cut = gzipSync(rawEntry({ name: "a", sizeBytes: 16 * mebibyte }));
    expect(await outcomeOf(await startWorld(), cut)).toBe("Malformed");
  });
});

describe("at its real size", () => {
  const quarter = Buffer.alloc(16 * mebibyte, "a");

  test("[20.24] [50.38] 64 MiB in files of 16 MiB pass; one byte more in a file, or in all, does not", async () => {
    const four: readonly RawEntry[] = ["a", "b", "c", "d"].map((name) => ({ name, body: quarter }));
    const atCap = rawTarGz(four);
    const overAll = rawTarGz([...four, { name: "e", body: "x" }]);
    const overOne = rawTarGz([{ name: "a", body: Buffer.concat([quarter, Buffer.from("x")]) }]);
    const world = await startWorld();
    const growth = await growthDuring(async () => {
      for (const [packed, reason] of [[atCap], [overAll, "TooLarge"], [overOne, "TooLarge"]] as const) {
        world.server.serve("/a", packed);
        const opening = world.store.open({ url: `${world.server.url}/a`, digest: sha256(packed) }, never);
        if (reason === undefined) await (await opening)[Symbol.asyncDispose]();
        else await expect(opening).rejects.toMatchObject({ reason });
      }
    });
    expect(growth).toBeLessThan(128 * mebibyte);
  });

  test("[20.24] [50.38] 512 MiB inflated pass; one byte more does not", async () => {
    // Passed over, so that no other cap is met.
    const distinct = Array.from({ length: 32 }, (_, index) =>
      gzipSync(rawEntry({ name: `v${index}`, type: "V", body: Buffer.alloc(16 * mebibyte - 512) })),
    );
    const world = await startWorld();
    const growth = await growthDuring(async () => {
      expect(await outcomeOf(world, Buffer.concat(distinct))).toEqual({});
      expect(await outcomeOf(world, Buffer.concat([...distinct, gzipSync(Buffer.alloc(1))]))).toBe("TooLarge");
    });
    expect(growth).toBeLessThan(128 * mebibyte);
  });

  test("[20.24] [50.38] 100,000 entries pass; one more does not", async () => {
    const links = Array.from({ length: 99_999 }, (_, index) => rawEntry({ name: `l${index}`, type: "2" }));
    const file = rawEntry({ name: "a.yaml", body: "a" });
    const world = await startWorld();
    const packed = [
      [...links, file],
      [...links, rawEntry({ name: "m", type: "2" }), file],
    ].map((parts) => gzipSync(Buffer.concat(parts), { level: 1 }));
    const growth = await growthDuring(async () => {
      expect(await outcomeOf(world, packed[0] ?? Buffer.alloc(0))).toEqual({ "a.yaml": "a" });
      expect(await outcomeOf(world, packed[1] ?? Buffer.alloc(0))).toBe("TooLarge");
    });
    expect(growth).toBeLessThan(128 * mebibyte);
  });

  test("[20.24] [50.38] 64 MiB as sent pass; one byte more does not", async () => {
    // A gzip member may carry a comment of any length, here what is missing to the cap.
    const archive = gzipSync(rawTar([{ name: "a.yaml", body: "a" }]));
    const filled = (length: number): Buffer => {
      const empty = gzipSync(Buffer.alloc(0));
      const header = Buffer.from(empty.subarray(0, 10));
      header[3] = 0x10;
      const comment = Buffer.alloc(length - archive.length - empty.length, "c");
      comment[comment.length - 1] = 0;
      return Buffer.concat([archive, header, comment, empty.subarray(10)]);
    };
    const world = await startWorld();
    const [atCap, over] = [filled(64 * mebibyte), filled(64 * mebibyte + 1)];
    const growth = await growthDuring(async () => {
      expect(await outcomeOf(world, atCap)).toEqual({ "a.yaml": "a" });
      expect(await outcomeOf(world, over)).toBe("TooLarge");
    });
    expect(growth).toBeLessThan(192 * mebibyte);
  });
});

describe("hostile archives", () => {
  const file = { name: "ok.yaml", body: "ok" };
  test.each<readonly [string, readonly RawEntry[]]>([
    ["an absolute name", [file, { name: "/etc/x", body: "x" }]],
    ["a name that leads out", [file, { name: "../x", body: "x" }]],
    ["a name that leads out and back", [file, { name: "a/../b", body: "x" }]],
    ["a backslash", [file, { name: "a\\b", body: "x" }]],
    ["a NUL", [{ name: "x", type: "x", body: paxRecord("path", "a\0b") }, { name: "y" }]],
    ["a link that leads nowhere good by its name", [file, { name: "../l", type: "2" }]],
    ["a folder that leads out", [file, { name: "../d/", type: "5" }]],
    ["two files of one name", [file, file]],
    [
      "two files of one normal name",
      [
        { name: "a/./b", body: "1" },
        { name: "a//b", body: "2" },
      ],
    ],
    [
      "a link, and a file behind it",
      [
        { name: "d", type: "2" },
        { name: "d/x", body: "x" },
      ],
    ],
    [
      "a file that is a folder too",
      [
        { name: "d", body: "x" },
        { name: "d/x", body: "x" },
      ],
    ],
    ["a name too long for a disk", [{ name: "x", type: "x", body: paxRecord("path", "n".repeat(256)) }, { name: "y" }]],
  ])("[50.38] %s is refused", async (_what, entries) => {
    expect(await outcomeOf(await startWorld(), rawTarGz(entries))).toBe("Malformed");
  });

  test("[50.38] links and devices are passed over, the rest is kept with its bytes", async () => {
    const special = ["1", "2", "3", "4", "6"].map((type) => ({ name: `s${type}`, type }));
    const body = rawTarGz([
      ...special,
      { name: "./", type: "5" },
      { name: "d/", type: "5" },
      { name: "./d//./x.yaml", body: "1" },
      { name: ".github/a b\xc3\xa9", body: "2" },
      { name: "__proto__", body: "3" },
      { name: "empty" },
    ]);
    const kept = [
      [".github/a bé", "2"],
      ["__proto__", "3"],
      ["d/x.yaml", "1"],
      ["empty", ""],
    ];
    expect(await outcomeOf(await startWorld(), body)).toEqual(Object.fromEntries(kept));
  });

  test("[50.38] one tar in many gzip members is one archive, an empty one too", async () => {
    const tar = rawTar([file, { name: "b", body: "b".repeat(2_000) }]);
    const members = Array.from({ length: Math.ceil(tar.length / 100) }, (_, at) =>
      gzipSync(tar.subarray(at * 100, at * 100 + 100)),
    );
    expect(await outcomeOf(await startWorld(), Buffer.concat(members))).toEqual({
      "ok.yaml": "ok",
      b: "b".repeat(2_000),
    });
    expect(await outcomeOf(await startWorld(), rawTarGz([]))).toEqual({});
  });

  const good = rawTarGz([file]);
  test.each([
    ["nothing", Buffer.alloc(0)],
    ["no gzip", Buffer.from("apiVersion: v1\n")],
    ["a tar without gzip", rawTar([file])],
    ["gzip that is cut", good.subarray(0, good.length - 9)],
    ["gzip of something else", gzipSync(Buffer.alloc(3_000, "x"))],
    ["a tar that is cut", gzipSync(rawTar([file]).subarray(0, 513))],
    ["gzip in gzip", gzipSync(good)],
    ["a wrong checksum", Buffer.concat([good.subarray(0, good.length - 8), Buffer.alloc(8, 1)])],
    ["two archives", Buffer.concat([good, rawTarGz([{ name: "b" }])])],
  ])("[50.38] %s is refused", async (_what, body) => {
    expect(await outcomeOf(await startWorld(), body)).toBe("Malformed");
  });

  test("[50.38] of a large archive that is refused not one file is written", async () => {
    const dir = await mkdtemp(join(tmpdir(), "artifact-test-"));
    onTestFinished(() => rm(dir, { recursive: true }));
    const files = Array.from({ length: 1_001 }, (_, at) => ({ name: `d${at % 7}/f${at}`, body: randomBytes(1_000) }));
    const packed = join(dir, "packed");
    await writeFile(packed, rawTarGz(files));
    const path = join(dir, "pack");
    const caps = { ...artifactCaps, entries: 1_000 };
    await expect(unpack(packed, { path, caps, signal: never.signal })).rejects.toMatchObject({ reason: "TooLarge" });
    expect(await readdir(dir)).toEqual(["packed"]);
  });

  test("[50.38] extended headers without end cost no more than their bytes", async () => {
    const global = Array.from({ length: 20_000 }, (_, at) => paxRecord(`k${at}`, "")).join("");
    const each = rawEntry({ name: "x", type: "x", body: paxRecord("mtime", "1") });
    const many = Array.from({ length: 5_000 }, (_, at) =>
      Buffer.concat([each, rawEntry({ name: `l${at}`, type: "2" })]),
    );
    const packed = gzipSync(Buffer.concat([rawEntry({ name: "g", type: "g", body: global }), ...many]));
    const started = performance.now();
    expect(await outcomeOf(await startWorld(), packed)).toEqual({});
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});
