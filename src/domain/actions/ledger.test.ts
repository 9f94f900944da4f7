import { describe, expect, test } from "vitest";
import { completedAt, nextAction, withCompletion } from "./ledger.ts";

const first = { name: "first", wait: {} };
const second = { name: "second", wait: {} };
const at = (revision: string, ...executedActions: readonly string[]) => ({
  name: "stage",
  ledgerRevision: revision,
  executedActions,
});

describe("the Revision ledger", () => {
  test("runs what is not recorded at this revision, in the order of the list", () => {
    expect(nextAction(undefined, [first, second], { revision: "r1" })).toBe(first);
    expect(nextAction(at("r1", "first"), [first, second], { revision: "r1" })).toBe(second);
    expect(nextAction(at("r1", "second"), [first, second], { revision: "r1" })).toBe(first);
    expect(nextAction(at("r1", "second", "first"), [first, second], { revision: "r1" })).toBeUndefined();
  });

  test("starts anew at another revision, also at one that returns", () => {
    expect(nextAction(at("r2", "first"), [first], { revision: "r1" })).toBe(first);
    expect(withCompletion(at("r2", "first", "second"), second, { revision: "r1" })).toEqual({
      executedActions: ["second"],
      ledgerRevision: "r1",
    });
  });

  test("holds each name once and keeps the others, those of actions that left the spec too", () => {
    const entry = at("r1", "gone", "first");
    expect(withCompletion(entry, first, { revision: "r1" }).executedActions).toEqual(["gone", "first"]);
    expect(withCompletion(entry, second, { revision: "r1" }).executedActions).toEqual(["gone", "first", "second"]);
  });

  test("of a status without one holds nothing", () => {
    expect(completedAt({ name: "stage" }, "r1")).toEqual([]);
    expect(completedAt({ name: "stage", executedActions: ["first"] }, "r1")).toEqual([]);
  });
});
