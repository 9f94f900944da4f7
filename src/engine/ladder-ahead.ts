import { createSemaphore } from "../lib/semaphore.ts";

/** Looks ahead, one at a time, and one of each StageSet: thousands of them may have a ladder when a process starts. */
export interface LadderAhead {
  /** Resolves with false, and nothing done, when one of this key waits already. */
  run(key: string, look: () => Promise<void>, signal: AbortSignal): Promise<boolean>;
}

export function createLadderAhead(): LadderAhead {
  const one = createSemaphore(1);
  const waiting = new Set<string>();
  return {
    async run(key, look, signal) {
      if (waiting.has(key)) return false;
      waiting.add(key);
      let place: Disposable;
      try {
        place = await one.acquire(signal);
      } finally {
        waiting.delete(key);
      }
      using _place = place;
      await look();
      return true;
    },
  };
}
