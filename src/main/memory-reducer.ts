import { Script } from "node:vm";
import type { Clock } from "../lib/clock.ts";

/** Far shorter than what it takes for the rate to become nothing again: it halves within seconds, and is a double. */
const refreshMs = 300_000;

/**
 * Lets V8 give memory back while the process is idle, until disposed.
 *
 * V8 does so by itself: some seconds after a full collection it looks whether little is allocated, and then collects in
 * small steps, compacts and returns the pages. One of the three rates it looks at is that of objects managed in C++, and
 * nothing ever allocated there counts as much (`Heap::HasLowEmbedderAllocationRate` in V8 13.6; `--trace-memory-reducer
 * --trace-mutator-utilization` shows "high alloc" for ever), so that in most Node processes it never happens. Compiling an
 * empty script now and then makes that rate one of hardly anything.
 */
export function enableMemoryReducer(clock: Clock): Disposable {
  let timer: Disposable;
  const refresh = (): void => {
    new Script("");
    timer = clock.timer(refreshMs, refresh);
  };
  refresh();
  return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
}
