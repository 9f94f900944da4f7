import { setTimeout as delay } from "node:timers/promises";

export interface EventuallyOptions {
  /** Default 30 s: a busy machine takes long, and it costs only what fails. */
  readonly timeoutMs?: number;
  /** Between two looks; default 50 ms. */
  readonly intervalMs?: number;
}

/**
 * Calls `look` until it neither throws nor returns `undefined` or `false`, and returns what it returned.
 *
 * @throws the last error of `look`, or one saying that it kept returning `undefined` or `false`
 */
export async function eventually<T>(
  look: () => T | Promise<T>,
  { timeoutMs = 30_000, intervalMs = 50 }: EventuallyOptions = {},
): Promise<Exclude<T, undefined | false>> {
  const giveUpAt = performance.now() + timeoutMs;
  for (;;) {
    let failure: unknown;
    try {
      const seen = await look();
      if (isSomething(seen)) return seen;
      failure = new Error(`still ${String(seen)} after ${timeoutMs} ms: ${look.toString()}`);
    } catch (error) {
      failure = error;
    }
    if (performance.now() >= giveUpAt) throw failure;
    await delay(intervalMs);
  }
}

function isSomething<T>(value: T): value is Exclude<T, undefined | false> {
  return value !== undefined && value !== false;
}
