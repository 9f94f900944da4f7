import { describe, expect, test } from "vitest";
import { matchesConstraint, meansBelow, parseConstraint } from "./constraint.ts";
import { parseVersion } from "./version.ts";

interface Row {
  readonly text: string;
  readonly matches: string;
  readonly not: string;
}

const row = (text: string, matches: string, not: string): Row => ({ text, matches, not });

// Versions are separated by blanks.
const accepted: readonly Row[] = [
  row("*", "0 1.2.3 0.0.0-a 99.0.0-rc.1", ""),
  row("x", "0 1.2.3 0.0.0-a", ""),
  row("X", "0 1.2.3", ""),
  row("*.*", "0 1.2.3", ""),
  row("x.x.x", "0 1.2.3", ""),
  row("=1.2.3", "1.2.3 v1.2.3 1.2.3+build", "1.2.4 1.2.3-rc.1 1.2.2"),
  row("= 1.2.3", "1.2.3", "1.2.4"),
  row("=v1.2.3", "1.2.3", "1.2.4"),
  row("=1.2.3-rc.1", "1.2.3-rc.1", "1.2.3"),
  row("=1.2.3+a", "1.2.3 1.2.3+b", "1.2.4"),
  row("!=1.2.3", "1.2.4 1.2.3-rc.1 0", "1.2.3 1.2.3+b"),
  row("1.2", "1.2.0 1.2.9 1.2.5-rc.1 1.3.0-rc.1", "1.1.9 1.3.0 1.2.0-rc.1"),
  row("1.2.x", "1.2.0 1.2.9", "1.1.9 1.3.0"),
  row("1.2.*", "1.2.0 1.2.9", "1.1.9 1.3.0"),
  row("1.2.X", "1.2.0 1.2.9", "1.1.9 1.3.0"),
  row("=1.2", "1.2.0 1.2.9", "1.1.9 1.3.0"),
  row("~1.2", "1.2.0 1.2.9", "1.1.9 1.3.0"),
  row("~1.2.3", "1.2.3 1.2.9 1.3.0-rc.1", "1.2.2 1.3.0 1.2.3-rc.1"),
  row("~>1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0"),
  row("~> 1.2", "1.2.3 1.2.0", "1.1.9 1.3.0"),
  row("~1.2.3-rc.1", "1.2.3-rc.1 1.2.3", "1.2.3-beta 1.3.0"),
  row("1", "1.0.0 1.99.99 2.0.0-rc.1", "0.9.9 2.0.0"),
  row("v1", "1.0.0 1.99.99", "0.9.9 2.0.0"),
  row("1.x", "1.0.0 1.99.99", "0.9.9 2.0.0"),
  row("1.x.x", "1.0.0 1.99.99", "0.9.9 2.0.0"),
  row("~1", "1.0.0 1.99.99", "0.9.9 2.0.0"),
  row("~1.x", "1.0.0 1.99.99", "0.9.9 2.0.0"),
  row("~0", "0.0.0 0.9.9", "1.0.0"),
  row("^1.2.3", "1.2.3 1.99.0 2.0.0-rc.1", "1.2.2 2.0.0 1.2.3-rc.1"),
  row("^1.2", "1.2.0 1.99.0", "1.1.9 2.0.0"),
  row("^1", "1.0.0 1.99.0", "0.9.9 2.0.0"),
  row("^1.x", "1.0.0 1.99.0", "0.9.9 2.0.0"),
  row("^0.2.3", "0.2.3 0.2.9", "0.2.2 0.3.0"),
  row("^0.2", "0.2.0 0.2.9", "0.1.9 0.3.0"),
  row("^0.0.3", "0.0.3 0.0.4-rc.1", "0.0.2 0.0.4"),
  row("^0.0", "0.0.0 0.0.9", "0.1.0"),
  row("^0.0.x", "0.0.0 0.0.9", "0.1.0"),
  row("^0", "0.0.0 0.9.9", "1.0.0"),
  row("^0.x", "0.0.0 0.9.9", "1.0.0"),
  row("^1.2.3-rc.1", "1.2.3-rc.1 1.2.3 1.9.0", "1.2.3-beta 2.0.0"),
  row("^*", "0 1.2.3 0.0.0-a", ""),
  row("~x", "0 1.2.3 0.0.0-a", ""),
  row(">1.2", "1.3.0 2.0.0", "1.2.0 1.2.9 1.3.0-rc.1 1.0.0"),
  row(">1", "2.0.0", "1.0.0 1.9.9"),
  row(">11", "12.0.0", "11.0.0 11.99.0"),
  row(">11.1", "11.2.0", "11.1.0 11.1.99"),
  row(">1.2.3", "1.2.4 2.0.0 1.2.4-rc.1", "1.2.3 1.2.3+b 1.2.3-rc.1 0"),
  row(">1.2.x", "1.3.0", "1.2.9"),
  row(">=1.2", "1.2.0 2.0.0", "1.1.9 1.2.0-rc.1"),
  row("=>1.2", "1.2.0 2.0.0", "1.1.9"),
  row(">= 1.2.3", "1.2.3 2.0.0", "1.2.2 1.2.3-rc.1"),
  row("<1.2", "1.1.9 1.2.0-rc.1 0", "1.2.0 1.3.0"),
  row("<1.2.3", "1.2.2 1.2.3-rc.1", "1.2.3 1.2.4"),
  row("<=1.2", "1.2.0 1.2.9 1.3.0-rc.1 0", "1.3.0"),
  row("=<1.2", "1.2.0 1.2.9 0", "1.3.0"),
  row("<=1.2.3", "1.2.3 1.2.3+b 0", "1.2.4"),
  row("<=1", "1.9.9", "2.0.0"),
  row("!=1.2", "1.1.9 1.3.0 1.2.0-rc.1", "1.2.0 1.2.9"),
  row("!=1", "0.9.9 2.0.0", "1.0.0 1.9.9"),
  row(">=*", "0 1.2.3", ""),
  row("<=*", "0 1.2.3", ""),
  row("!=*", "", "0 1.2.3"),
  row(">*", "", "0 1.2.3"),
  row("<x", "", "0 1.2.3"),
  row("1.2 - 1.4.5", "1.2.0 1.4.5 1.3.0-rc.1", "1.1.9 1.4.6 1.2.0-rc.1"),
  row("1.2 - 1.4", "1.2.0 1.4.99", "1.1.9 1.5.0"),
  row("1.2 - 2.3", "1.2.0 2.3.99", "1.1.9 2.4.0"),
  row("1.2.3 - 2", "1.2.3 2.99.0", "1.2.2 3.0.0"),
  row("1.2.3-rc.1 - 1.2.3", "1.2.3-rc.1 1.2.3", "1.2.3-beta 1.2.4"),
  row("* - 1.4", "0 1.4.99", "1.5.0"),
  row("1.2 - x", "1.2.0 99.0.0", "1.1.9"),
  row("2 - 1", "", "1.0.0 1.5.0 2.0.0"),
  row(">=1.0.0 <1.4.0", "1.0.0 1.3.9 1.4.0-rc.1", "0.9.9 1.4.0"),
  row(">=1.0.0,<1.4.0", "1.0.0 1.3.9", "0.9.9 1.4.0"),
  row(">=1.0.0 , < 1.4.0", "1.0.0 1.3.9", "0.9.9 1.4.0"),
  row(">=1 <2 !=1.5", "1.0.0 1.6.0", "1.5.0 1.5.9 2.0.0"),
  row("1.x !=1.5.0", "1.4.0", "1.5.0 2.0.0"),
  row("^1 || ^3", "1.0.0 3.5.0", "2.0.0 4.0.0"),
  row("^1||^3", "1.0.0 3.5.0", "2.0.0 4.0.0"),
  row("<1 || >=2 <3 || =5.0.0", "0.5.0 2.5.0 5.0.0", "1.0.0 3.0.0 5.0.1"),
  row("1.2 - 1.4 || 2", "1.3.0 2.9.0", "1.5.0 3.0.0"),
  row("1.2 - 1.4, !=1.3", "1.2.0 1.4.0", "1.3.0"),
  row(" >=1 ", "1.0.0", "0.9.0"),
  row("1.2-rc.1 - 2", "1.2.0-rc.1", "1.2.0-beta"),
  row(">=01.02", "1.2.0", "1.1.0"),
  row("<=18446744073709551615", "18446744073709551615.5.0", ""),
  row(Array.from({ length: 32 }, (_, i) => `=${i}`).join("||"), "0 31.5.0", "32.0.0"),
];

const bare: readonly string[] = ["1.0.0", "v1.0.0", "v1.0.0-rc.1", "1.2-rc.1", "1.0.0+a", ">=1 || 1.2.3", "1.2.3-1.4"];

const rejected: readonly string[] = [
  "",
  "||",
  ">=1 ||",
  "|| >=1",
  ">=1 | <2",
  ">=",
  "> = 1",
  ">>1",
  "==1",
  "<>1",
  "!1",
  "^^1",
  "~=1",
  ">=1,",
  ",>=1",
  ">=1,,<2",
  ">=1<2",
  "1.x.3",
  "x.1",
  "*.2.3",
  "1.2.3.x",
  "1.2.3.4",
  "V1",
  "latest",
  ">=a",
  ">=1 and <2",
  ">=1 - 2",
  "1 - >2",
  "1 -2",
  "1 - ",
  "1 - 2 - 3",
  "=1.2.3-01",
  "<18446744073709551616",
  "18446744073709551616.x",
  `>=1${" ".repeat(600)}<2`,
  `=1.2.3-${"a".repeat(500)}`,
  Array.from({ length: 33 }, (_, i) => `=${i}`).join("||"),
  "9".repeat(100_000),
  "=1 ".repeat(40_000),
  "||".repeat(50_000),
];

const matching = (text: string, version: string): boolean => {
  const parsed = parseConstraint(text);
  const of = parseVersion(version);
  if (parsed.kind !== "constraint" || of === undefined)
    throw new Error(`no constraint or version: ${text}, ${version}`);
  return matchesConstraint(parsed.constraint, of);
};
const versions = (list: string): readonly string[] => list.split(" ").filter((one) => one !== "");

describe("parseConstraint", () => {
  test.each(accepted.map((one) => [one.text, one] as const))(
    "[10.18] [30.26] constraint %j means what is stated",
    (text, one) => {
      const all = [...versions(one.matches), ...versions(one.not)];
      expect(all.filter((version) => matching(text, version))).toEqual(versions(one.matches));
    },
  );

  test.each(bare)("[10.18] [30.26] rejected: %j names one version without saying which are meant", (text) => {
    expect(parseConstraint(text).kind).toBe("bare");
  });

  test.each(rejected.map((text) => [text.slice(0, 40), text] as const))(
    "[10.18] [30.26] rejected: constraint %j",
    (_short, text) => {
      expect(parseConstraint(text).kind).toBe("malformed");
    },
  );
});

describe("meansBelow", () => {
  test.each([
    ["*", "0.0.1", true],
    ["*", "0.0.0-0", false],
    [">=1.0.0", "1.0.0", false],
    [">=1.0.0", "1.0.1-0", true],
    [">1.0.0", "1.0.1-0", false],
    [">1.0.0", "1.0.1-0.0", true],
    [">1.0.0-rc", "1.0.0-rc.0", false],
    [">1.0.0-rc", "1.0.0-rc.1", true],
    ["<1.0.0", "0.5.0", true],
    [">=2 <1", "9.0.0", false],
    ["=1.2.3", "1.2.3", false],
    ["=1.2.3", "1.2.4", true],
    ["!=0", "1.0.0", true],
    ["^3 || 1.x", "2.0.0", true],
    ["^3 || 2.x", "2.0.0", false],
    [">*", "9.0.0", false],
  ])("constraint %j means versions below %s: %j", (text, limit, expected) => {
    const parsed = parseConstraint(text);
    const version = parseVersion(limit);
    if (parsed.kind !== "constraint" || version === undefined) throw new Error(`no constraint or version: ${text}`);
    expect(meansBelow(parsed.constraint, version)).toBe(expected);
  });
});
