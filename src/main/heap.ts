import { setFlagsFromString } from "node:v8";
import { runInNewContext, Script } from "node:vm";
import type { Clock } from "../lib/clock.ts";

/** The rate halves every 100 ms or so while nothing comes: after less than two minutes it is nothing again. */
const refreshMs = 30_000;

/**
 * How much the heap may grow beyond what was in use, percent, until it is collected. V8 lets a small one grow fourfold; what a
 * release leaves behind is garbage at once, and collecting it more often costs no time that can be measured.
 */
const growthPercent = 50;

/**
 * Keeps the heap small in a release, and lets V8 give memory back afterwards, until disposed.
 *
 * V8 gives it back by itself: some seconds after a full collection it looks whether little is allocated, and then collects in
 * small steps, compacts and returns the pages. One of the three rates it looks at is that of objects managed in C++, and
 * nothing ever allocated there counts as much (`Heap::HasLowEmbedderAllocationRate` in V8 13.6; `--trace-memory-reducer
 * --trace-mutator-utilization` shows "high alloc" for ever), so that in most Node processes it never happens. Compiling an
 * empty script now and then makes that rate one of hardly anything.
 */
export function keepHeapSmall(clock: Clock): Disposable {
  setFlagsFromString(`--heap-growing-percent=${growthPercent}`);
  let timer: Disposable;
  const refresh = (): void => {
    new Script("");
    timer = clock.timer(refreshMs, refresh);
  };
  refresh();
  return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
}

/**
 * Collects all garbage, soon: what caches dropped counts as used until then. It stops the process for 0.1 to 1 s, so it is for
 * when memory is short and the alternative is to be killed.
 */
export function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  // Node's types declare the function as a global, which it is with the flag only.
  const collect = runInNewContext("gc") as NonNullable<typeof globalThis.gc>;
  setFlagsFromString("--no-expose-gc");
  void collect({ type: "major", execution: "async" });
}
