import { expect, test } from "vitest";
import { patchProblem } from "./patch-document.ts";

test.each([
  ["spec:\n  replicas: 2\n", "merge"],
  ['{"spec":{"replicas":2}}', "merge"],
  ["{}", "merge"],
  ["[]", "json6902"],
  ["- {op: replace, path: /spec/replicas, value: 2}", "json6902"],
  ['[{"op":"test","path":"","value":null}]', "json6902"],
  ["- {op: remove, path: /a~1b}", "json6902"],
  ["- {op: move, path: /a, from: /b}", "json6902"],
] as const)("%j is a patch of type %s", (text, type) => {
  expect(patchProblem(text, type)).toBeUndefined();
});

test.each([
  ["", "merge"],
  ["text", "merge"],
  ["- a", "merge"],
  ["a: [", "merge"],
  ["a: 1\n---\nb: 2", "merge"],
  ["[".repeat(100_000), "merge"],
  ["spec: {}", "json6902"],
  ["", "json6902"],
  ["- text", "json6902"],
  ["- {op: put, path: /a, value: 1}", "json6902"],
  ["- {op: add, path: a, value: 1}", "json6902"],
  ["- {op: add, path: /a}", "json6902"],
  ["- {op: copy, path: /a}", "json6902"],
  ["- {op: remove, path: /a~2}", "json6902"],
] as const)("%.40s is no patch of type %s", (text, type) => {
  expect(patchProblem(text, type)).toBeTypeOf("string");
});
