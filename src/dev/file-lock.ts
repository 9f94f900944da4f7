import { mkdir, open, rm, stat, utimes } from "node:fs/promises";
import { dirname } from "node:path";
import { sleep, systemClock } from "../lib/clock.ts";

/** How long a lock may go without a sign of life from its holder before another process takes it. */
const staleAfterMs = 10_000;
const signOfLifeMs = 2_000;
const lookAgainMs = 200;

/**
 * Runs `work` while holding a lock file, which other processes (also in other containers that share the folder) wait
 * for. A holder that died is noticed after ten seconds. Two processes that find the same dead lock at the same moment
 * may both enter, so `work` must be harmless when done twice.
 *
 * @throws the signal's reason, when aborted while waiting
 */
export async function withFileLock<T>(
  path: string,
  { signal }: { readonly signal?: AbortSignal | undefined },
  work: () => Promise<T>,
): Promise<T> {
  await mkdir(dirname(path), { recursive: true });
  while (!(await tryCreate(path))) {
    if (await isStale(path)) await rm(path, { force: true });
    else await sleep(systemClock, lookAgainMs, signal);
  }
  const ticker = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => undefined); // Gone: someone cleared the cache; the work is still worth finishing.
  }, signOfLifeMs);
  try {
    return await work();
  } finally {
    clearInterval(ticker);
    await rm(path, { force: true });
  }
}

async function tryCreate(path: string): Promise<boolean> {
  try {
    await (await open(path, "wx")).close();
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    throw error;
  }
}

async function isStale(path: string): Promise<boolean> {
  try {
    return systemClock.now() - (await stat(path)).mtimeMs > staleAfterMs;
  } catch {
    return false; // Just released.
  }
}
