import { expect, test } from "vitest";
import { matchesGlob } from "./glob.ts";

test.each([
  ["docker.io/library/*", "docker.io/library/nginx", true],
  ["docker.io/library/*", "docker.io/library/a/b", false],
  ["docker.io/**", "docker.io/library/a/b", true],
  ["docker.io/**", "docker.io/", true],
  ["**/nginx", "docker.io/library/nginx", true],
  ["*/nginx", "docker.io/library/nginx", false],
  ["**", "", true],
  ["*", "", true],
  ["", "", true],
  ["", "a", false],
  ["ngin?", "nginx", true],
  ["a?b", "a/b", false],
  ["a?b", "a😀b", true],
  ["a.c", "abc", false],
  ["[a]", "a", false],
  ["nginx", "nginx:1", false],
  ["a***b", "a/x/b", true],
  ["a*b*c", "axxbxxc", true],
])("[10.18] glob %s on %s: %s", (glob, text, matches) => {
  expect(matchesGlob(glob, text)).toBe(matches);
});

test("a hostile glob takes bounded time", () => {
  expect(matchesGlob("a*".repeat(200), "a".repeat(2_000) + "b/")).toBe(false);
});
