import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const text = (path: string): Promise<string> =>
  readFile(fileURLToPath(new URL(`../../${path}`, import.meta.url)), "utf8");

/** Of spec 60 §13. That an artifact that did not change is not fetched again is a test of the engine. */
const rows = ["pod-burst", "pod-steady", "pod-restart", "pod-stuck", "pod-objects", "pod-memory"];

test("[60.27] each requirement of capacity has a row of the benchmark and a published figure", async () => {
  const [bench, page] = await Promise.all([text("scripts/bench.ts"), text("docs/capacity.md")]);
  const published = new Map(
    page.split("\n").flatMap((line) => {
      const [, row, , measured] = /^\| `(pod-[a-z]+)` \| ([^|]+) \| ([^|]+) \|$/.exec(line) ?? [];
      return row === undefined ? [] : [[row, measured] as const];
    }),
  );
  expect([...published.keys()]).toEqual(rows);
  for (const row of rows) {
    expect(bench).toContain(`"${row}": () =>`);
    expect(published.get(row), row).toMatch(/\d|not killed/);
  }
});
