import { identityOf, type Pin } from "../domain/pins.ts";
import { deadline, Shutdown } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";
import { deepEqual } from "../lib/equal.ts";
import { createSemaphore } from "../lib/semaphore.ts";
import type { StageSetKey } from "./journal.ts";

/** What may be rendered ahead of a run. Both reject when they cannot, or with the signal's reason. */
export interface AheadWork {
  /** What the run under way is pinned to. */
  readonly running: readonly Pin[];
  /** What the sources offer now; undefined: nothing usable. */
  readonly pins: (signal: AbortSignal) => Promise<readonly Pin[] | undefined>;
  readonly render: (pins: readonly Pin[], signal: AbortSignal) => Promise<void>;
}

/**
 * Work ahead of the next run of waiting ones: one at a time in the process and the newest of each StageSet alone, for two
 * minutes at most. It fails in silence: what is wrong with a revision the pass says that takes it.
 */
export interface AheadRenders extends AsyncDisposable {
  /** Returns at once. What is under way for the same pins goes on, what is for others ends. */
  prepare(key: StageSetKey, work: AheadWork): void;
  /** Somebody builds it for itself, or nobody needs it any more. */
  abandon(key: StageSetKey): void;
}

/** What takes longer is left to the pass, ms. */
const longestMs = 2 * 60_000;

interface Task {
  readonly abort: AbortController;
  /** Goes on until it is known that there is something newer. */
  before: Task | undefined;
  /** Undefined while they are read. */
  pins: readonly Pin[] | undefined;
  /** Undefined when it has ended. */
  done: Promise<void> | undefined;
}

export function createAheadRenders({ clock }: { readonly clock: Clock }): AheadRenders {
  const tasks = new Map<string, Task>();
  const ending = new Set<Promise<void>>();
  const places = createSemaphore(1);

  const stop = (task: Task | undefined, why: string): void => {
    for (let each = task; each !== undefined; each = each.before) each.abort.abort(new Shutdown(why));
  };
  const run = async (name: string, task: Task, work: AheadWork): Promise<void> => {
    using limit = deadline(clock, { timeoutMs: longestMs, what: "to render ahead", parent: task.abort.signal });
    const { signal } = limit;
    const pins = await work.pins(signal);
    const { before } = task;
    task.before = undefined;
    if (before?.done !== undefined && pins !== undefined && samePins(before.pins, pins)) {
      // It is at it already.
      if (tasks.get(name) === task) tasks.set(name, before);
      return;
    }
    stop(before, "there is something newer");
    if (pins === undefined || samePins(work.running, pins)) return;
    task.pins = pins;
    using _place = await places.acquire(signal);
    await work.render(pins, signal);
  };
  return {
    prepare(key, work) {
      const name = nameOf(key);
      const task: Task = {
        abort: new AbortController(),
        before: tasks.get(name),
        pins: undefined,
        done: undefined,
      };
      tasks.set(name, task);
      const done = run(name, task, work)
        .catch(() => undefined)
        .finally(() => {
          task.done = undefined;
          task.before = undefined;
          if (tasks.get(name) === task) tasks.delete(name);
          ending.delete(done);
        });
      task.done = done;
      ending.add(done);
    },
    abandon(key) {
      const name = nameOf(key);
      stop(tasks.get(name), "it is not wanted any more");
      tasks.delete(name);
    },
    async [Symbol.asyncDispose]() {
      for (const task of tasks.values()) stop(task, "the controller stops");
      tasks.clear();
      await Promise.all(ending);
    },
  };
}

function samePins(some: readonly Pin[] | undefined, others: readonly Pin[]): boolean {
  return some !== undefined && deepEqual(some.map(identityOf), others.map(identityOf));
}

function nameOf(key: StageSetKey): string {
  return `${key.namespace}/${key.name}`;
}
