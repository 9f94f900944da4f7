import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { deadline, DeadlineExceeded } from "../lib/abort.ts";
import { sleep, type Clock } from "../lib/clock.ts";
import type { GuardedFetch, GuardedResponse } from "../outbound/guard.ts";
import { OutboundError } from "../outbound/outbound-error.ts";
import type { Digest } from "./digest.ts";
import { SourceError } from "./source-error.ts";

/** All attempts and the waits between them. */
const totalTimeoutMs = 5 * 60_000;
/** Before the second and the third attempt. */
const waitsMs = [500, 1_000];

export interface Download {
  readonly url: string;
  readonly digest: Digest;
  /** A file that does not exist yet; after a failure it may, with anything in it. */
  readonly path: string;
  readonly maxBytes: number;
}

interface Tools {
  readonly fetch: GuardedFetch;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** What came of one attempt; `again`: the same request may do better in a moment (spec 20 §4). */
type Attempt =
  { readonly kind: "done" } | { readonly kind: "failed"; readonly error: SourceError; readonly again: boolean };

/**
 * Downloads to a file and checks the digest of the raw body.
 *
 * @throws {SourceError} any reason but those of unpacking
 * @throws the signal's reason, when aborted
 */
export async function download(wanted: Download, { fetch, clock, signal }: Tools): Promise<void> {
  using limit = deadline(clock, { timeoutMs: totalTimeoutMs, what: "the download", parent: signal });
  try {
    for (let number = 0; ; number++) {
      const outcome = await attempt(wanted, fetch, limit.signal);
      if (outcome.kind === "done") return;
      const waitMs = waitsMs[number];
      if (!outcome.again || waitMs === undefined) throw outcome.error;
      await sleep(clock, waitMs, limit.signal);
    }
  } catch (error) {
    if (error instanceof DeadlineExceeded && !signal.aborted)
      throw new SourceError("TimedOut", error.message, { cause: error });
    throw error;
  }
}

async function attempt(wanted: Download, fetch: GuardedFetch, signal: AbortSignal): Promise<Attempt> {
  try {
    await using response = await fetch(wanted.url, { signal });
    const { status } = response;
    if (status === 404 || status === 410)
      return failed(new SourceError("Moved", `the server answered ${status}: the artifact is gone`), false);
    if (status !== 200) {
      const again = status === 408 || status === 429 || status >= 500;
      return failed(new SourceError("Unreachable", `the server answered ${status}`), again);
    }
    await store(response, wanted);
    return { kind: "done" };
  } catch (error) {
    if (error instanceof SourceError) return failed(error, false);
    if (!(error instanceof OutboundError)) throw error;
    return failed(new SourceError(error.reason, error.message, { cause: error }), error.retry === "backoff");
  }
}

function failed(error: SourceError, again: boolean): Attempt {
  return { kind: "failed", error, again };
}

async function store(response: GuardedResponse, { path, digest, maxBytes }: Download): Promise<void> {
  const tooLarge = (): SourceError =>
    new SourceError("TooLarge", `the artifact is larger than ${maxBytes} bytes as it is sent`);
  if (Number(response.header("content-length") ?? 0) > maxBytes) throw tooLarge();
  const hash = createHash(digest.algorithm);
  let bytes = 0;
  await using file = await open(path, "w", 0o600);
  for await (const chunk of response.body) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw tooLarge();
    hash.update(chunk);
    await file.writeFile(chunk);
  }
  const received = hash.digest("hex");
  if (received !== digest.hex)
    throw new SourceError("DigestMismatch", `the content does not have the pinned digest "${digest.text}"`, {
      cause: new Error(`the content has digest "${digest.algorithm}:${received}"`),
    });
}
