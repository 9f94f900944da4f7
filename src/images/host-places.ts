import type { Clock } from "../lib/clock.ts";
import { createFairLimiter, type FairLimiter } from "../lib/fair-limiter.ts";

/** Bounds how much is asked of one host at one time, so that one that answers nobody takes few places of all. */
export interface HostPlaces {
  /**
   * Waits for a place; dispose the result to give it back.
   *
   * @throws the signal's reason, when it aborts while waiting
   */
  acquire(host: string, group: string, signal: AbortSignal): Promise<Disposable>;
}

/** How often is not bounded here. */
const unbounded = { burst: 1_000_000, perSecond: 1_000_000 };

export function createHostPlaces(options: {
  readonly clock: Clock;
  readonly places: number;
  readonly placesPerGroup: number;
}): HostPlaces {
  /** Only hosts that somebody asks or waits for. */
  const hosts = new Map<string, { readonly limiter: FairLimiter; users: number }>();
  return {
    async acquire(host, group, signal) {
      const entry = hosts.get(host) ?? { limiter: createFairLimiter({ ...options, ...unbounded }), users: 0 };
      hosts.set(host, entry);
      entry.users++;
      let isLeft = false;
      const leave = (): void => {
        if (isLeft) return;
        isLeft = true;
        entry.users--;
        if (entry.users === 0) hosts.delete(host);
      };
      try {
        const place = await entry.limiter.acquire(group, signal);
        return {
          [Symbol.dispose]() {
            place[Symbol.dispose]();
            leave();
          },
        };
      } catch (error) {
        leave();
        throw error;
      }
    },
  };
}
