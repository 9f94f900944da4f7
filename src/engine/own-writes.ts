/** Tells the controller's own writes from those of others, as watches show them. */
export interface OwnWrites {
  /** A state, by a mark that nobody else's has: the answer to a write of ours. */
  remember(mark: string): void;
  has(mark: string): boolean;
  /** Writes of ours for the key are under way until this is disposed; each must be remembered before. */
  writing(key: string): Disposable;
  /** Runs at once, or when the answers to our own writes for the key are in. */
  after(key: string, run: () => void): void;
}

/** Own writes remembered; a forgotten one costs one needless pass. */
const mostRemembered = 20_000;

export function createOwnWrites(): OwnWrites {
  const own = new Set<string>();
  const underWay = new Map<string, { count: number; readonly after: (() => void)[] }>();
  return {
    remember(mark) {
      own.add(mark);
      const oldest = own.values().next().value;
      if (own.size > mostRemembered && oldest !== undefined) own.delete(oldest);
    },
    has: (mark) => own.has(mark),
    writing(key) {
      const writes = underWay.get(key) ?? { count: 0, after: [] };
      underWay.set(key, writes);
      writes.count++;
      return {
        [Symbol.dispose]: () => {
          if (--writes.count > 0) return;
          underWay.delete(key);
          for (const run of writes.after) run();
        },
      };
    },
    after(key, run) {
      const writes = underWay.get(key);
      if (writes === undefined) run();
      else writes.after.push(run);
    },
  };
}
