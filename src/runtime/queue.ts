import type { Clock } from "../lib/clock.ts";
import { createSemaphore, type Semaphore } from "../lib/semaphore.ts";

/** What a pass is given. */
export interface Turn<Cause> {
  readonly key: string;
  /** Why the key runs; what came in while it waited is merged. */
  readonly causes: ReadonlySet<Cause>;
  /**
   * Between two steps: lets a group go first that waits and has nothing running. Resolves at once when none does.
   */
  breathe(): Promise<void>;
  /**
   * Waits for `work`, which does nothing but wait for an answer, without its place: others do something meanwhile. It
   * keeps the place while {@link mostAway} times as many as there are places are away already.
   */
  away<Result>(work: () => Promise<Result>): Promise<Result>;
  /**
   * Does `work` without a place, and waits for one again afterwards: somebody else's server may hold it up. Of each group
   * {@link mostElsewhere} times as many as there are places do so at once, so that it holds up this group alone.
   *
   * @throws the signal's reason, when it aborts before the work begins
   */
  elsewhere<Result>(work: () => Promise<Result>, signal: AbortSignal): Promise<Result>;
}

export interface QueueOptions<Cause> {
  readonly clock: Clock;
  /** Passes that do something at once, at most. */
  readonly concurrency: number;
  /** Groups share the places fairly; for StageSets their namespace. */
  readonly groupOf: (key: string) => string;
  /** Runs one pass; it must not throw. */
  readonly run: (turn: Turn<Cause>) => Promise<void>;
  /** Told of what happens, for metrics. */
  readonly meter?: QueueMeter | undefined;
  /** While false no pass begins beside another; those under way take turns at one place. Default: always true. */
  readonly mayBegin?: () => boolean;
  /** Passes for these causes begin all the same. Default: none. */
  readonly isOwed?: (causes: ReadonlySet<Cause>) => boolean;
}

/** What a queue tells of its keys; each call returns at once. */
export interface QueueMeter {
  /** A key became due. */
  added(): void;
  /** A pass got its place after `waitedMs`. */
  started(waitedMs: number): void;
  /** A pass ended after `ranMs`. */
  ended(ranMs: number): void;
}

/**
 * Runs keys: never one twice at once, a key that is added while it runs exactly once more, the earliest of several times
 * wins, and groups take turns (spec 20 §13). Starts at once; nothing runs after {@link Queue.stop}.
 */
export interface Queue<Cause> {
  /** An event. Those of one key within the merge time become one pass; `urgent` shortens that time. */
  add(key: string, cause: Cause, o?: { readonly urgent?: boolean }): void;
  /** Runs the key at this monotonic time unless something runs it before; replaces the time given before. */
  wakeAt(key: string, elapsed: number, cause: Cause): void;
  /** Drops times and events that wait; a running pass goes on. */
  forget(key: string): void;
  /** {@link QueueOptions.mayBegin} has become true. */
  reconsider(): void;
  readonly running: number;
  /** Passes that are due and have no place. */
  readonly depth: number;
  /** Milliseconds for which each pass under way has been running. */
  readonly runningMs: () => readonly number[];
  /** No new pass starts; resolves when those under way have ended. */
  stop(): Promise<void>;
}

/** Passes that may be away, per place: each holds what it has read and built. */
const mostAway = 3;

/** Passes of one group that may be elsewhere, per place. */
const mostElsewhere = 4;

/** Events of one key closer together than this become one pass (spec 20 §1). */
const mergeMs = 100;
const urgentMergeMs = 10;

interface Entry<Cause> {
  readonly key: string;
  readonly group: string;
  state: "idle" | "waiting" | "ready" | "running";
  causes: Set<Cause>;
  /** Added while running. */
  dirty: boolean;
  timer: { readonly elapsed: number; readonly handle: Disposable; readonly event: boolean } | undefined;
  /** The time to wake at when an event takes the timer's place and is dropped. */
  startedAt: number;
  /** A pass that let another group go first waits to go on. */
  resume: (() => void) | undefined;
  /** When it became due, monotonic ms. */
  dueAt: number;
  /** It runs without a place. */
  elsewhere: boolean;
}

export function createQueue<Cause>(options: QueueOptions<Cause>): Queue<Cause> {
  const { clock, concurrency, groupOf } = options;
  const entries = new Map<string, Entry<Cause>>();
  /** Ready entries by group, groups in the order in which they were served last. */
  const ready = new Map<string, Set<Entry<Cause>>>();
  const runningByGroup = new Map<string, number>();
  const ended = new Set<Promise<void>>();
  /** Shares of work elsewhere, by group. */
  const shares = new Map<string, { users: number; readonly places: Semaphore }>();
  let running = 0;
  let away = 0;
  /** Passes that run without a place. */
  let beside = 0;
  let stopped = false;

  const entryOf = (key: string): Entry<Cause> => {
    const known = entries.get(key);
    if (known !== undefined) return known;
    const fresh: Entry<Cause> = {
      key,
      group: groupOf(key),
      state: "idle",
      causes: new Set(),
      dirty: false,
      timer: undefined,
      startedAt: -Infinity,
      resume: undefined,
      dueAt: 0,
      elsewhere: false,
    };
    entries.set(key, fresh);
    return fresh;
  };
  const clearTimer = (entry: Entry<Cause>): void => {
    entry.timer?.handle[Symbol.dispose]();
    entry.timer = undefined;
  };
  const setTimer = (entry: Entry<Cause>, elapsed: number, event: boolean): void => {
    clearTimer(entry);
    const handle = clock.timer(elapsed - clock.monotonic(), () => {
      entry.timer = undefined;
      makeReady(entry);
    });
    entry.timer = { elapsed, handle, event };
    entry.state = "waiting";
  };
  const makeReady = (entry: Entry<Cause>): void => {
    clearTimer(entry);
    entry.state = "ready";
    if (entry.resume === undefined) {
      entry.dueAt = clock.monotonic();
      options.meter?.added();
    }
    const members = ready.get(entry.group) ?? new Set();
    members.add(entry);
    ready.set(entry.group, members);
    dispatch();
  };
  /** The group with the fewest passes under way; among equals the one that was served longest ago. */
  const nextEntry = (): Entry<Cause> | undefined => {
    let best: Entry<Cause> | undefined;
    let fewest = Infinity;
    for (const [group, members] of ready) {
      const count = runningByGroup.get(group) ?? 0;
      if (count >= fewest) continue;
      best = members.values().next().value;
      fewest = count;
      if (count === 0) break;
    }
    return best;
  };
  const takeBack = (entry: Entry<Cause>): void => {
    running++;
    runningByGroup.set(entry.group, (runningByGroup.get(entry.group) ?? 0) + 1);
  };
  const take = (entry: Entry<Cause>): void => {
    const members = ready.get(entry.group);
    members?.delete(entry);
    ready.delete(entry.group);
    if (members !== undefined && members.size > 0) ready.set(entry.group, members);
    entry.state = "running";
    takeBack(entry);
  };
  const giveBack = (entry: Entry<Cause>): void => {
    running--;
    const left = (runningByGroup.get(entry.group) ?? 1) - 1;
    if (left === 0) runningByGroup.delete(entry.group);
    else runningByGroup.set(entry.group, left);
  };
  /** One that is owed, or under way already and waits to go on; when none is under way any. */
  const nextWhenShort = (): Entry<Cause> | undefined => {
    for (const members of ready.values())
      for (const entry of members)
        if (entry.resume === undefined && options.isOwed?.(entry.causes) === true) return entry;
    if (running > 0) return undefined;
    for (const members of ready.values()) for (const entry of members) if (entry.resume !== undefined) return entry;
    // Those elsewhere wait for somebody else's server, which must not stop everybody; but they hold memory as well: one of
    // each group, and so many in all.
    if (ended.size > beside || beside >= mostElsewhere * concurrency) return undefined;
    for (const [group, members] of ready) if (!shares.has(group)) return members.values().next().value;
    return undefined;
  };
  const dispatch = (): void => {
    while (!stopped && running < concurrency) {
      const entry = (options.mayBegin?.() ?? true) ? nextEntry() : nextWhenShort();
      if (entry === undefined) return;
      take(entry);
      const { resume } = entry;
      if (resume !== undefined) {
        entry.resume = undefined;
        resume();
      } else start(entry);
    }
  };
  const start = (entry: Entry<Cause>): void => {
    const { causes } = entry;
    entry.causes = new Set();
    entry.dirty = false;
    entry.startedAt = clock.monotonic();
    options.meter?.started(entry.startedAt - entry.dueAt);
    const turn: Turn<Cause> = {
      key: entry.key,
      causes,
      breathe: () => breathe(entry),
      away: (work) => goAway(entry, work),
      elsewhere: (work, signal) => goElsewhere(entry, work, signal),
    };
    const done = options.run(turn).finally(() => {
      ended.delete(done);
      options.meter?.ended(clock.monotonic() - entry.startedAt);
      giveBack(entry);
      entry.state = entry.timer === undefined ? "idle" : "waiting";
      if (entry.dirty && !stopped) schedule(entry, false);
      else if (entry.state === "idle") entries.delete(entry.key);
      dispatch();
    });
    ended.add(done);
  };
  const comeBack = async (entry: Entry<Cause>): Promise<void> => {
    // A pass that ends with the queue needs no place to see that.
    if (stopped) takeBack(entry);
    else
      await new Promise<void>((resolve) => {
        entry.resume = resolve;
        makeReady(entry);
      });
  };
  const goAway = async <Result>(entry: Entry<Cause>, work: () => Promise<Result>): Promise<Result> => {
    if (stopped || entry.elsewhere || away >= mostAway * concurrency) return work();
    away++;
    giveBack(entry);
    dispatch();
    try {
      return await work();
    } finally {
      away--;
      await comeBack(entry);
    }
  };
  const goElsewhere = async <Result>(
    entry: Entry<Cause>,
    work: () => Promise<Result>,
    signal: AbortSignal,
  ): Promise<Result> => {
    if (entry.elsewhere) return work();
    const share = shares.get(entry.group) ?? { users: 0, places: createSemaphore(mostElsewhere * concurrency) };
    shares.set(entry.group, share);
    share.users++;
    beside++;
    entry.elsewhere = true;
    giveBack(entry);
    dispatch();
    try {
      using _place = await share.places.acquire(signal);
      return await work();
    } finally {
      if (--share.users === 0) shares.delete(entry.group);
      beside--;
      await comeBack(entry);
      entry.elsewhere = false;
    }
  };
  const breathe = (entry: Entry<Cause>): Promise<void> => {
    const starving = [...ready].some(([group]) => group !== entry.group && (runningByGroup.get(group) ?? 0) === 0);
    if (stopped || entry.elsewhere || running < concurrency || !starving) return Promise.resolve();
    return new Promise((resolve) => {
      entry.resume = resolve;
      giveBack(entry);
      // Others of its group that were ready before must not take the place it makes.
      const members = ready.get(entry.group);
      if (members !== undefined) {
        ready.delete(entry.group);
        ready.set(entry.group, members);
      }
      makeReady(entry);
    });
  };
  /** An event is due at once, or when the merge time since the last start is over. */
  const schedule = (entry: Entry<Cause>, urgent: boolean): void => {
    const due = entry.startedAt + (urgent ? urgentMergeMs : mergeMs);
    if (due <= clock.monotonic()) makeReady(entry);
    else if (entry.timer === undefined || entry.timer.elapsed > due) setTimer(entry, due, true);
  };
  return {
    add(key, cause, o) {
      if (stopped) return;
      const entry = entryOf(key);
      entry.causes.add(cause);
      if (entry.state === "running" || entry.resume !== undefined) entry.dirty = true;
      else if (entry.state !== "ready") schedule(entry, o?.urgent ?? false);
    },
    wakeAt(key, elapsed, cause) {
      if (stopped) return;
      const entry = entryOf(key);
      if (entry.state === "ready" || (entry.timer?.event ?? false)) return;
      entry.causes.add(cause);
      const wasRunning = entry.state === "running";
      setTimer(entry, elapsed, false);
      if (wasRunning) entry.state = "running";
    },
    forget(key) {
      const entry = entries.get(key);
      if (entry === undefined) return;
      clearTimer(entry);
      entry.dirty = false;
      entry.causes.clear();
      const members = ready.get(entry.group);
      if (entry.resume === undefined && members?.delete(entry) === true && members.size === 0)
        ready.delete(entry.group);
      if (entry.state !== "running" && entry.resume === undefined) entries.delete(key);
    },
    reconsider: dispatch,
    get running() {
      return running;
    },
    runningMs: () =>
      [...entries.values()]
        .filter((entry) => entry.state === "running")
        .map((entry) => clock.monotonic() - entry.startedAt),
    get depth() {
      let count = 0;
      for (const members of ready.values()) count += members.size;
      return count;
    },
    async stop() {
      stopped = true;
      for (const entry of entries.values()) {
        clearTimer(entry);
        // A pass that waits for its place ends like the others: it sees the signal at its next step.
        const { resume } = entry;
        if (resume === undefined) continue;
        ready.get(entry.group)?.delete(entry);
        entry.resume = undefined;
        entry.state = "running";
        takeBack(entry);
        resume();
      }
      while (ended.size > 0) await Promise.all(ended);
    },
  };
}
