import { expect, test } from "vitest";
import { isOutdated } from "./slot.ts";

const known = { resourceVersion: "100", seenAt: 50 };

test.each([
  ["an older state", { resourceVersion: "99", since: 60 }, true],
  ["an older state of fewer digits", { resourceVersion: "9", since: 60 }, true],
  ["the same state", { resourceVersion: "100", since: 10 }, false],
  ["a newer state, however long ago its reading began", { resourceVersion: "101", since: 10 }, false],
  ["nothing found by a read that began before", { resourceVersion: undefined, since: 49 }, true],
  ["nothing found by a read that began after", { resourceVersion: undefined, since: 51 }, false],
])("%s", (_title, sight, outdated) => {
  expect(isOutdated(sight, known)).toBe(outdated);
  expect(isOutdated(sight, undefined)).toBe(false);
});
