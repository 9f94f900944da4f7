import { setTimeout as delay } from "node:timers/promises";
import { parentPort, threadId } from "node:worker_threads";
import { serveJobs } from "../../src/compute/serve-jobs.ts";

// Jobs that end badly, for the tests of the pool.
if (parentPort === null) throw new Error("this module runs in a worker only");
const started = new Int32Array(new SharedArrayBuffer(4));
serveJobs(parentPort, {
  echo: (input) => ({ output: input }),
  thread: () => ({ output: threadId }),
  loop: () => {
    for (;;) Atomics.add(started, 0, 1);
  },
  hang: () => new Promise(() => undefined),
  nap: async () => {
    await delay(250);
    return { output: "rested" };
  },
  exit: () => process.exit(3),
  fail: () => {
    throw new RangeError("secret text");
  },
  hog: () => {
    const kept: unknown[] = [];
    for (;;) kept.push(new Array(100_000).fill({}));
  },
  env: () => ({ output: Object.keys(process.env) }),
});
