import { describe, expect, test } from "vitest";
import type { CompletedAction } from "../../api/stage-ledger.ts";
import type { StageSetSpec } from "../../api/stage-set.ts";
import { completionOf, promoteBaseline, withoutLedgerCompletions, type StoredLedger } from "./stage-ledger.ts";

const count = 1_000;
const names = Array.from({ length: count }, (_each, index) => ({ stage: "only", action: `a-${index}` }));
const completedAt = "2026-03-01T10:00:00Z";
const specOf = (actions: readonly string[]): StageSetSpec => {
  const pre = actions.map((name) => ({ name, scope: "Lifetime", wait: {} }) as const);
  return { stages: [{ name: "only", sourceRef: { name: "app" }, actions: { pre } }] };
};
const ledgerOf = (more: Partial<StoredLedger>): StoredLedger => ({
  ...{ uid: "u", resourceVersion: "1", baseline: [], status: {} },
  ...more,
});

describe("a StageLedger with many entries", () => {
  test("is read a few times for each of them, whatever is asked of it", () => {
    let reads = 0;
    const counted = names.map(({ action }): CompletedAction => ({
      get stage() {
        reads++;
        return "only";
      },
      ...{ action, origin: "Executed", completedAt },
    }));
    const ledger = ledgerOf({ baseline: names, status: { completedActions: counted } });
    for (const name of names) expect(completionOf(ledger, name)?.action).toBe(name.action);
    promoteBaseline(ledger, { spec: specOf(names.map(({ action }) => action)), now: 0 });
    withoutLedgerCompletions(ledger.status, names.slice(0, count / 2));
    expect(reads).toBeLessThan(20 * count);
  });

  test("takes each baseline entry once, after what was executed, and holds those of no action", () => {
    const executed = { stage: "only", action: "a-1", origin: "Executed", completedAt } as const;
    const asked = ["a-1", "a-2", "a-2", "a-3"].map((action) => ({ stage: "only", action }));
    const ledger = ledgerOf({ baseline: asked, status: { completedActions: [executed] } });
    const { status, invalid } = promoteBaseline(ledger, { spec: specOf(["a-1", "a-2"]), now: 0 });
    expect(status.completedActions).toEqual([
      executed,
      { stage: "only", action: "a-2", origin: "Baselined", completedAt: "1970-01-01T00:00:00Z" },
    ]);
    expect(status.completedCount).toBe(2);
    expect(invalid).toContain('"only/a-3"');
  });

  test("takes no name for another one that looks like it", () => {
    const entry = { stage: "a/b", action: "c", origin: "Executed", completedAt } as const;
    const ledger = ledgerOf({ status: { completedActions: [entry] } });
    expect(completionOf(ledger, { stage: "a", action: "b/c" })).toBeUndefined();
    expect(completionOf(ledger, entry)).toBe(entry);
  });
});
