import { lstat, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/lib/clock.ts";
import { createGuardedFetch } from "../../src/outbound/guard.ts";
import { createArtifactStore, type ArtifactStore } from "../../src/source/artifact-store.ts";
import { artifactCaps } from "../../src/source/caps.ts";
import { sha256, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { seededRandom } from "../faults/plan.ts";
import { filesIn } from "../support/packs.ts";
import { paxRecord, rawTar, rawTarGz, type RawEntry } from "./artifact-archive.ts";

/** Names that mean a place outside of the folder somewhere, or nothing good anywhere. */
const hostileNames = [
  "../escaped",
  "../../escaped",
  "a/../../escaped",
  "./../escaped",
  "a/b/../../../escaped",
  "/escaped",
  "//escaped",
  "/etc/passwd",
  "..",
  "../",
  "a/..",
  "..\\escaped",
  "a\\..\\..\\escaped",
  "C:\\escaped",
  "\\\\host\\share\\escaped",
  "nul\0byte",
  "a/\0",
  "~/escaped/../../../x",
];

/** Ways to give an entry its name. */
const spellings: Readonly<Record<string, (name: string, type: string) => readonly RawEntry[]>> = {
  plain: (name, type) => [{ name, type, body: type === "0" ? "x" : "" }],
  "pax path": (name, type) => [
    { name: "PaxHeader", type: "x", body: paxRecord("path", name) },
    { name: "innocent", type, body: type === "0" ? "x" : "" },
  ],
  "long name": (name, type) => [
    { name: "././@LongLink", type: "L", body: `${name}\0` },
    { name: "innocent", type, body: type === "0" ? "x" : "" },
  ],
  prefix: (name, type) => [{ name: "file", prefix: name, type, body: type === "0" ? "x" : "" }],
};

/** Regular files and folders: their names count. */
const kinds = { file: "0", folder: "5" } as const;
const links = {
  "hard link": "1",
  "symbolic link": "2",
  "character device": "3",
  "block device": "4",
  pipe: "6",
} as const;

interface Case {
  readonly what: string;
  readonly body: Buffer;
  /** A name that leads outside: the whole artifact is refused. */
  readonly refused: boolean;
}

function cases(): readonly Case[] {
  const good: RawEntry = { name: "good.yaml", body: "kind: A\n" };
  const names = hostileNames.flatMap((name) =>
    Object.entries(spellings).flatMap(([spelling, entries]) =>
      Object.entries(kinds).map(([kind, type]): Case => {
        // A pax value and a GNU name end at the first NUL for some readers: then it is another, harmless name.
        const isCut = name.includes("\0") || (spelling === "prefix" && name === "..\\escaped");
        return {
          what: `${kind} named ${JSON.stringify(name)} as ${spelling}`,
          body: rawTarGz([good, ...entries(name, type)]),
          refused: !isCut,
        };
      }),
    ),
  );
  const linked = Object.entries(links).flatMap(([kind, type]) =>
    ["target", "../outside", "/etc"].map((name): Case => ({
      what: `${kind} "${name}" and a file below it`,
      body: rawTarGz([good, { name: "link", type, prefix: "" }, { name: "link/below", body: name }]),
      refused: false,
    })),
  );
  return [...names, ...linked];
}

describe("artifacts made to do harm", () => {
  let dir: string;
  let store: ArtifactStore;
  let server: ArtifactServer;
  beforeAll(async () => {
    server = await startArtifactServer();
    dir = await mkdtemp(join(tmpdir(), "hostile-"));
    await mkdir(join(dir, "store"));
    await writeFile(join(dir, "sentinel"), "untouched");
    const fetch = createGuardedFetch({ allowLoopback: true, clock: systemClock });
    store = createArtifactStore({ dir: join(dir, "store"), fetch, clock: systemClock, caps: artifactCaps });
  });
  afterAll(async () => {
    await store[Symbol.asyncDispose]();
    await server.stop();
    await rm(dir, { recursive: true });
  });

  /** Opens it; whatever comes of it, nothing but one plain file may be there, and nothing outside. */
  const open = async (body: Buffer): Promise<"refused" | "kept"> => {
    server.serve("/a", body);
    let outcome: "refused" | "kept" = "kept";
    try {
      const signal = new AbortController().signal;
      await using opened = await store.open(
        { url: `${server.url}/a`, digest: sha256(body) },
        { signal, tenant: "team" },
      );
      const stat = await lstat(opened.root);
      if (!stat.isFile() || stat.nlink > 1) throw new TypeError("what is kept is no plain file");
      for (const path of Object.keys(await filesIn(opened.root)))
        if (/(?:^|\/)\.\.?(?:\/|$)|^\/|\0|\\/.test(path)) throw new TypeError(`"${path}" leads elsewhere`);
    } catch (error) {
      if (!(error instanceof Error && "reason" in error && "retry" in error)) throw error;
      outcome = "refused";
    }
    expect((await readdir(dir)).sort()).toEqual(["sentinel", "store"]);
    return outcome;
  };

  test("[50.38] at least 150 names and links that lead outside write nothing there, and the loop goes on", async () => {
    const all = cases();
    expect(all.length).toBeGreaterThanOrEqual(150);
    using loop = watchLoop();
    const wrong: string[] = [];
    for (const each of all) {
      const outcome = await open(each.body);
      if (each.refused && outcome !== "refused") wrong.push(each.what);
    }
    expect(wrong).toEqual([]);
    expect(loop.longestMs(), "event loop").toBeLessThan(500);
  });

  test("[50.38] 200 damaged archives are read or refused, never followed", async () => {
    const random = seededRandom(7);
    const sound = rawTar([
      { name: "a/b.yaml", body: "kind: A\n" },
      { name: "PaxHeader", type: "x", body: paxRecord("path", "c/long.yaml") },
      { name: "short", body: "kind: B\n" },
      { name: "d.yaml", body: Buffer.alloc(2_000, "x") },
    ]);
    let refused = 0;
    for (let turn = 0; turn < 200; turn++) {
      const damaged = Buffer.from(sound);
      for (let count = 1 + Math.floor(random() * 6); count > 0; count--)
        damaged[Math.floor(random() * damaged.length)] = Math.floor(random() * 256);
      const packed = gzipSync(turn % 4 === 0 ? damaged.subarray(0, Math.floor(random() * damaged.length)) : damaged);
      const cut = turn % 5 === 0 ? packed.subarray(0, Math.floor(random() * packed.length)) : packed;
      if ((await open(cut)) === "refused") refused++;
    }
    expect(refused).toBeGreaterThan(50);
  });
});

/** The longest time in which nothing else of the process ran, ms. */
function watchLoop() {
  const histogram = monitorEventLoopDelay({ resolution: 5 });
  histogram.enable();
  return { longestMs: () => histogram.max / 1e6, [Symbol.dispose]: () => void histogram.disable() };
}
