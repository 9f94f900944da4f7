import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compareVersions, parseVersion, renderVersion } from "./version.ts";

const accepted: readonly (readonly [text: string, canonical: string])[] = [
  ["1", "1.0.0"],
  ["1.2", "1.2.0"],
  ["1.2.3", "1.2.3"],
  ["v1", "1.0.0"],
  ["v1.2", "1.2.0"],
  ["v1.2.3", "1.2.3"],
  ["0", "0.0.0"],
  ["0.0.0", "0.0.0"],
  ["01.002.0003", "1.2.3"],
  ["000", "0.0.0"],
  ["18446744073709551615", "18446744073709551615.0.0"],
  ["00018446744073709551615.1", "18446744073709551615.1.0"],
  [" 1.2.3 ", "1.2.3"],
  ["\t1.2.3\n", "1.2.3"],
  ["1.2.3-rc.1", "1.2.3-rc.1"],
  ["1.2-rc.1", "1.2.0-rc.1"],
  ["v1-alpha", "1.0.0-alpha"],
  ["1.2.3-0", "1.2.3-0"],
  ["1.2.3-0a", "1.2.3-0a"],
  ["1.2.3--", "1.2.3--"],
  ["1.2.3-x.7.z.92", "1.2.3-x.7.z.92"],
  ["1.2.3-alpha-beta", "1.2.3-alpha-beta"],
  ["1.2.3+build", "1.2.3+build"],
  ["1.2.3+001", "1.2.3+001"],
  ["1.2.3-rc.1+exp.sha.5114f85", "1.2.3-rc.1+exp.sha.5114f85"],
  ["1+a", "1.0.0+a"],
  [`1.2.3-${"a".repeat(250)}`, `1.2.3-${"a".repeat(250)}`],
];

const rejected: readonly string[] = [
  "",
  " ",
  "v",
  "V1.2.3",
  "vv1",
  "1.",
  ".1",
  "1..2",
  "1.2.3.4",
  "1.2.3-",
  "1.2.3+",
  "1.2.3-01",
  "1.2.3-a.01",
  "1.2.3-a..b",
  "1.2.3-a_b",
  "1.2.3+a+b",
  "-1",
  "+1",
  "1.-2",
  "1.2.x",
  "*",
  "latest",
  "1,2",
  "1 2",
  "v 1",
  "1.2.3-ä",
  "١.٢",
  "0x10",
  "1e3",
  "18446744073709551616",
  "1.18446744073709551616",
  `1.2.3-${"a".repeat(251)}`,
  "9".repeat(100_000),
  `1.2.3-${"1.".repeat(50_000)}`,
  `1.2.3${" ".repeat(100_000)}x`,
];

const ordered: readonly string[] = [
  "0.0.0-0",
  "0.0.0",
  "0.0.1",
  "0.1.0",
  "1.0.0-0",
  "1.0.0-2",
  "1.0.0-10",
  "1.0.0-99999999999999999999999999",
  "1.0.0-alpha",
  "1.0.0-alpha.1",
  "1.0.0-alpha.beta",
  "1.0.0-beta",
  "1.0.0-beta.2",
  "1.0.0-beta.11",
  "1.0.0-rc.1",
  "1.0.0",
  "1.0.1",
  "1.9",
  "1.10",
  "2-rc",
  "2",
  "18446744073709551614",
  "18446744073709551615",
];

const compared = (a: string, b: string): number => {
  const left = parseVersion(a);
  const right = parseVersion(b);
  if (left === undefined || right === undefined) throw new Error(`no versions: ${a}, ${b}`);
  return Math.sign(compareVersions(left, right));
};

describe("parseVersion", () => {
  test.each(accepted)("[10.18] [30.26] accepted: version %j", (text, canonical) => {
    const version = parseVersion(text);
    expect(version && renderVersion(version)).toBe(canonical);
  });

  test.each(rejected.map((text) => [text.slice(0, 40), text] as const))(
    "[10.18] [30.26] rejected: version %j",
    (_short, text) => {
      expect(parseVersion(text)).toBeUndefined();
    },
  );

  const part = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const identifier = fc.stringMatching(/^([1-9][0-9]{0,5}|0|[a-z-][0-9a-z-]{0,5})$/);
  test("reads back what it renders", () => {
    fc.assert(
      fc.property(part, part, part, fc.array(identifier), fc.array(identifier), (major, minor, patch, pre, meta) => {
        const version = { major, minor, patch, prerelease: pre, build: meta.join(".") };
        expect(parseVersion(renderVersion(version))).toEqual(version);
      }),
    );
  });
});

describe("compareVersions", () => {
  test("[10.18] [30.26] orders as semver does", () => {
    for (const [i, a] of ordered.entries())
      for (const [j, b] of ordered.entries()) expect([a, b, compared(a, b)]).toEqual([a, b, Math.sign(i - j)]);
  });

  test.each([
    ["1.0.0+a", "1.0.0+b"],
    ["v1.2", "1.2.0"],
    ["1.0.0-rc.1+a", "1.0.0-rc.1"],
  ])("[10.18] [30.26] %s has the precedence of %s", (a, b) => {
    expect(compared(a, b)).toBe(0);
  });
});
