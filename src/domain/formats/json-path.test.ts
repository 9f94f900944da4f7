import { describe, expect, test } from "vitest";
import type { JsonPath } from "./json-path.ts";
import { parseJsonPath } from "./json-path.ts";
import { selectNumber, selectText, selectValues } from "./json-path-select.ts";

const document = {
  kind: "Thing",
  metadata: { name: "web", labels: { "app.kubernetes.io/version": "1.2.3", tier: "front" } },
  spec: { replicas: 3, ratio: 0.5, paused: false, nothing: null, empty: [] },
  list: [
    { name: "a", value: 1, type: "x" },
    { name: "b", value: 2 },
    { name: "c", value: 3, type: "x" },
  ],
  numbers: [10, 20, 30, 40, 50],
  data: { result: [{ value: [1700000000, "0.97"] }] },
};

const pathOf = (text: string): JsonPath => {
  const parsed = parseJsonPath(text);
  if (parsed.kind === "malformed") throw new Error(`${text}: ${parsed.problem}`);
  return parsed.path;
};

const selected: readonly (readonly [text: string, values: readonly unknown[]])[] = [
  ["{.kind}", ["Thing"]],
  [".kind", ["Thing"]],
  ["$.kind", ["Thing"]],
  ["{$.kind}", ["Thing"]],
  ["{@.kind}", ["Thing"]],
  ["{ .kind }", ["Thing"]],
  ["{.}", [document]],
  ["{$}", [document]],
  ["{@}", [document]],
  ["$", [document]],
  ["{.metadata.name}", ["web"]],
  ["{['metadata']['name']}", ["web"]],
  ["{.metadata['name']}", ["web"]],
  ["{.metadata.['name']}", ["web"]],
  ["{.metadata.labels['app.kubernetes.io/version']}", ["1.2.3"]],
  ["{.metadata.labels.app\\.kubernetes\\.io/version}", ["1.2.3"]],
  ["{.metadata.labels.*}", ["1.2.3", "front"]],
  ["{.metadata.labels[*]}", ["1.2.3", "front"]],
  ["{.spec.nothing}", [null]],
  ["{.numbers[0]}", [10]],
  ["{.numbers[-1]}", [50]],
  ["{.numbers[-5]}", [10]],
  ["{.numbers[*]}", [10, 20, 30, 40, 50]],
  ["{.numbers[1:3]}", [20, 30]],
  ["{.numbers[:2]}", [10, 20]],
  ["{.numbers[3:]}", [40, 50]],
  ["{.numbers[-2:]}", [40, 50]],
  ["{.numbers[:-3]}", [10, 20]],
  ["{.numbers[::2]}", [10, 30, 50]],
  ["{.numbers[1:5:3]}", [20, 50]],
  ["{.numbers[2:2]}", []],
  ["{.numbers[0,2]}", [10, 30]],
  ["{.numbers[ 0 , 2 ]}", [10, 30]],
  ["{['kind','spec'].replicas}", [3]],
  ["{.list[*].name}", ["a", "b", "c"]],
  ["{.list[*].type}", ["x", "x"]],
  ["{.list[?(@.name=='b')].value}", [2]],
  ['{.list[?(@.name == "b")].value}', [2]],
  ["{.list[?(@.value>1)].name}", ["b", "c"]],
  ["{.list[?(@.value>=2)].name}", ["b", "c"]],
  ["{.list[?(@.value<2)].name}", ["a"]],
  ["{.list[?(@.value<=2)].name}", ["a", "b"]],
  ["{.list[?(@.name!='b')].name}", ["a", "c"]],
  ["{.list[?(@.type)].name}", ["a", "c"]],
  ["{.list[?(@.type=='x')].name}", ["a", "c"]],
  ["{.list[?(@.value=='2')].name}", []],
  ["{.list[?(@.name<5)].name}", []],
  ["{.list[?(2==@.value)].name}", ["b"]],
  ["{.list[?(@.value==$.spec.replicas)].name}", ["c"]],
  ["{.numbers[?(@>=40)]}", [40, 50]],
  ["{..name}", ["web", "a", "b", "c"]],
  ["{..['tier']}", ["front"]],
  ["{.spec..replicas}", [3]],
];

const missing: readonly string[] = [
  "{.absent}",
  "{.metadata.absent}",
  "{.kind.name}",
  "{.list.name}",
  "{.list[*].absent}",
  "{..absent}",
  "{.numbers[5]}",
  "{.numbers[-6]}",
  "{.numbers[3:9]}",
  "{.numbers[3:1]}",
  "{.kind[0]}",
  "{.spec.empty[0]}",
  "{.metadata[?(@.a)]}",
  "{.toString}",
  "{.metadata.constructor}",
  "{.list[?(@..value==1)]..absent}",
];

const malformed: readonly string[] = [
  "",
  "metadata.name",
  "plain text",
  "{",
  "}",
  "{}",
  "{.a",
  "{.a}}{",
  "{metadata.name}",
  "{range .list[*]}{.name}{end}",
  "{.a.}",
  "{.a..}",
  "{...a}",
  "{.a b}",
  "{.a[}",
  "{.a[]}",
  "{.a[b]}",
  '{.a["b"]}',
  "{.a['b]}",
  "{.a[0}",
  "{.a[0,]}",
  "{.a[0:1:0]}",
  "{.a[0:1:-1]}",
  "{.a[1.5]}",
  "{.a[99999999999]}",
  "{.a[?]}",
  "{.a[?()]}",
  "{.a[?(@.b==)]}",
  "{.a[?(@.b=='c']}",
  "{.a[?(@.b=1)]}",
  "{.a[?(@.b==1 && @.c==2)]}",
  "{.a[?(b==1)]}",
  "{.a$b}",
  "{.a}{'text'",
  "{'text'}",
  `{${".a".repeat(50_000)}}`,
  "[".repeat(100_000),
  `{.a${"[?(@.a".repeat(500)}`,
];

describe("parseJsonPath", () => {
  test.each(selected)("[10.18] JSONPath %s selects what is stated", (text, values) => {
    expect(selectValues(pathOf(text), document)).toEqual({ kind: "selected", parts: [values] });
  });

  test.each(missing)("[10.18] JSONPath %s is not there", (text) => {
    expect(selectValues(pathOf(text), document).kind).toBe("unselected");
  });

  test.each(malformed.map((text) => [text.slice(0, 40), text] as const))(
    "[10.18] rejected: JSONPath %j",
    (_short, text) => {
      expect(parseJsonPath(text).kind).toBe("malformed");
    },
  );
});

describe("selectText", () => {
  test.each([
    ["v{.metadata.labels['app.kubernetes.io/version']}", "v1.2.3"],
    ["{.metadata.name}-{.spec.replicas}", "web-3"],
    ["{.metadata.name}{'\\n'}{.spec.paused}", "web\nfalse"],
    ["a}b{.kind}", "a}bThing"],
    ["{.metadata.labels}", '{"app.kubernetes.io/version":"1.2.3","tier":"front"}'],
  ])("[10.18] %s is %j", (text, result) => {
    expect(selectText(pathOf(text), document)).toEqual({ kind: "text", text: result });
  });

  test.each(["{.list[*].name}", "{.numbers[2:2]}", "{.spec.nothing}", "{.kind}{.absent}"])(
    "[10.18] %s is no text",
    (text) => {
      expect(selectText(pathOf(text), document).kind).toBe("unselected");
    },
  );
});

describe("selectNumber", () => {
  test.each([
    [".spec.replicas", 3],
    ["{.spec.ratio}", 0.5],
    ["$.data.result[0].value[1]", 0.97],
  ])("[10.18] %s is %d", (text, value) => {
    expect(selectNumber(pathOf(text), document)).toEqual({ kind: "number", value });
  });

  test.each([".kind", ".spec.paused", ".spec.nothing", ".numbers[*]", ".numbers", "x{.spec.replicas}", ".absent"])(
    "[10.18] %s is no number",
    (text) => {
      expect(selectNumber(pathOf(text), document).kind).toBe("unselected");
    },
  );
});

test("a path that multiplies takes bounded time", () => {
  const wide = Array.from({ length: 100 }, () => Array.from({ length: 100 }, () => [1, 2, 3]));
  expect(selectValues(pathOf("{..*..*..*..*}"), wide).kind).toBe("unselected");
});
