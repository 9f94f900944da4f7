import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../src/lib/clock.ts";
import { createGuardedFetch } from "../../src/outbound/guard.ts";
import { createArtifactStore, type ArtifactStore } from "../../src/source/artifact-store.ts";
import type { ArtifactCaps } from "../../src/source/caps.ts";
import { sha256, startArtifactServer, tarGz, type ArtifactServer } from "../support/artifacts.ts";

interface World {
  readonly server: ArtifactServer;
  readonly store: ArtifactStore;
  readonly dir: string;
}

async function startWorld(
  o: { readonly caps?: ArtifactCaps; readonly maxKept?: number; readonly maxKeptBytes?: number } = {},
): Promise<World> {
  const server = await startArtifactServer();
  const dir = await mkdtemp(join(tmpdir(), "artifact-test-"));
  const fetch = createGuardedFetch({ allowLoopback: true, clock: systemClock });
  const store = createArtifactStore({ dir, fetch, clock: systemClock, ...o });
  onTestFinished(async () => {
    await store[Symbol.asyncDispose]();
    const left = await readdir(dir);
    await rm(dir, { recursive: true });
    await server.stop();
    expect(left).toEqual([]);
  });
  return { server, store, dir };
}

const never = new AbortController().signal;

test("an artifact is downloaded once, and its files are there while it is open", async () => {
  const { server, store } = await startWorld();
  const body = await tarGz({
    "a.yaml": "a: 1",
    ".github/x.yaml": "x",
    "deep/er/b.json": "{}",
    "big.bin": Buffer.alloc(300_000, 7),
  });
  server.serve("/a.tar.gz", body);
  const artifact = { url: `${server.url}/a.tar.gz`, digest: sha256(body) };
  expect(await store.openKept(artifact.digest, { signal: never })).toBeUndefined();
  const opened = await Promise.all([1, 2, 3].map(() => store.open(artifact, { signal: never })));
  const [first] = opened;
  expect(server.count("/a.tar.gz")).toBe(1);
  expect(server.requests[0]?.headers).toEqual({
    host: `127.0.0.1:${server.port}`,
    connection: "keep-alive",
    "accept-encoding": "identity",
  });
  const root = first?.root ?? "";
  expect(await readFile(join(root, "a.yaml"), "utf8")).toBe("a: 1");
  expect(await readFile(join(root, ".github/x.yaml"), "utf8")).toBe("x");
  expect((await readFile(join(root, "big.bin"))).length).toBe(300_000);
  expect(((await stat(root)).mode & 0o777).toString(8)).toBe("700");
  for (const one of opened) await one[Symbol.asyncDispose]();
  await using again = await store.open({ ...artifact, digest: artifact.digest.toUpperCase() }, { signal: never });
  expect(again.root).toBe(root);
  await using kept = await store.openKept(artifact.digest, { signal: never });
  expect(kept?.root).toBe(root);
  expect(server.requests.length).toBe(1);
});

test("a digest of another content is refused before anything is unpacked, and only the expected one is named", async () => {
  const { server, store } = await startWorld();
  const body = await tarGz({ "a.yaml": "a" });
  server.serve("/a", body);
  const digest = `sha512:${"ab".repeat(64)}`;
  const error = await store.open({ url: `${server.url}/a`, digest }, { signal: never }).catch((e: unknown) => e);
  expect(error).toMatchObject({ reason: "DigestMismatch", retry: "never" });
  const received = createHash("sha512").update(body).digest("hex");
  expect(String(error)).toContain(digest);
  expect(String(error)).not.toContain(received);
  expect(error).toHaveProperty("cause.message", expect.stringContaining(received));
});
