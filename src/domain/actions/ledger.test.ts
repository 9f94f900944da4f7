import { describe, expect, test } from "vitest";
import { completedAt, nextAction, withCompletion } from "./ledger.ts";

const first = { name: "first", wait: {} };
const second = { name: "second", wait: {} };
const keys = { stage: "stage", revision: "r1", version: undefined, ledger: undefined };
const at = (revision: string, ...executedActions: readonly string[]) => ({
  name: "stage",
  ledgerRevision: revision,
  executedActions,
});

describe("the Revision ledger", () => {
  test("runs what is not recorded at this revision, in the order of the list", () => {
    expect(nextAction(undefined, [first, second], keys)).toBe(first);
    expect(nextAction(at("r1", "first"), [first, second], keys)).toBe(second);
    expect(nextAction(at("r1", "second"), [first, second], keys)).toBe(first);
    expect(nextAction(at("r1", "second", "first"), [first, second], keys)).toBeUndefined();
  });

  test("starts anew at another revision, also at one that returns", () => {
    expect(nextAction(at("r2", "first"), [first], keys)).toBe(first);
    expect(withCompletion(at("r2", "first", "second"), second, "r1")).toEqual({
      executedActions: ["second"],
      ledgerRevision: "r1",
    });
  });

  test("holds each name once and keeps the others, those of actions that left the spec too", () => {
    const entry = at("r1", "gone", "first");
    expect(withCompletion(entry, first, "r1").executedActions).toEqual(["gone", "first"]);
    expect(withCompletion(entry, second, "r1").executedActions).toEqual(["gone", "first", "second"]);
  });

  test("of a status without one holds nothing", () => {
    expect(completedAt({ name: "stage" }, "r1")).toEqual([]);
    expect(completedAt({ name: "stage", executedActions: ["first"] }, "r1")).toEqual([]);
  });
});
