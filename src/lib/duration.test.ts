import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { durationMs, durationPattern, formatDuration } from "./duration.ts";

const accepted: readonly (readonly [string, number])[] = [
  ["0", 0],
  ["+0", 0],
  ["-0", 0],
  ["0s", 0],
  ["0h0m", 0],
  ["90s", 90_000],
  ["+90s", 90_000],
  ["-90s", -90_000],
  ["1h30m", 5_400_000],
  ["1.5h", 5_400_000],
  [".5m", 30_000],
  [".5h", 1_800_000],
  ["1.s", 1_000],
  ["0001s", 1_000],
  ["1m1h", 3_660_000],
  ["250ms", 250],
  ["1500us", 1],
  ["1500\u00b5s", 1],
  ["1500\u03bcs", 1],
  ["1ns", 1],
  ["-1ns", -1],
  ["999999ns", 1],
  ["2562047h47m16.854775807s", 9_223_372_036_854],
  ["9223372036854775807ns", 9_223_372_036_854],
  [`${"0".repeat(100_000)}1s`, 1_000],
  [`1.${"0".repeat(100_000)}s`, 1_000],
];
const refused: readonly string[] = [
  "",
  "+",
  "-",
  ".",
  "s",
  ".s",
  "10",
  "00",
  "1d",
  "1w",
  "5 minutes",
  "1h ",
  " 1h",
  "1H",
  "1h30",
  "1h.m",
  "--1s",
  "1s-1s",
  "1,5s",
  "1e3s",
  "NaNs",
  "9223372036854775808ns",
  "2562048h",
  `${"9".repeat(100_000)}h`,
];

describe("durations", () => {
  test.each(accepted)("accepted: %s", (text, ms) => expect(durationMs(text)).toBe(ms));
  test.each(refused)("refused: %s", (text) => expect(durationMs(text)).toBeUndefined());

  test("[10.18] the schema pattern gives the same verdict, but for the magnitude", () => {
    const pattern = new RegExp(durationPattern, "u");
    for (const [text] of accepted) expect(pattern.test(text), text.slice(0, 40)).toBe(true);
    for (const text of refused) {
      expect(pattern.test(text), text.slice(0, 40)).toBe(/^(9{3}|9223|2562048h)/.test(text));
    }
    fc.assert(
      fc.property(fc.stringMatching(/^[-+]?[0-9.]{0,4}(ns|us|ms|s|m|h)?[0-9.]{0,3}(ms|s|h)?$/), (text) => {
        expect(durationMs(text) !== undefined).toBe(pattern.test(text));
      }),
    );
  });

  test("[10.18] a text of 100,000 parts is read within a second", () => {
    const before = performance.now();
    durationMs("1ns".repeat(100_000));
    durationMs(`${"1ns".repeat(100_000)}x`);
    expect(performance.now() - before).toBeLessThan(1_000);
  });
});

test.each([
  [0, "0s"],
  [250, "250ms"],
  [1_500, "1.5s"],
  [60_000, "1m"],
  [3_600_000, "1h"],
  [3_723_000, "1h2m3s"],
  [-90_000, "-1m30s"],
  [90_061_001, "25h1m1.001s"],
] as const)("%d ms is written as %s, and read back", (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
  expect(durationMs(text)).toBe(ms);
});
