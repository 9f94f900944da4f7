import { describe, expect, test } from "vitest";
import { parseDecimal } from "./decimal.ts";

describe("parseDecimal", () => {
  test.each([
    ["0", 0],
    ["1.5", 1.5],
    ["-1.", -1],
    ["+.5", 0.5],
    ["1e3", 1000],
    ["1E-3", 0.001],
    ["007", 7],
    [`0.${"3".repeat(100_000)}`, 1 / 3],
    ["1e-400", 0],
  ])("[10.18] accepted: decimal %.20s", (text, value) => {
    expect(parseDecimal(text)).toBe(value);
  });

  test.each(
    [
      "",
      ".",
      "-",
      "NaN",
      "Inf",
      "Infinity",
      "0x10",
      "1_000",
      " 1",
      "1 ",
      "1,5",
      "1e",
      "1e400",
      "--1",
      "1.2.3",
      "٣",
    ].concat("9".repeat(100_000)),
  )("[10.18] rejected: decimal %.20s", (text) => {
    expect(parseDecimal(text)).toBeUndefined();
  });
});
