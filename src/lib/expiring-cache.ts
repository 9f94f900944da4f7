import type { Clock } from "./clock.ts";

/** Answers that are asked for again and again, each kept for as long as it said. */
export interface ExpiringCache<T> {
  /**
   * What is kept under the key, else what `load` gives; those that ask while it runs share it. A failure is not kept.
   */
  get(key: string, load: () => Promise<{ readonly value: T; readonly forMs: number }>): Promise<T>;
  readonly size: number;
}

/** Holds at most `most` answers: beyond, the one that was loaded longest ago goes. */
export function createExpiringCache<T>({
  clock,
  most,
}: {
  readonly clock: Clock;
  readonly most: number;
}): ExpiringCache<T> {
  const kept = new Map<string, { readonly value: Promise<T>; until: number }>();
  return {
    get size() {
      return kept.size;
    },
    get(key, load) {
      const known = kept.get(key);
      if (known !== undefined && clock.monotonic() < known.until) return known.value;
      const entry = {
        until: Infinity,
        value: load().then(
          ({ value, forMs }) => {
            entry.until = clock.monotonic() + forMs;
            return value;
          },
          (error: unknown) => {
            if (kept.get(key) === entry) kept.delete(key);
            throw error;
          },
        ),
      };
      kept.delete(key);
      kept.set(key, entry);
      for (const oldest of kept.keys()) {
        if (kept.size <= most) break;
        kept.delete(oldest);
      }
      return entry.value;
    },
  };
}
