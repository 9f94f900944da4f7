import { expect, test } from "vitest";
import { reasonLink, runbookIds, runbookLink } from "./runbook.ts";

test.each([
  ["docs/runbooks", "docs/runbooks/stagefailed.md"],
  ["https://wiki/x/", "https://wiki/x/stagefailed.md"],
  ["https://wiki/x?page={id}", "https://wiki/x?page=stagefailed"],
  ["https://wiki/{id}/{id}", "https://wiki/stagefailed/stagefailed"],
  ["", undefined],
  [undefined, undefined],
])("[60.11] base %j links to %j", (base, link) => {
  expect(runbookLink(base, "stagefailed")).toBe(link);
});

test("reasons that ask for nothing have no link, and each id is there once", () => {
  expect(reasonLink("b", "Succeeded")).toBeUndefined();
  expect(reasonLink("b", "Suspended")).toBeUndefined();
  expect(reasonLink("b", "RBACDenied")).toBe("b/rbacdenied.md");
  expect(new Set(runbookIds).size).toBe(runbookIds.length);
});
