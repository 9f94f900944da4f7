import { describe, expect, test } from "vitest";
import type { LabelSelector } from "../../api/stage-set.ts";
import { isLabelKey, isLabelValue, matchesLabels, selectorProblems, selectsEverything } from "./label-selector.ts";

const expression = (operator: string, values?: readonly string[], key = "app"): LabelSelector => ({
  matchExpressions: [{ key, operator, ...(values && { values }) }],
});

describe("selectorProblems", () => {
  test.each<readonly [LabelSelector, readonly string[]]>([
    [{}, []],
    [{ matchLabels: { app: "web", "example.org/tier": "" } }, []],
    [expression("In", ["web", ""]), []],
    [expression("NotIn", ["web"]), []],
    [expression("Exists"), []],
    [expression("DoesNotExist"), []],
    [{ matchLabels: { "": "web" } }, ["matchLabels"]],
    [{ matchLabels: { "-app": "web" } }, ["matchLabels"]],
    [{ matchLabels: { app: "a b" } }, ["matchLabels"]],
    [expression("In"), ["matchExpressions[0].values"]],
    [expression("NotIn", []), ["matchExpressions[0].values"]],
    [expression("Exists", ["web"]), ["matchExpressions[0].values"]],
    [expression("DoesNotExist", ["web"]), ["matchExpressions[0].values"]],
    [expression("in", ["web"]), ["matchExpressions[0].operator"]],
    [expression("Gt", ["1"]), ["matchExpressions[0].operator"]],
    [expression("In", ["a b"], "a/b/c"), ["matchExpressions[0].key", "matchExpressions[0].values"]],
  ])("[10.18] selector %j", (selector, paths) => {
    expect(selectorProblems(selector).map(({ path }) => path)).toEqual(paths);
  });

  test.each([
    ["app", true],
    ["App_1.x-y", true],
    ["example.org/app", true],
    ["a".repeat(63), true],
    [`${"a".repeat(253)}/x`, true],
    ["a".repeat(64), false],
    [`${"a".repeat(254)}/x`, false],
    ["Example.org/app", false],
    ["/app", false],
    ["example.org/", false],
    ["a/b/c", false],
    ["app-", false],
    ["ä", false],
    ["a".repeat(100_000), false],
    [`${"a.".repeat(50_000)}/x`, false],
  ])("[10.18] label key %.30s", (key, valid) => {
    expect(isLabelKey(key)).toBe(valid);
  });

  test.each([
    ["", true],
    ["v1.2_x", true],
    ["a".repeat(64), false],
    ["a/b", false],
  ])("[10.18] label value %.30s", (value, valid) => {
    expect(isLabelValue(value)).toBe(valid);
  });
});

describe("matchesLabels", () => {
  test.each<readonly [LabelSelector, boolean]>([
    [{}, true],
    [{ matchLabels: { app: "web" } }, true],
    [{ matchLabels: { app: "api" } }, false],
    [{ matchLabels: { app: "web", tier: "x" } }, false],
    [{ matchLabels: { toString: "x" } }, false],
    [expression("In", ["api", "web"]), true],
    [expression("In", ["api"]), false],
    [expression("In", ["api"], "tier"), false],
    [expression("NotIn", ["api"]), true],
    [expression("NotIn", ["web"]), false],
    [expression("NotIn", ["web"], "tier"), true],
    [expression("Exists"), true],
    [expression("Exists", [], "toString"), false],
    [expression("DoesNotExist"), false],
    [expression("DoesNotExist", [], "tier"), true],
    [expression("Gt", ["1"]), false],
  ])("%j: %s", (selector, matches) => {
    expect(matchesLabels(selector, { app: "web" })).toBe(matches);
  });

  test("an empty selector selects everything", () => {
    expect(selectsEverything({ matchLabels: {}, matchExpressions: [] })).toBe(true);
    expect(selectsEverything(expression("Exists"))).toBe(false);
  });
});
