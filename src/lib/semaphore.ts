/** Bounds how many holders run at once; waiters are served first come, first served. */
export interface Semaphore {
  /**
   * Waits for a place; dispose the result to give it back (twice is harmless).
   *
   * @throws the signal's reason, when it aborts while waiting
   */
  acquire(signal?: AbortSignal): Promise<Disposable>;
  readonly waiting: number;
}

export function createSemaphore(places: number): Semaphore {
  let free = places;
  const queue = new Set<() => void>();
  const take = (): Disposable => {
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        const next = queue.values().next().value;
        if (next === undefined) free++;
        else {
          queue.delete(next);
          next();
        }
      },
    };
  };
  return {
    get waiting() {
      return queue.size;
    },
    acquire(signal) {
      if (signal?.aborted) return Promise.reject(signal.reason as Error);
      if (free > 0) {
        free--;
        return Promise.resolve(take());
      }
      return new Promise((resolve, reject) => {
        const grant = (): void => {
          signal?.removeEventListener("abort", onAbort);
          resolve(take());
        };
        const onAbort = (): void => {
          queue.delete(grant);
          reject(signal?.reason as Error);
        };
        queue.add(grant);
        signal?.addEventListener("abort", onAbort, { once: true });
      });
    },
  };
}
