import { describe, expect, test } from "vitest";
import { substitute, usableValues } from "./substitute.ts";
import { ExpressionProblem } from "./substitution-template.ts";

const values = usableValues(
  new Map([
    ["a", "value"],
    ["b", "b"],
    ["empty", ""],
    ["N", "3"],
    ["neg", "-2"],
    ["path", "/usr/local/lib/x.tar.gz"],
    ["image", "ghcr.io/org/app:v1.2.3"],
    ["word", "hELLO wORLD"],
    ["umlaut", "äöü"],
    ["sharp", "ßa"],
    ["emoji", "😀x"],
    ["repeat", "abcabcabc"],
    ["dollar", "${a} $a $$"],
    ["lines", "one\ntwo\r\nthree"],
    ["quote", 'it\'s "x"'],
    ["stars", "a*b*c"],
    ["brackets", "[x]y"],
    ["back", "a\\b"],
    ["slash", "a/b/c"],
    ["with_1", "digits"],
    ["_", "underscore"],
    ["__proto__", "proto"],
    ["1st", "no name"],
    ["a-b", "no name"],
    ["", "no name"],
  ]),
);

type Row = readonly [text: string, result: string | typeof error];
const error = Symbol("error");

const literal: readonly Row[] = [
  ["", ""],
  ["plain", "plain"],
  ["$", "$"],
  ["$a", "$a"],
  ["$ {a}", "$ {a}"],
  ["a$", "a$"],
  ["100$ or more", "100$ or more"],
  ["$$", "$"],
  ["$$a", "$a"],
  ["$${a}", "${a}"],
  ["$${nope}", "${nope}"],
  ["$$$", "$$"],
  ["$$${a}", "$value"],
  ["$$$$", "$$"],
  ["$$$${a}", "$${a}"],
  ["}", "}"],
  ["{a}", "{a}"],
  ["$(a)", "$(a)"],
  ["\\${a}", "\\value"],
  ["a: b # c", "a: b # c"],
];
const plain: readonly Row[] = [
  ["${a}", "value"],
  ["x${a}y", "xvaluey"],
  ["${a}${b}", "valueb"],
  ["${a}}", "value}"],
  ["${empty}", ""],
  ["${N}", "3"],
  ["${_}", "underscore"],
  ["${with_1}", "digits"],
  ["${__proto__}", "proto"],
  ["${constructor}", error],
  ["${toString}", error],
  ["${nope}", error],
  ["x ${nope} y", error],
  ["${1st}", error],
  ["${1}", error],
  ["${dollar}", "${a} $a $$"],
  ["${lines}", "onetwothree"],
  ["${quote}", 'it\'s "x"'],
];
const defaults: readonly Row[] = [
  ...[":-", ":=", "=", ":?", ":+"].flatMap((operator): readonly Row[] => [
    [`\${a${operator}w}`, "value"],
    [`\${empty${operator}w}`, "w"],
    [`\${nope${operator}w}`, "w"],
    [`\${nope${operator}}`, ""],
    [`\${empty${operator}}`, ""],
    [`\${nope${operator}\${a}}`, "value"],
    [`\${nope${operator}x\${a}y}`, "xvaluey"],
    [`\${nope${operator}w`, error],
  ]),
  ["${nope:-two words}", "two words"],
  ["${nope:-http://x/y?a=b}", "http://x/y?a=b"],
  ["${nope:-a/b:c}", "a/b:c"],
  ["${nope:-${empty:-${a}}}", "value"],
  ["${nope:-${nope:-${nope:-deep}}}", "deep"],
  ["${nope:-${nope}}", error],
  ["${a:-${nope}}", "value"],
  ["${a:-${}}", error],
  ["${nope:-$}", "$"],
  ["${nope:-$x}", "$x"],
  ["${nope:-$$}", "$"],
  ["${nope:-$${a}}", "${a}"],
  ["${nope:-{x}", "{x"],
  ["${nope:-{x}}", "{x}"],
  ["${nope:--1}", "-1"],
  ["${nope:-:-}", ":-"],
  ["${nope:-'q'}", "'q'"],
  ['${nope:-"q"}', '"q"'],
  ["${nope:-\\}", "\\"],
  ["${nope==}", "="],
  ["${nope:-${dollar}}", "${a} $a $$"],
];
const lengths: readonly Row[] = [
  ["${#a}", "5"],
  ["${#empty}", "0"],
  ["${#umlaut}", "6"],
  ["${#emoji}", "5"],
  ["${#lines}", "11"],
  ["${#nope}", error],
  ["${#}", error],
  ["${#a:-w}", error],
  ["${#a#x}", error],
];
const cases: readonly Row[] = [
  ["${word^}", "HELLO wORLD"],
  ["${word^^}", "HELLO WORLD"],
  ["${word,}", "hELLO wORLD"],
  ["${word,,}", "hello world"],
  ["${a^}", "Value"],
  ["${a^^}", "VALUE"],
  ["${a,,}", "value"],
  ["${empty^}", ""],
  ["${empty,,}", ""],
  ["${umlaut^}", "Äöü"],
  ["${umlaut^^}", "ÄÖÜ"],
  ["${sharp^}", "ßa"],
  ["${emoji^^}", "😀X"],
  ["${nope^}", error],
  ["${nope,,}", error],
  ["${a^^^}", error],
  ["${a^x}", error],
  ["${a,^}", error],
];
const substrings: readonly Row[] = [
  ["${a:0}", "value"],
  ["${a:1}", "alue"],
  ["${a:4}", "e"],
  ["${a:5}", ""],
  ["${a:99}", ""],
  ["${a:0:2}", "va"],
  ["${a:1:3}", "alu"],
  ["${a:1:99}", "alue"],
  ["${a:99:1}", ""],
  ["${a:2:0}", ""],
  ["${a:5:-2}", error],
  ["${a:0:-1}", error],
  ["${a:x}", "value"],
  ["${a:x:1}", "value"],
  ["${a:1:x}", "value"],
  ["${a:}", "value"],
  ["${a::2}", "value"],
  ["${a:1:}", "value"],
  ["${a: 1}", "value"],
  ["${a:1.5}", "value"],
  ["${a:0x1}", "value"],
  ["${a:99999999999999999999}", "value"],
  ["${a:1:2:3}", "value"],
  ["${a:${N}}", "ue"],
  ["${a:0:${N}}", "val"],
  ["${a:0:${neg}}", error],
  ["${a:${neg}}", error],
  ["${umlaut:2}", "öü"],
  ["${umlaut:0:4}", "äö"],
  ["${umlaut:1}", error],
  ["${empty:0:1}", ""],
  ["${nope:0}", error],
  ["${nope:0:1}", error],
];
const replacements: readonly Row[] = [
  ["${repeat/b/X}", "aXcabcabc"],
  ["${repeat//b/X}", "aXcaXcaXc"],
  ["${repeat/#abc/X}", "Xabcabc"],
  ["${repeat/%abc/X}", "abcabcX"],
  ["${repeat/#b/X}", "abcabcabc"],
  ["${repeat/%b/X}", "abcabcabc"],
  ["${repeat/b/}", "acabcabc"],
  ["${repeat//b/}", "acacac"],
  ["${repeat/#abc/}", "abcabc"],
  ["${repeat/%abc/}", "abcabc"],
  ["${repeat/z/X}", "abcabcabc"],
  ["${repeat//abc/$$}", "$$$"],
  ["${repeat/abc/$&}", "$&abcabc"],
  ["${repeat//a/${b}}", "bbcbbcbbc"],
  ["${repeat/${b}/X}", "aXcabcabc"],
  ["${slash//\\//-}", "a-b-c"],
  ["${slash/\\//\\/\\/}", "a//b/c"],
  ["${slash//\\//.}", "a.b.c"],
  ["${slash/b/x/y}", "a/x/y/c"],
  ["${back/\\\\/-}", "a-b"],
  ["${back/a/\\\\}", "\\\\b"],
  ["${back/\\b/X}", "aX"],
  ["${stars/*/-}", "a-b*c"],
  ["${stars//*/-}", "a-b-c"],
  ["${brackets/[x]/z}", "zy"],
  ["${a/./X}", "value"],
  ["${image/:v1/:v2}", "ghcr.io/org/app:v2.2.3"],
  ["${dollar/$a/x}", "${a} x $$"],
  ["${dollar/$$$$/x}", "${a} $a x"],
  ["${empty/a/b}", ""],
  ["${a/v}", error],
  ["${a/}", error],
  ["${a//v}", error],
  ["${a/v/x", error],
  ["${nope/a/b}", error],
  ["${nope//a/b}", error],
];
const trims: readonly Row[] = [
  ["${path#*/}", "usr/local/lib/x.tar.gz"],
  ["${path##*/}", "x.tar.gz"],
  ["${path%/*}", "/usr/local/lib"],
  ["${path%%/*}", ""],
  ["${path%.*}", "/usr/local/lib/x.tar"],
  ["${path%%.*}", "/usr/local/lib/x"],
  ["${path#/usr}", "/local/lib/x.tar.gz"],
  ["${path#usr}", "/usr/local/lib/x.tar.gz"],
  ["${path%.gz}", "/usr/local/lib/x.tar"],
  ["${image##*:}", "v1.2.3"],
  ["${image%%:*}", "ghcr.io/org/app"],
  ["${a#?}", "alue"],
  ["${a%?}", "valu"],
  ["${a##*}", ""],
  ["${a#*}", "value"],
  ["${a%*}", "value"],
  ["${a%%*}", ""],
  ["${a#[a-z]}", "alue"],
  ["${a#[A-Z]}", "value"],
  ["${a#[^a-u]}", "alue"],
  ["${a#[^v]}", "value"],
  ["${a%[def]}", "valu"],
  ["${a##[v][a]}", "lue"],
  ["${stars#a\\*}", "b*c"],
  ["${stars%%\\**}", "a"],
  ["${stars#\\a}", "*b*c"],
  ["${brackets#\\[x\\]}", "y"],
  ["${brackets#[[]}", "x]y"],
  ["${brackets#[\\]]}", "[x]y"],
  ["${emoji#?}", "x"],
  ["${a#}", "value"],
  ["${a%%}", "value"],
  ["${stars#${stars}}", ""],
  ["${empty#x}", ""],
  ["${a#[}", error],
  ["${a#[]}", error],
  ["${a#[^]}", error],
  ["${a#[a-]}", error],
  ["${a#x", error],
  ["${nope#x}", error],
  ["${nope##x}", error],
  ["${nope%x}", error],
];
const others: readonly Row[] = [
  ["${}", error],
  ["${ }", error],
  ["${ a}", error],
  ["${a }", error],
  ["${a-w}", error],
  ["${a+w}", error],
  ["${a?w}", error],
  ["${a[0]}", error],
  ["${a@Q}", error],
  ["${!a}", error],
  ["${a.b}", error],
  ["${a-b}", error],
  ["${ä}", error],
  ["${${a}}", error],
  ["${a", error],
  ["${", error],
  ["${a$b}", error],
  ["x${", error],
];

describe("substitution", () => {
  const groups = { literal, plain, defaults, lengths, cases, substrings, replacements, trims, others };
  const rows = Object.entries(groups).flatMap(([group, members]) => members.map((row) => [group, ...row] as const));

  test("[20.19] has at least 150 vectors", () => expect(rows.length).toBeGreaterThanOrEqual(150));

  test.each(rows)("[20.19] %s: %s", (_group, text, result) => {
    if (result === error) expect(() => substitute(text, values)).toThrow(ExpressionProblem);
    else expect(substitute(text, values)).toBe(result);
  });

  test("[20.19] names the expression, and its name alone where that may be a value", () => {
    const failed = (text: string): unknown => {
      try {
        return substitute(text, values);
      } catch (cause) {
        return cause;
      }
    };
    expect(failed("x ${a:5:-2} y")).toMatchObject({ expression: "${a:5:-2}", brief: "${a:" });
    expect(failed("x ${nope} y")).toMatchObject({ expression: "${nope}", brief: "${nope" });
    expect(failed("x ${nope/hunter2/x} y")).toMatchObject({ brief: "${nope/" });
    expect(failed("x ${a-hunter2} y")).toMatchObject({ expression: "${a-hunter2}", brief: "${a" });
    expect(failed("x ${a hunter2")).toMatchObject({ expression: "${a", brief: "${a" });
  });

  test("[20.19] refuses to grow without bound", () => {
    const long = new Map([["x", "x".repeat(1_000_000)]]);
    expect(() => substitute("${x}".repeat(20), long)).toThrow(ExpressionProblem);
    expect(() => substitute("${a:-".repeat(5_000) + "}".repeat(5_000), values)).toThrow(ExpressionProblem);
  });

  test("[20.19] takes time in proportion to text and pattern", () => {
    const long = new Map([["x", "a".repeat(20_000)]]);
    expect(substitute(`\${x##${"*a".repeat(20)}b}`, long)).toHaveLength(20_000);
  });
});
