import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { renderJson } from "./json-render.ts";
import { parseYaml, YamlProblem } from "./yaml-parse.ts";
import { printYaml } from "./yaml-print.ts";
import type { YamlValue } from "./yaml-value.ts";

/** Plain scalars: what kustomize reads, and what the API machinery does where that differs. */
const scalars: readonly (readonly [text: string, kustomize: YamlValue, api?: YamlValue])[] = [
  ["", null],
  ["~", null],
  ["null", null],
  ["nULL", "nULL"],
  ["true", true],
  ["True", true],
  ["tRUE", "tRUE"],
  ["on", "on", true],
  ["Off", "Off", false],
  ["y", "y", true],
  ["NO", "NO", false],
  ["0", 0],
  ["-0", 0],
  ["12", 12],
  ["+12", 12],
  ["0777", 511],
  ["0o17", 15],
  ["0x1F", 31],
  ["0b11", 3],
  ["08", 8],
  ["1_000", 1000],
  ["1.5", 1.5],
  ["1e3", 1000],
  [".5", 0.5],
  ["1.", 1],
  ["1e400", "1e400"],
  ["9007199254740993", 9007199254740993n],
  ["18446744073709551615", 18446744073709551615n],
  ["18446744073709551616", 18446744073709552000],
  ["12:30:45", "12:30:45"],
  ["1.2.3", "1.2.3"],
  ["v1", "v1"],
  ["2001-01-01", "2001-01-01T00:00:00Z", "2001-01-01"],
  ["2001-02-30", "2001-02-30"],
  ["'12'", "12"],
  ['"true"', "true"],
  ["!!str 12", "12"],
  ["!!int '12'", 12],
  ["!!binary aGk=", "hi"],
];

describe("parseYaml", () => {
  const rows = scalars.map(([text, kustomize, api = kustomize]) => ({ text, kustomize, api }));
  test.each(rows)("reads $text", ({ text, kustomize, api }) => {
    expect(
      parseYaml(
        `x: ${text}
`,
        "kustomize",
      ),
    ).toEqual([{ x: kustomize }]);
    expect(
      parseYaml(
        `x: ${text}
`,
        "api",
      ),
    ).toEqual([{ x: api }]);
  });

  test.each<readonly [string, readonly YamlValue[]]>([
    ["", []],
    ["# only\n", []],
    ["---\n---\na: 1\n", [null, { a: 1 }]],
    ["a: 1\n...\n---\nb: 2\n", [{ a: 1 }, { b: 2 }]],
    ["\ufeffa: 1", [{ a: 1 }]],
    ["a: &x {k: 1}\nb: *x", [{ a: { k: 1 }, b: { k: 1 } }]],
    ["a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}", [{ a: { k: 1, l: 2 }, b: { k: 3, l: 2 } }]],
    ["a: |\n  x\n\n  y\nb: >-\n  x\n  y\n", [{ a: "x\n\ny\n", b: "x y" }]],
    ['{"a": [1, "b", null, {"c": true}]}', [{ a: [1, "b", null, { c: true }] }]],
  ])("reads %j", (text, documents) => expect(parseYaml(text, "kustomize")).toEqual(documents));

  test("keeps keys that objects have by birth", () => {
    const [document] = parseYaml("__proto__: {x: 1}\nconstructor: 2", "kustomize");
    expect(renderJson(document ?? null)).toBe('{"__proto__":{"x":1},"constructor":2}');
  });

  test.each([
    ["a: b: c", 1],
    ["a: [", 1],
    ["a: 1\na: 2", 2],
    ["x: 1\na: *nope", 2],
    ["a: .inf", 1],
    ["a: .NaN", 1],
    ["? [a]\n: b", 1],
    [`a: ${"[".repeat(200)}`, 1],
    [`a: &a [${"x,".repeat(2_000)}]\nb: [${"*a,".repeat(100)}]`, 2],
    ["a: &a [*a]", 1],
    ["a: {<<: 3}", 1],
    ["a: !!int x", 1],
  ])("refuses %s", (text, line) => {
    expect(() => parseYaml(text, "kustomize")).toThrow(YamlProblem);
    expect(() => parseYaml(text, "kustomize")).toThrow(expect.objectContaining({ line }));
  });

  test("refuses numbers as keys where kustomize does, and takes them where the API machinery does", () => {
    expect(() => parseYaml("1: a", "kustomize")).toThrow(YamlProblem);
    expect(parseYaml("1: a", "api")).toEqual([{ "1": "a" }]);
  });
});

describe("printYaml", () => {
  test("prints blocks with sorted keys, plain scalars where they may be, literals for lines", () => {
    const value = {
      b: ["x", { c: 1, a: "1" }, [], ["m"], ["z", { k: null }]],
      a: {
        text: "one\ntwo\n",
        none: {},
        quoted: "a: b",
        expression: "${A}",
        colon: "x:y",
        flag: "yes",
        long: "w ".repeat(200) + "w",
      },
    };
    expect(printYaml(value)).toBe(
      `a:\n  colon: x:y\n  expression: \${A}\n  flag: 'yes'\n  long: ${"w ".repeat(200)}w\n  none: {}\n  quoted: 'a: b'\n  text: |2\n    one\n    two\n` +
        `b:\n  - x\n  - a: '1'\n    c: 1\n  - []\n  -\n    - m\n  -\n    - z\n    - k: null\n`.replace(
          "  yes",
          "  yes",
        ),
    );
  });

  const text = fc.oneof(
    fc.string({ unit: "binary" }).filter((value) => value.isWellFormed()),
    fc.string({ unit: fc.constantFrom("a", " ", "\n", ":", "#", "-", "'", '"', "$", "{", "}", "1", "\t", "~", "\\") }),
    fc.constantFrom(
      "yes",
      "null",
      "0777",
      "1e3",
      "2001-01-01",
      "<<",
      ".inf",
      "---",
      "...",
      "=",
      "!x",
      "&a",
      "*a",
      "? x",
      "\n",
      "\n\n",
      " \n",
    ),
  );
  const scalar = fc.oneof(
    text,
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
    fc.constant(null),
  );
  const { value } = fc.letrec<{ value: YamlValue }>((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      scalar,
      fc.array(tie("value"), { maxLength: 4 }),
      fc.dictionary(text, tie("value"), { maxKeys: 4, noNullPrototype: true }),
    ),
  }));

  test("is read back as it was", () => {
    fc.assert(
      fc.property(value, (printed) => {
        const [read = null] = parseYaml(printYaml({ x: printed }), "api");
        expect(renderJson(read)).toBe(renderJson({ x: printed }));
      }),
      { numRuns: 2_000 },
    );
  });
});
