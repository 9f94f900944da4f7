import { systemClock, type Clock } from "../../src/lib/clock.ts";

/** The machine's time, whose date a test may set: what waits are measured with goes on as it did. */
export interface WallClock extends Clock {
  /** Milliseconds; negative: back. */
  jump(ms: number): void;
}

export function createWallClock(): WallClock {
  let ahead = 0;
  return { ...systemClock, now: () => systemClock.now() + ahead, jump: (ms) => void (ahead += ms) };
}
