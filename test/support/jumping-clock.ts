import { performance } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "../../src/lib/clock.ts";

/** The machine's time, which a test may move forward: timers that are due by then run at once, in their order. */
export interface JumpingClock extends Clock {
  jump(ms: number): void;
}

export function createJumpingClock(): JumpingClock {
  let ahead = 0;
  const monotonic = (): number => performance.now() + ahead;
  const timers = new Set<{ readonly at: number; readonly run: () => void; handle: NodeJS.Timeout | undefined }>();
  return {
    monotonic,
    now: () => Date.now() + ahead,
    timer(delayMs, run) {
      const entry: Parameters<typeof timers.add>[0] = {
        at: monotonic() + Math.max(0, delayMs),
        run: () => {
          clearTimeout(entry.handle);
          if (timers.delete(entry)) run();
        },
        handle: undefined,
      };
      timers.add(entry);
      // A timer longer than a day is only ever reached by a jump.
      if (delayMs < 86_400_000) entry.handle = setTimeout(entry.run, Math.max(0, delayMs));
      return {
        [Symbol.dispose]: () => {
          clearTimeout(entry.handle);
          timers.delete(entry);
        },
      };
    },
    jump(ms) {
      ahead += ms;
      const due = [...timers].filter(({ at }) => at <= monotonic()).sort((a, b) => a.at - b.at);
      for (const entry of due) entry.run();
      for (const entry of timers) {
        clearTimeout(entry.handle);
        entry.handle = setTimeout(entry.run, Math.max(0, entry.at - monotonic()));
      }
    },
  };
}

/**
 * Waits for what comes after a jump while the clock goes on by steps: a jump may fall between the moment a controller
 * decides when to look next and the moment it sets the timer.
 */
export async function whileStepping<T>(clock: JumpingClock, stepMs: number, wait: Promise<T>): Promise<T> {
  const abort = new AbortController();
  const stepping = (async () => {
    for (;;) {
      await delay(500, undefined, { signal: abort.signal });
      clock.jump(stepMs);
    }
  })().catch(() => undefined); // The wait is over.
  try {
    return await wait;
  } finally {
    abort.abort();
    await stepping;
  }
}
