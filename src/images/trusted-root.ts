import { readFile, stat } from "node:fs/promises";
import { deadline } from "../lib/abort.ts";
import { abortable } from "../lib/abortable.ts";
import type { Clock } from "../lib/clock.ts";
import { RegistryError } from "./registry-error.ts";

/** Spec 50 §4.3. */
const refreshMs = 24 * 3_600_000;
const fetchTimeoutMs = 30_000;
/** How long an old root is used before a newer one is tried for again. */
const retryMs = 300_000;
const mostBytes = 4 * 1024 * 1024;

/** The trusted root as JSON. @throws {RegistryError} it cannot be had now */
export type TrustedRootSource = (signal: AbortSignal) => Promise<string>;

/** A file that is read again on each need: it is small, and may be replaced at any time. */
export function trustedRootFile(path: string): TrustedRootSource {
  return async () => {
    try {
      return await readTrustedRoot(path);
    } catch (error) {
      throw new RegistryError("unavailable", "the trusted root cannot be read", { cause: error });
    }
  };
}

/** @throws it cannot be read, or is no JSON */
export async function readTrustedRoot(path: string): Promise<string> {
  const { size } = await stat(path);
  if (size > mostBytes) throw new RangeError("it is too large");
  const text = await readFile(path, "utf8");
  JSON.parse(text);
  return text;
}

/**
 * The root of the public instance, fetched on the first need and every 24 h after. What was fetched is used while a newer
 * one cannot be had; a fetch that failed is tried again by the next need.
 */
export function fetchedTrustedRoot({
  clock,
  fetchRoot = async () => (await import("./tuf-root.ts")).fetchPublicRoot(),
}: {
  readonly clock: Clock;
  readonly fetchRoot?: () => Promise<string>;
}): TrustedRootSource {
  let known: { readonly root: string; readonly fetchedAt: number } | undefined;
  let fetching: Promise<string> | undefined;
  let failedAt = -Infinity;
  const fetchOnce = (): Promise<string> => {
    fetching ??= fetchRoot()
      .then((root) => {
        known = { root, fetchedAt: clock.monotonic() };
        return root;
      })
      .finally(() => {
        fetching = undefined;
      });
    return fetching;
  };
  return async (signal) => {
    const now = clock.monotonic();
    if (known !== undefined && (now - known.fetchedAt < refreshMs || now - failedAt < retryMs)) return known.root;
    try {
      using limit = deadline(clock, { timeoutMs: fetchTimeoutMs, what: "fetching the trusted root", parent: signal });
      return await abortable(fetchOnce(), limit.signal);
    } catch (error) {
      signal.throwIfAborted();
      failedAt = clock.monotonic();
      if (known !== undefined) return known.root;
      throw new RegistryError("unavailable", "the trusted root cannot be fetched from the public Sigstore instance", {
        cause: error,
      });
    }
  };
}
