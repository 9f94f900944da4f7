import { abortReason } from "../lib/abort-reason.ts";
import type { Clock } from "../lib/clock.ts";

/** Requests one cluster may have in flight (spec 20 §13). */
export const requestsInFlight = 64;

/** How long a cluster that answered 429 has half its share. */
export const throttledForMs = 10_000;

/** Bounds the requests in flight to one cluster, first come, first served. */
export interface Limiter {
  /**
   * Waits for a place; dispose the result to give it back.
   *
   * @throws the signal's reason, when it aborts while waiting
   */
  acquire(signal?: AbortSignal): Promise<Disposable>;
  /** The cluster answered 429: half the places for {@link throttledForMs} from now. */
  throttle(): void;
  readonly inFlight: number;
  readonly waiting: number;
}

export function createLimiter({ places, clock }: { readonly places: number; readonly clock: Clock }): Limiter {
  let inFlight = 0;
  let throttledUntil = -Infinity;
  let recovery: Disposable | undefined;
  const queue = new Set<() => void>();

  const limit = (): number => (clock.monotonic() < throttledUntil ? Math.max(1, Math.floor(places / 2)) : places);
  const admit = (): void => {
    for (const grant of queue) {
      if (inFlight >= limit()) break;
      queue.delete(grant);
      grant();
    }
    // Nothing in flight may end while waiters are held back: the end of the throttle lets them in.
    if (queue.size > 0 && clock.monotonic() < throttledUntil && recovery === undefined) {
      recovery = clock.timer(throttledUntil - clock.monotonic(), () => {
        recovery = undefined;
        admit();
      });
    }
  };
  const take = (): Disposable => {
    inFlight++;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        inFlight--;
        admit();
      },
    };
  };
  return {
    get inFlight() {
      return inFlight;
    },
    get waiting() {
      return queue.size;
    },
    throttle() {
      throttledUntil = clock.monotonic() + throttledForMs;
    },
    acquire(signal) {
      if (signal?.aborted === true) return Promise.reject(abortReason(signal));
      if (queue.size === 0 && inFlight < limit()) return Promise.resolve(take());
      return new Promise((resolve, reject) => {
        const grant = (): void => {
          signal?.removeEventListener("abort", onAbort);
          resolve(take());
        };
        const onAbort = (): void => {
          queue.delete(grant);
          reject(signal === undefined ? new Error("aborted") : abortReason(signal));
        };
        queue.add(grant);
        signal?.addEventListener("abort", onAbort, { once: true });
        admit();
      });
    },
  };
}
