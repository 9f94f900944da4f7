import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { collectGarbage } from "../../src/main/heap.ts";
import { eventually } from "../support/eventually.ts";

const url = (path: string): string => JSON.stringify(fileURLToPath(new URL(path, import.meta.url)));

const longestMs = 100_000;

/** Leaves garbage behind, as a release does, and then does nothing any more. */
const idle = `
setTimeout(() => process.exit(), ${longestMs});
import { systemClock } from ${url("../../src/lib/clock.ts")};
import { keepHeapSmall } from ${url("../../src/main/heap.ts")};
keepHeapSmall(systemClock);
const kept = [];
for (let round = 0; round < 40; round++) {
  const texts = Array.from({ length: 20_000 }, (_, index) => ({ text: "x" + index }));
  if (round % 2 === 0) kept.push(texts);
  await new Promise((resolve) => setTimeout(resolve, 5));
}
kept.length = 1;
`;

test("memory that is free is given back by V8 while the process is idle", { timeout: 2 * longestMs }, async () => {
  const flags = ["--max-semi-space-size=8", "--trace-memory-reducer", "--gc-memory-reducer-start-delay-ms=100"];
  const child = spawn(process.execPath, [...flags, "--input-type=module", "--eval", idle], {
    env: { ...process.env, NODE_OPTIONS: "" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let trace = "";
  try {
    for await (const chunk of child.stdout) {
      trace += String(chunk);
      if (trace.includes("finished GC")) break;
    }
  } finally {
    child.kill("SIGKILL");
  }
  expect(trace).toContain("finished GC");
});

test("garbage is collected when asked for", async () => {
  let dropped: unknown = Array.from({ length: 1_000_000 }, (_, index) => ({ index }));
  const gone = new WeakRef(dropped as object);
  dropped = undefined;
  collectGarbage();
  await eventually(() => gone.deref() === undefined, { timeoutMs: 10_000 });
});
