import { systemClock, type Clock } from "../../src/lib/clock.ts";

/** The machine's time, whose date and pace a test may set. */
export interface WallClock extends Clock {
  /** The date alone, in milliseconds; negative: back. What waits are measured with goes on as it did. */
  jump(ms: number): void;
  /** From now on time passes that many times as fast as the machine's: dates, and waits whether begun before or after. */
  setRate(rate: number): void;
}

export function createWallClock(): WallClock {
  let ahead = 0;
  let rate = 1;
  // Where both times agreed last.
  let machineMs = systemClock.monotonic();
  let ownMs = machineMs;
  const origin = systemClock.now() - machineMs;
  const monotonic = (): number => ownMs + (systemClock.monotonic() - machineMs) * rate;
  const timers = new Set<{ readonly at: number; readonly run: () => void; handle: Disposable | undefined }>();
  const arm = (entry: typeof timers extends Set<infer T> ? T : never): void => {
    entry.handle?.[Symbol.dispose]();
    entry.handle = systemClock.timer((entry.at - monotonic()) / rate, () => {
      timers.delete(entry);
      entry.run();
    });
  };
  return {
    monotonic,
    now: () => Math.floor(origin + monotonic() + ahead),
    timer(delayMs, run) {
      const entry = { at: monotonic() + delayMs, run, handle: undefined };
      timers.add(entry);
      arm(entry);
      return {
        [Symbol.dispose]: () => {
          timers.delete(entry);
          (entry as { handle: Disposable | undefined }).handle?.[Symbol.dispose]();
        },
      };
    },
    jump: (ms) => void (ahead += ms),
    setRate(next) {
      ownMs = monotonic();
      machineMs = systemClock.monotonic();
      rate = next;
      for (const entry of timers) arm(entry);
    },
  };
}
