import { performance } from "node:perf_hooks";
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
