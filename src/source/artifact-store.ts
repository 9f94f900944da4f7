import { mkdtemp, rm, stat } from "node:fs/promises";
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

/** The files of an artifact; not to be written to. They stay until this is disposed. */
export interface OpenArtifact extends AsyncDisposable {
  /** Absolute path of the pack that holds them (src/pack). */
  readonly root: string;
  /** `<algorithm>:<hex>` in lower case. */
  readonly digest: string;
  /** What is there is damaged: nobody is handed it any more, who asks next has it downloaded again. */
  discard(): void;
}

/** For whom an artifact is opened. */
export interface Opening {
  readonly signal: AbortSignal;
  /** Namespace of the StageSet. */
  readonly tenant: string;
}

/**
 * Artifacts by digest, kept once however many use them. To know a digest gives nobody the content: a tenant is handed
 * what is kept only if it had it before, or names a URL that it came from and would be fetched from now. Disposing ends
 * what is under way and removes every file.
 */
export interface ArtifactStore extends AsyncDisposable {
  /**
   * The artifact with this digest: kept from before, else downloaded, verified and unpacked. Concurrent calls share a
   * download; it ends when nobody waits for it any more.
   *
   * @throws {SourceError}
   * @throws the signal's reason, when aborted
   */
  open(artifact: { readonly url: string; readonly digest: string }, o: Opening): Promise<OpenArtifact>;
  /**
   * The same without asking anyone; undefined when it is not kept, or not known to have been this tenant's.
   *
   * @throws {SourceError} `Malformed`, when that is no digest
   */
  openKept(digest: string, o: Opening): Promise<OpenArtifact | undefined>;
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
  /** Told of each artifact that was fetched: its compressed size. */
  readonly onFetched?: (bytes: number) => void;
  /** Default: those of spec 50 §6. */
  readonly caps?: ArtifactCaps;
}

interface Kept {
  readonly digest: string;
  readonly root: string;
  readonly diskBytes: number;
  /** Where it was downloaded from, and who had it; the latest {@link mostNames} of each. */
  readonly urls: Set<string>;
  readonly tenants: Set<string>;
  users: number;
}

/** Of one artifact; past it, what was remembered longest ago costs a download. */
const mostNames = 1_000;

interface Fetching {
  readonly done: Promise<Kept>;
  readonly stop: LinkedSignal;
  waiters: number;
}

// Inflating and writing share the cores and the disk with builds.
const unpackingAtOnce = 2;

export function createArtifactStore(options: ArtifactStoreOptions): ArtifactStore {
  return new Store(options);
}

class Store implements ArtifactStore {
  readonly #options: ArtifactStoreOptions;
  readonly #caps: ArtifactCaps;
  /**
   * Least recently used first. What is in there was verified, and nobody else can change it since: the folder is 0700.
   */
  readonly #kept = new Map<string, Kept>();
  readonly #fetching = new Map<string, Fetching>();
  /** Downloads that nobody waits for any more, until they have cleaned up. */
  readonly #ending = new Set<Promise<void>>();
  readonly #unpacking = createSemaphore(unpackingAtOnce);
  readonly #closing = linkSignals();
  #home: Promise<string> | undefined;
  #made = 0;

  constructor(options: ArtifactStoreOptions) {
    this.#options = options;
    this.#caps = options.caps ?? artifactCaps;
  }

  async open(
    { url, digest: text }: { readonly url: string; readonly digest: string },
    { signal, tenant }: Opening,
  ): Promise<OpenArtifact> {
    signal.throwIfAborted();
    this.#closing.signal.throwIfAborted();
    const digest = parseDigest(text);
    const before = this.#kept.get(digest.text);
    if (before !== undefined && (before.urls.has(url) || before.tenants.has(tenant)))
      return this.#handOut(before, tenant);
    // By URL too: a URL that fails must not fail those who name the digest with a good one.
    const key = `${digest.text} ${url}`;
    const shared = this.#fetching.get(key) ?? this.#start(url, digest, key);
    shared.waiters++;
    try {
      return this.#handOut(await abortable(shared.done, signal), tenant);
    } finally {
      await this.#leave(shared, key);
    }
  }

  openKept(text: string, { tenant }: Opening): Promise<OpenArtifact | undefined> {
    return Promise.try(() => {
      const entry = this.#kept.get(parseDigest(text).text);
      return entry?.tenants.has(tenant) === true ? this.#handOut(entry, tenant) : undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new Shutdown("the artifact store is closed"));
    await Promise.allSettled([...this.#fetching.values()].map(({ done }) => done));
    await Promise.allSettled(this.#ending);
    this.#kept.clear();
    if (this.#home !== undefined) await remove(await this.#home);
  }

  #start(url: string, digest: Digest, key: string): Fetching {
    const stop = linkSignals(this.#closing.signal);
    const done = this.#fetch(url, digest, stop.signal).finally(() => {
      stop[Symbol.dispose]();
      if (this.#fetching.get(key) === started) this.#fetching.delete(key);
    });
    const started: Fetching = { done, stop, waiters: 0 };
    this.#fetching.set(key, started);
    return started;
  }

  async #leave(of: Fetching, key: string): Promise<void> {
    if (--of.waiters > 0) return;
    if (this.#fetching.get(key) === of) {
      this.#fetching.delete(key);
      of.stop.abort(new Abandoned());
    }
    const ended = of.done.then(
      (entry) => this.#release(entry),
      () => undefined,
    );
    this.#ending.add(ended);
    await ended;
    this.#ending.delete(ended);
  }

  /** Answers with one use taken, so that it stays until every waiter has taken its own. */
  async #fetch(url: string, digest: Digest, signal: AbortSignal): Promise<Kept> {
    const { clock, fetch } = this.#options;
    const caps = this.#caps;
    const root = join(await this.#ownFolder(), String(this.#made++));
    const packed = `${root}.tar.gz`;
    try {
      await download({ url, digest, path: packed, maxBytes: caps.bodyBytes }, { fetch, clock, signal });
      this.#options.onFetched?.((await stat(packed)).size);
      using _place = await this.#unpacking.acquire(signal);
      const { diskBytes } = await unpack(packed, { path: root, caps, signal });
      const before = this.#kept.get(digest.text);
      const entry = before ?? {
        digest: digest.text,
        root,
        diskBytes,
        urls: new Set(),
        tenants: new Set(),
        users: 0,
      };
      addLatest(entry.urls, url);
      // In use before anything is waited for: it must not be dropped meanwhile.
      entry.users++;
      if (before === undefined) this.#kept.set(digest.text, entry);
      else await remove(root);
      return entry;
    } catch (error) {
      await remove(root);
      throw reported(error);
    } finally {
      await remove(packed);
    }
  }

  async #ownFolder(): Promise<string> {
    this.#home ??= mkdtemp(join(this.#options.dir, "artifacts-"));
    try {
      return await this.#home;
    } catch (error) {
      this.#home = undefined;
      throw reported(error);
    }
  }

  #handOut(entry: Kept, tenant: string): OpenArtifact {
    entry.users++;
    addLatest(entry.tenants, tenant);
    this.#kept.delete(entry.digest);
    this.#kept.set(entry.digest, entry);
    let open = true;
    return {
      root: entry.root,
      digest: entry.digest,
      discard: () => {
        if (this.#kept.get(entry.digest) === entry) this.#kept.delete(entry.digest);
      },
      [Symbol.asyncDispose]: async () => {
        if (!open) return;
        open = false;
        await this.#release(entry);
      },
    };
  }

  async #release(entry: Kept): Promise<void> {
    entry.users--;
    const { maxKept = 256, maxKeptBytes = 64 * 1024 * 1024 } = this.#options;
    const idle = [...this.#kept.values()].filter(({ users }) => users === 0);
    let count = idle.length;
    let bytes = idle.reduce((sum, { diskBytes }) => sum + diskBytes, 0);
    const gone: Kept[] = [];
    for (const oldest of idle) {
      if (count <= maxKept && bytes <= maxKeptBytes) break;
      count--;
      bytes -= oldest.diskBytes;
      gone.push(oldest);
    }
    for (const { digest } of gone) this.#kept.delete(digest);
    if (entry.users === 0 && this.#kept.get(entry.digest) !== entry && !gone.includes(entry)) gone.push(entry);
    await Promise.all(gone.map(({ root }) => remove(root)));
  }
}

function addLatest(names: Set<string>, name: string): void {
  names.delete(name);
  names.add(name);
  const oldest = names.values().next().value;
  if (names.size > mostNames && oldest !== undefined) names.delete(oldest);
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
