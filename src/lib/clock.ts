import { performance } from "node:perf_hooks";

/** The longest delay a Node timer takes; a larger one fires at once (nodejs.org/api/timers.html). */
const longestTimerMs = 2 ** 31 - 1;

/** Time as code sees it: tests own it by passing a {@link ManualClock}. */
export interface Clock {
  /** Wall time, epoch milliseconds. May jump; for instants that are stored or shown. */
  now(): number;
  /** Milliseconds that never go backwards, from an arbitrary origin; for measuring waits. */
  monotonic(): number;
  /** Calls `run` once after `delayMs` (any size; ≤ 0: as soon as possible), unless the result is disposed first. */
  timer(delayMs: number, run: () => void): Disposable;
}

/** The machine's own time. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  timer(delayMs, run) {
    let handle: NodeJS.Timeout;
    const arm = (leftMs: number): void => {
      handle = setTimeout(
        () => {
          if (leftMs > longestTimerMs) arm(leftMs - longestTimerMs);
          else run();
        },
        Math.max(0, Math.min(leftMs, longestTimerMs)),
      );
    };
    arm(delayMs);
    return { [Symbol.dispose]: () => clearTimeout(handle) };
  },
};

/**
 * Resolves after `delayMs`.
 *
 * @throws the signal's reason, at once when it aborts
 */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(asError(signal.reason));
      return;
    }
    const onAbort = (): void => {
      timer[Symbol.dispose]();
      reject(asError(signal?.reason));
    };
    const timer = clock.timer(delayMs, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** A clock that moves only when told to, for tests. */
export interface ManualClock extends Clock {
  /** Moves both times forward, running due timers in order. */
  advance(ms: number): void;
  /** Moves wall time alone, as a correction of the machine's clock does. */
  setNow(epochMs: number): void;
}

/** Starts at `epochMs`; no timer runs until {@link ManualClock.advance}. */
export function createManualClock(epochMs = 0): ManualClock {
  let wallOffset = epochMs;
  let elapsed = 0;
  const timers = new Set<{ readonly at: number; readonly run: () => void }>();
  return {
    now: () => wallOffset + elapsed,
    monotonic: () => elapsed,
    timer(delayMs, run) {
      const entry = { at: elapsed + Math.max(0, delayMs), run };
      timers.add(entry);
      return { [Symbol.dispose]: () => void timers.delete(entry) };
    },
    advance(ms) {
      const until = elapsed + ms;
      for (;;) {
        const due = [...timers].filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at)[0];
        if (due === undefined) break;
        timers.delete(due);
        elapsed = Math.max(elapsed, due.at);
        due.run();
      }
      elapsed = until;
    },
    setNow(at) {
      wallOffset = at - elapsed;
    },
  };
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(`aborted: ${String(reason)}`);
}
