import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { linkSignals, Shutdown, type LinkedSignal } from "../lib/abort.ts";
import { abortable } from "../lib/abortable.ts";
import type { Clock } from "../lib/clock.ts";
import { createSemaphore } from "../lib/semaphore.ts";
import type { GuardedFetch } from "../outbound/guard.ts";
import { artifactCaps, type ArtifactCaps } from "./caps.ts";
import { parseDigest, type Digest } from "./digest.ts";
import { download } from "./download.ts";
import { SourceError } from "./source-error.ts";
import { unpack } from "./unpack.ts";

/** The unpacked files of an artifact; not to be written to. They stay until this is disposed. */
export interface OpenArtifact extends AsyncDisposable {
  /** Absolute path of the folder with the files. */
  readonly root: string;
  /** `<algorithm>:<hex>` in lower case. */
  readonly digest: string;
}

/** Artifacts by digest. Disposing ends what is under way and removes every file. */
export interface ArtifactStore extends AsyncDisposable {
  /**
   * The artifact with this digest: kept from before, else downloaded, verified and unpacked. Concurrent calls share a
   * download; it ends when nobody waits for it any more.
   *
   * @throws {SourceError}
   * @throws the signal's reason, when aborted
   */
  open(
    artifact: { readonly url: string; readonly digest: string },
    o: { readonly signal: AbortSignal },
  ): Promise<OpenArtifact>;
  /**
   * The same without asking anyone; undefined when it is not kept.
   *
   * @throws {SourceError} `Malformed`, when that is no digest
   */
  openKept(digest: string, o: { readonly signal: AbortSignal }): Promise<OpenArtifact | undefined>;
}

export interface ArtifactStoreOptions {
  /** An existing folder; everything is in a subfolder of it that only this user can enter. */
  readonly dir: string;
  readonly fetch: GuardedFetch;
  readonly clock: Clock;
  /** Disk used by artifacts that nobody has open, bytes; default 64 MiB. */
  readonly maxKeptBytes?: number;
  /** How many artifacts nobody has open; default 256. */
  readonly maxKept?: number;
  /** Default: those of spec 50 §6. */
  readonly caps?: ArtifactCaps;
}

interface Kept {
  readonly digest: string;
  readonly root: string;
  readonly diskBytes: number;
  users: number;
}

interface Fetching {
  readonly done: Promise<Kept>;
  readonly stop: LinkedSignal;
  waiters: number;
}

// Inflating and writing share the cores and the disk with builds.
const unpackingAtOnce = 2;

export function createArtifactStore(options: ArtifactStoreOptions): ArtifactStore {
  const { clock, fetch, caps = artifactCaps, maxKeptBytes = 64 * 1024 * 1024, maxKept = 256 } = options;
  // Least recently used first. What is in there was verified, and nobody else can change it since: the folder is 0700.
  const kept = new Map<string, Kept>();
  const fetching = new Map<string, Fetching>();
  const running = new Set<Promise<unknown>>();
  const unpacking = createSemaphore(unpackingAtOnce);
  const closing = linkSignals();
  let home: Promise<string> | undefined;
  let made = 0;

  const release = async (entry: Kept): Promise<void> => {
    entry.users--;
    await evict();
  };
  const evict = async (): Promise<void> => {
    const idle = [...kept.values()].filter(({ users }) => users === 0);
    let count = idle.length;
    let bytes = idle.reduce((sum, { diskBytes }) => sum + diskBytes, 0);
    const gone = idle.filter((entry) => {
      if (count <= maxKept && bytes <= maxKeptBytes) return false;
      count--;
      bytes -= entry.diskBytes;
      return true;
    });
    for (const { digest } of gone) kept.delete(digest);
    await Promise.all(gone.map(({ root }) => remove(root)));
  };
  const handOut = (entry: Kept): OpenArtifact => {
    entry.users++;
    kept.delete(entry.digest);
    kept.set(entry.digest, entry);
    let open = true;
    return {
      root: entry.root,
      digest: entry.digest,
      [Symbol.asyncDispose]: async () => {
        if (!open) return;
        open = false;
        await release(entry);
      },
    };
  };

  const ownFolder = async (): Promise<string> => {
    home ??= mkdtemp(join(options.dir, "artifacts-"));
    try {
      return await home;
    } catch (error) {
      home = undefined;
      throw reported(error);
    }
  };
  /** Answers with one use taken, so that it stays until every waiter has taken its own. */
  const fetchAndUnpack = async (url: string, digest: Digest, signal: AbortSignal): Promise<Kept> => {
    const place = join(await ownFolder(), String(made++));
    const packed = `${place}.tar.gz`;
    try {
      await download({ url, digest, path: packed, maxBytes: caps.bodyBytes }, { fetch, clock, signal });
      using _place = await unpacking.acquire(signal);
      await mkdir(place, { mode: 0o700 });
      const { diskBytes } = await unpack(packed, { root: place, caps, signal });
      const before = kept.get(digest.text);
      if (before !== undefined) await remove(place);
      const entry = before ?? { digest: digest.text, root: place, diskBytes, users: 0 };
      entry.users++;
      kept.set(digest.text, entry);
      return entry;
    } catch (error) {
      await remove(place);
      throw reported(error);
    } finally {
      await remove(packed);
    }
  };
  const start = (url: string, digest: Digest, key: string): Fetching => {
    const stop = linkSignals(closing.signal);
    const done = fetchAndUnpack(url, digest, stop.signal).finally(() => {
      stop[Symbol.dispose]();
      if (fetching.get(key) === started) fetching.delete(key);
    });
    const started: Fetching = { done, stop, waiters: 0 };
    fetching.set(key, started);
    return started;
  };
  const leave = async (of: Fetching, key: string): Promise<void> => {
    if (--of.waiters > 0) return;
    if (fetching.get(key) === of) {
      fetching.delete(key);
      of.stop.abort(new Abandoned());
    }
    const settled = of.done.then(release, () => undefined);
    running.add(settled);
    await settled;
    running.delete(settled);
  };

  return {
    async open({ url, digest: text }, { signal }) {
      signal.throwIfAborted();
      closing.signal.throwIfAborted();
      const digest = parseDigest(text);
      const before = kept.get(digest.text);
      if (before !== undefined) return handOut(before);
      // By URL too: a URL that fails must not fail those who name the digest with a good one.
      const key = `${digest.text} ${url}`;
      const shared = fetching.get(key) ?? start(url, digest, key);
      shared.waiters++;
      try {
        return handOut(await abortable(shared.done, signal));
      } finally {
        await leave(shared, key);
      }
    },
    openKept(text) {
      const entry = kept.get(parseDigest(text).text);
      return Promise.resolve(entry === undefined ? undefined : handOut(entry));
    },
    async [Symbol.asyncDispose]() {
      closing.abort(new Shutdown("the artifact store is closed"));
      await Promise.allSettled([...fetching.values()].map(({ done }) => done));
      await Promise.allSettled(running);
      kept.clear();
      if (home !== undefined) await remove(await home);
    },
  };
}

class Abandoned extends Error {
  override name = "Abandoned";
}

/** A disk that is full or slow to be mounted may be better later. */
function reported(error: unknown): unknown {
  if (!(error instanceof Error && "syscall" in error && "code" in error)) return error;
  return new SourceError("Unreachable", `cannot store the artifact (${String(error.code)})`, { cause: error });
}

function remove(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true });
}
