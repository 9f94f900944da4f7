import { abortReason } from "./abort-reason.ts";
import type { Clock } from "./clock.ts";

/**
 * Bounds how often and how many at once, and shares that between groups: those that wait take turns, however much one of
 * them wants.
 */
export interface FairLimiter {
  /**
   * Waits for its turn; dispose the result to give the place back (twice is harmless).
   *
   * @throws the signal's reason, when it aborts while waiting
   */
  acquire(group: string, signal: AbortSignal): Promise<Disposable>;
  /** All that wait now. */
  readonly waiting: number;
}

export interface FairLimiterOptions {
  readonly clock: Clock;
  /** Turns that may be given at once after a pause; they come back at `perSecond`. */
  readonly burst: number;
  readonly perSecond: number;
  /** Places held at one time by all groups, and by one of them. */
  readonly places: number;
  readonly placesPerGroup: number;
}

interface Group {
  held: number;
  readonly queue: Set<() => void>;
}

export function createFairLimiter(options: FairLimiterOptions): FairLimiter {
  const { clock, burst, perSecond, places, placesPerGroup } = options;
  // Only groups that hold or wait; the map's order is that of their turns.
  const groups = new Map<string, Group>();
  let turns = burst;
  let countedAt = clock.monotonic();
  let held = 0;
  let next: Disposable | undefined;

  const refill = (): void => {
    const now = clock.monotonic();
    turns = Math.min(burst, turns + ((now - countedAt) * perSecond) / 1_000);
    countedAt = now;
  };
  const forget = (name: string, group: Group): void => {
    if (group.held === 0 && group.queue.size === 0) groups.delete(name);
  };
  const nextGroup = (): readonly [string, Group] | undefined => {
    for (const entry of groups) if (entry[1].queue.size > 0 && entry[1].held < placesPerGroup) return entry;
    return undefined;
  };
  const admit = (): void => {
    refill();
    while (held < places) {
      const [name, group] = nextGroup() ?? [];
      if (name === undefined || group === undefined) return;
      if (turns < 1) {
        // Rounded up: a timer that is early would find no turn and be set again at once.
        next ??= clock.timer(Math.ceil(((1 - turns) * 1_000) / perSecond), () => {
          next = undefined;
          admit();
        });
        return;
      }
      turns--;
      held++;
      group.held++;
      groups.delete(name); // Its next turn comes after one of each other group.
      groups.set(name, group);
      const [grant] = group.queue;
      if (grant === undefined) return;
      group.queue.delete(grant);
      grant();
    }
  };
  const place = (name: string, group: Group): Disposable => {
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        held--;
        group.held--;
        forget(name, group);
        admit();
      },
    };
  };
  return {
    get waiting() {
      return [...groups.values()].reduce((sum, { queue }) => sum + queue.size, 0);
    },
    acquire(name, signal) {
      if (signal.aborted) return Promise.reject(abortReason(signal));
      return new Promise((resolve, reject) => {
        const group = groups.get(name) ?? { held: 0, queue: new Set() };
        groups.set(name, group);
        const grant = (): void => {
          signal.removeEventListener("abort", onAbort);
          resolve(place(name, group));
        };
        const onAbort = (): void => {
          group.queue.delete(grant);
          forget(name, group);
          reject(abortReason(signal));
        };
        group.queue.add(grant);
        signal.addEventListener("abort", onAbort, { once: true });
        admit();
      });
    },
  };
}
