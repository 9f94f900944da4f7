import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { systemClock, type Clock } from "../../src/lib/clock.ts";
import { createGuardedFetch } from "../../src/outbound/guard.ts";
import { createArtifactStore, type ArtifactStore, type OpenArtifact } from "../../src/source/artifact-store.ts";
import { filesIn } from "../support/packs.ts";
import { sha256, startArtifactServer, tarGz, type ArtifactReply, type ArtifactServer } from "../support/artifacts.ts";

interface World {
  readonly server: ArtifactServer;
  readonly store: ArtifactStore;
  readonly dir: string;
  /** The waits between attempts, ms; none of them is really waited for. */
  readonly waits: readonly number[];
}

interface WorldOptions {
  readonly maxKept?: number;
  readonly maxKeptBytes?: number;
  readonly allowLoopback?: boolean;
  readonly clock?: Clock;
}

async function startWorld({ allowLoopback = true, clock, ...bounds }: WorldOptions = {}): Promise<World> {
  const server = await startArtifactServer();
  const dir = await mkdtemp(join(tmpdir(), "artifact-test-"));
  const waits: number[] = [];
  const eager: Clock = {
    ...systemClock,
    timer(delayMs, run) {
      if (delayMs > 1_000) return systemClock.timer(delayMs, run);
      waits.push(delayMs);
      return systemClock.timer(0, run);
    },
  };
  const resolve = (): Promise<readonly string[]> => Promise.resolve(["169.254.169.254"]);
  const fetch = createGuardedFetch({ allowLoopback, clock: systemClock, resolve });
  const store = createArtifactStore({ dir, fetch, clock: clock ?? eager, ...bounds });
  onTestFinished(async () => {
    await store[Symbol.asyncDispose]();
    const left = await readdir(dir);
    await rm(dir, { recursive: true });
    await server.stop();
    expect(left).toEqual([]);
  });
  return { server, store, dir, waits };
}

const signal = new AbortController().signal;
const never = { signal, tenant: "team" } as const;

interface Published {
  readonly url: string;
  readonly digest: string;
  readonly path: string;
}

async function publish({ server }: World, path: string, files?: Readonly<Record<string, string>>): Promise<Published> {
  const body = await tarGz(files ?? { "a.yaml": path });
  server.serve(path, body);
  return { url: server.url + path, digest: sha256(body), path };
}

async function failureOf(world: World, artifact: { readonly url: string; readonly digest: string }): Promise<unknown> {
  const opened = await world.store.open(artifact, never).catch((error: unknown) => error);
  return opened instanceof Error ? opened : "none";
}

/** Everything below the folder that the store made for itself. */
async function filesOf({ dir }: World): Promise<readonly string[]> {
  const [home] = await readdir(dir);
  return home === undefined ? [] : readdir(join(dir, home));
}

describe("open", () => {
  test("downloads once for all who want it, and again for nobody while it is kept", async () => {
    const world = await startWorld();
    const { server, store } = world;
    const files = { "a.yaml": "a: 1", ".github/x.yaml": "x", "deep/er/b.json": "{}", "big.bin": "7".repeat(300_000) };
    const artifact = await publish(world, "/a.tar.gz", files);
    expect(await store.openKept(artifact.digest, never)).toBeUndefined();
    const opened = await Promise.all([1, 2, 3].map(() => store.open(artifact, never)));
    expect(server.requests.map(({ method, headers }) => ({ method, headers }))).toEqual([
      {
        method: "GET",
        headers: { host: `127.0.0.1:${server.port}`, connection: "keep-alive", "accept-encoding": "identity" },
      },
    ]);
    const root = opened[0]?.root ?? "";
    expect(await filesIn(root)).toEqual(files);
    expect((await stat(root)).mode & 0o777).toBe(0o400);
    expect((await stat(join(root, ".."))).mode & 0o777).toBe(0o700);
    for (const one of opened) await one[Symbol.asyncDispose]();
    await using again = await store.open({ ...artifact, digest: artifact.digest.toUpperCase() }, never);
    await using kept = await store.openKept(artifact.digest, never);
    expect([again.root, kept?.root, again.digest]).toEqual([root, root, artifact.digest]);
    expect(server.requests).toHaveLength(1);
  });

  test.each(["sha256", "sha384", "sha512"])("%s digests count, in any case", async (algorithm) => {
    const world = await startWorld();
    const body = await tarGz({ "a.yaml": "a" });
    world.server.serve("/a", body);
    const hex = createHash(algorithm).update(body).digest("hex").toUpperCase();
    await using opened = await world.store.open({ url: `${world.server.url}/a`, digest: `${algorithm}:${hex}` }, never);
    expect(opened.digest).toBe(`${algorithm}:${hex.toLowerCase()}`);
  });

  test.each([
    "",
    "sha256",
    "sha256:",
    "md5:d41d8cd98f00b204e9800998ecf8427e",
    `sha256:${"g".repeat(64)}`,
    `sha512:${"a".repeat(64)}`,
  ])("%j is no digest, and nobody is asked", async (digest) => {
    const world = await startWorld();
    expect(await failureOf(world, { url: `${world.server.url}/a`, digest })).toMatchObject({
      reason: "Malformed",
      retry: "never",
    });
    expect(world.server.requests).toEqual([]);
  });

  test("a digest of another content is refused before anything is unpacked, and only the expected one is named", async () => {
    const world = await startWorld();
    const body = await tarGz({ "a.yaml": "a" });
    world.server.serve("/a", body);
    const digest = `sha512:${"ab".repeat(64)}`;
    const error = await failureOf(world, { url: `${world.server.url}/a`, digest });
    expect(error).toMatchObject({ reason: "DigestMismatch", retry: "never" });
    const received = createHash("sha512").update(body).digest("hex");
    expect(String(error)).toContain(digest);
    expect(String(error)).not.toContain(received);
    expect(error).toHaveProperty("cause.message", expect.stringContaining(received));
    expect(await filesOf(world)).toEqual([]);
  });

  test("a failure is not kept: the next one asks again", async () => {
    const world = await startWorld();
    const { url, digest, path } = await publish(world, "/a");
    world.server.serve(path, { kind: "status", status: 404 });
    expect(await failureOf(world, { url, digest })).toMatchObject({ reason: "Moved" });
    await publish(world, "/a");
    expect(await failureOf(world, { url, digest })).toBe("none");
  });

  test("a URL that fails does not fail who names the same digest with another URL at the same time", async () => {
    const world = await startWorld();
    const good = await publish(world, "/good");
    const [bad, opened] = await Promise.all([
      failureOf(world, { ...good, url: `${world.server.url}/bad` }),
      failureOf(world, good),
    ]);
    expect([bad, opened]).toEqual([expect.objectContaining({ reason: "Moved" }), "none"]);
  });

  test("the same content from two URLs at the same time is kept once", async () => {
    const world = await startWorld();
    const one = await publish(world, "/one", { a: "a" });
    const two = await publish(world, "/two", { a: "a" });
    expect(two.digest).toBe(one.digest);
    await using first = await world.store.open(one, never);
    const [second, third] = await Promise.all([one, two].map((artifact) => world.store.open(artifact, never)));
    expect([second?.root, third?.root]).toEqual([first.root, first.root]);
    expect(await filesOf(world)).toHaveLength(1);
  });
});

describe("tenants", () => {
  const guesser = { signal, tenant: "guesser" } as const;

  test("who knows the digest is not served what another tenant fetched: the own URL is asked", async () => {
    const world = await startWorld();
    const { server, store } = world;
    const artifact = await publish(world, "/owner", { "a.yaml": "secret: owner" });
    await using opened = await store.open(artifact, never);
    expect(await store.openKept(artifact.digest, guesser)).toBeUndefined();
    server.serve("/other", await tarGz({ "a.yaml": "b" }));
    for (const [path, reason] of [
      ["/missing", "Moved"],
      ["/other", "DigestMismatch"],
    ] as const) {
      const guess = { url: server.url + path, digest: artifact.digest };
      await expect(store.open(guess, guesser)).rejects.toMatchObject({ reason });
      expect(server.count(path)).toBe(1);
    }
    // Nor while the owner's download is under way.
    const late = await publish(world, "/late", { "a.yaml": "late" });
    const [theirs, guessed] = await Promise.all([
      store.open(late, never),
      store.open({ ...late, url: `${server.url}/missing` }, guesser).catch((error: unknown) => error),
    ]);
    await theirs[Symbol.asyncDispose]();
    expect(guessed).toMatchObject({ reason: "Moved" });
    expect(await store.openKept(late.digest, guesser)).toBeUndefined();
    expect(opened.digest).toBe(artifact.digest);
  });

  test("what the own URL serves is kept once for all, and counts as the own from then on", async () => {
    const world = await startWorld();
    const { server, store } = world;
    const owners = await publish(world, "/owner", { a: "a" });
    const own = await publish(world, "/own", { a: "a" });
    await using first = await store.open(owners, never);
    await using second = await store.open(own, guesser);
    await using kept = await store.openKept(own.digest, guesser);
    expect([second.root, kept?.root]).toEqual([first.root, first.root]);
    expect(await filesOf(world)).toHaveLength(1);
    // A source that moves its archive does not make its tenant fetch it again.
    await using moved = await store.open({ ...own, url: `${server.url}/moved` }, guesser);
    await using shared = await store.open(owners, { signal, tenant: "third" });
    expect([moved.root, shared.root]).toEqual([first.root, first.root]);
    expect(server.requests.map(({ path }) => path)).toEqual(["/owner", "/own"]);
  });
});

describe("refused without a connection", () => {
  test.each([
    ...["localhost.", "localhost", "x.localhost", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]", "127.1", "2130706433", "0"],
    ...["metadata.test", "169.254.169.254"],
  ])("[20.23] http://%s", async (host) => {
    const world = await startWorld({ allowLoopback: false });
    const { path, digest } = await publish(world, "/a");
    const error = await failureOf(world, { url: `http://${host}:${world.server.port}${path}`, digest });
    expect(error).toMatchObject({ reason: "Refused", retry: "never" });
    expect(world.server.requests).toEqual([]);
    expect(world.waits).toEqual([]);
  });

  test.each(["169.254.169.254", "[::ffff:127.0.0.1]", "metadata.test", "0.0.0.0"])(
    "[20.23] a redirect to %s",
    async (host) => {
      const world = await startWorld();
      const { path, digest, url } = await publish(world, "/a");
      const location = `http://${host}:${world.server.port}${path}`;
      world.server.serve("/go", { kind: "redirect", location });
      const error = await failureOf(world, { url: url.replace(path, "/go"), digest });
      expect(error).toMatchObject({ reason: "Refused", retry: "never" });
      expect(String(error)).not.toContain(host);
      expect(world.server.count(path)).toBe(0);
      expect(world.server.count("/go")).toBe(1);
    },
  );
});

describe("attempts", () => {
  const status = (code: number): ArtifactReply => ({ kind: "status", status: code });
  test.each([408, 429, 500, 502, 503, 504])("%i is asked three times, 0.5 s and 1 s apart", async (code) => {
    const world = await startWorld();
    world.server.serve("/a", status(code));
    const error = await failureOf(world, { url: `${world.server.url}/a`, digest: `sha256:${"a".repeat(64)}` });
    expect(error).toMatchObject({ reason: "Unreachable", retry: "backoff" });
    expect([world.server.count("/a"), world.waits]).toEqual([3, [500, 1_000]]);
  });

  test.each([
    ...[201, 202, 203, 204, 206, 304, 400, 401, 403, 406, 451].map((code) => [code, "Unreachable"] as const),
    ...[404, 410].map((code) => [code, "Moved"] as const),
  ])("%i is asked once and is %s", async (code, reason) => {
    const world = await startWorld();
    world.server.serve("/a", status(code));
    const error = await failureOf(world, { url: `${world.server.url}/a`, digest: `sha256:${"a".repeat(64)}` });
    expect(error).toMatchObject({ reason, retry: "backoff" });
    expect(world.server.count("/a")).toBe(1);
  });

  test("a later attempt that works is enough, and starts from nothing", async () => {
    const world = await startWorld();
    const body = await tarGz({ "a.yaml": "a", "b.bin": Buffer.alloc(200_000, 3) });
    let asked = 0;
    world.server.serve("/a", () => {
      asked++;
      if (asked === 1) return { kind: "cut", body, afterBytes: body.length - 10 };
      return asked === 2 ? status(503) : { kind: "bytes", body };
    });
    expect(await failureOf(world, { url: `${world.server.url}/a`, digest: sha256(body) })).toBe("none");
    expect(asked).toBe(3);
  });

  test("a port nobody listens on is tried three times", async () => {
    const world = await startWorld();
    const gone = await startArtifactServer();
    await gone.stop();
    const error = await failureOf(world, { url: `${gone.url}/a`, digest: `sha256:${"a".repeat(64)}` });
    expect(error).toMatchObject({ reason: "Unreachable", retry: "backoff" });
    expect(world.waits).toEqual([500, 1_000]);
  });

  test("a server that never ends is left after 5 min in all", async () => {
    const timers: { readonly delayMs: number; readonly run: () => void }[] = [];
    const clock: Clock = {
      ...systemClock,
      timer: (delayMs, run) => {
        timers.push({ delayMs, run });
        return { [Symbol.dispose]: () => undefined };
      },
    };
    const world = await startWorld({ clock });
    world.server.serve("/a", { kind: "hang" });
    const failed = failureOf(world, { url: `${world.server.url}/a`, digest: `sha256:${"a".repeat(64)}` });
    while (world.server.count("/a") === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(timers.map(({ delayMs }) => delayMs)).toEqual([300_000]);
    timers[0]?.run();
    expect(await failed).toMatchObject({ reason: "TimedOut", retry: "backoff" });
  });
});

describe("aborting", () => {
  test("one who gives up does not end the download of another; the last one does", async () => {
    const world = await startWorld();
    const { digest, url, path } = await publish(world, "/a");
    world.server.serve(path, { kind: "hang" });
    const one = new AbortController();
    const two = new AbortController();
    const first = world.store.open({ url, digest }, { ...never, signal: one.signal });
    const second = world.store.open({ url, digest }, { ...never, signal: two.signal });
    while (world.server.count(path) === 0) await new Promise((resolve) => setImmediate(resolve));
    one.abort(new RangeError("first"));
    await expect(first).rejects.toThrow("first");
    await publish(world, path);
    two.abort(new RangeError("second"));
    await expect(second).rejects.toThrow("second");
    // Who comes then does not wait for what has ended.
    await using opened = await world.store.open({ url, digest }, never);
    expect([opened.digest, world.server.count(path)]).toEqual([digest, 2]);
    expect(await filesOf(world)).toHaveLength(1);
  });

  test("closing the store ends what is under way", async () => {
    const world = await startWorld();
    const { digest, url, path } = await publish(world, "/a");
    world.server.serve(path, { kind: "hang" });
    const opening = expect(world.store.open({ url, digest }, never)).rejects.toHaveProperty("name", "Shutdown");
    while (world.server.count(path) === 0) await new Promise((resolve) => setImmediate(resolve));
    await world.store[Symbol.asyncDispose]();
    await opening;
    await expect(world.store.open({ url, digest }, never)).rejects.toHaveProperty("name", "Shutdown");
    expect(await readdir(world.dir)).toEqual([]);
  });
});

describe("what is kept", () => {
  const isKept = async ({ store }: World, { digest }: Published): Promise<boolean> => {
    await using kept: OpenArtifact | undefined = await store.openKept(digest, never);
    return kept !== undefined;
  };
  const use = async ({ store }: World, artifact: Published): Promise<void> => {
    await using _opened = await store.open(artifact, never);
  };

  test("the least recently used goes first, what is open stays", async () => {
    const world = await startWorld({ maxKept: 2 });
    const [a, b, c, d] = await Promise.all(["/a", "/b", "/c", "/d"].map((path) => publish(world, path)));
    if (a === undefined || b === undefined || c === undefined || d === undefined) throw new Error("not published");
    await using held = await world.store.open(a, never);
    for (const artifact of [b, c, b, d]) await use(world, artifact);
    expect(await Promise.all([a, b, c, d].map((artifact) => isKept(world, artifact)))).toEqual([
      true,
      true,
      false,
      true,
    ]);
    expect(await filesIn(held.root)).toEqual({ "a.yaml": "/a" });
    expect(await filesOf(world)).toHaveLength(3);
  });

  test("what was found to be damaged is handed to nobody any more, and stays for those who have it", async () => {
    const world = await startWorld();
    const artifact = await publish(world, "/a");
    const other = await world.store.open(artifact, never);
    {
      await using damaged = await world.store.open(artifact, never);
      damaged.discard();
      damaged.discard();
    }
    expect(await isKept(world, artifact)).toBe(false);
    expect(await filesIn(other.root)).toEqual({ "a.yaml": "/a" });
    await using again = await world.store.open(artifact, never);
    expect(world.server.count("/a")).toBe(2);
    // A late word about the old one takes nothing from the new one.
    other.discard();
    await other[Symbol.asyncDispose]();
    expect(await isKept(world, artifact)).toBe(true);
    expect(await filesIn(again.root)).toEqual({ "a.yaml": "/a" });
    expect(await filesOf(world)).toHaveLength(1);
  });

  test("disk use is bounded, and one that is too large alone goes when it is closed", async () => {
    const world = await startWorld({ maxKeptBytes: 100_000 });
    const small = await publish(world, "/small");
    const large = await publish(world, "/large", { "a.bin": "x".repeat(150_000) });
    await use(world, small);
    await using opened = await world.store.open(large, never);
    expect((await filesIn(opened.root))["a.bin"]).toHaveLength(150_000);
    await opened[Symbol.asyncDispose]();
    await opened[Symbol.asyncDispose]();
    expect(await isKept(world, large)).toBe(false);
    expect((await filesOf(world)).length).toBeLessThanOrEqual(1);
  });
});
