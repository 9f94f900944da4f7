import { performance } from "node:perf_hooks";
import type { Clock } from "../../src/lib/clock.ts";

/** Time that passes `rate` times as fast as the machine's, from a start of its own, and can be moved forward. */
export interface FastClock extends Clock {
  jump(ms: number): void;
}

export function createFastClock({ rate, aheadMs }: { readonly rate: number; readonly aheadMs: number }): FastClock {
  const origin = performance.now();
  const startedAt = Date.now() + aheadMs;
  let jumped = 0;
  const monotonic = (): number => (performance.now() - origin) * rate + jumped;
  const timers = new Set<{ readonly at: number; readonly run: () => void; handle?: NodeJS.Timeout }>();
  const arm = (entry: typeof timers extends Set<infer T> ? T : never): void => {
    clearTimeout(entry.handle);
    const leftMs = Math.max(0, (entry.at - monotonic()) / rate);
    entry.handle = setTimeout(
      () => {
        timers.delete(entry);
        entry.run();
      },
      Math.min(leftMs, 2 ** 31 - 1),
    );
  };
  return {
    monotonic,
    now: () => startedAt + monotonic(),
    timer(delayMs, run) {
      const entry = { at: monotonic() + delayMs, run };
      timers.add(entry);
      arm(entry);
      return {
        [Symbol.dispose]: () => {
          timers.delete(entry);
          clearTimeout((entry as { handle?: NodeJS.Timeout }).handle);
        },
      };
    },
    jump(ms) {
      jumped += ms;
      for (const entry of timers) arm(entry);
    },
  };
}
