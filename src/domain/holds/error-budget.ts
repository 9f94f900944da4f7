import type { EntryHold, GoalInput, Hold } from "./hold.ts";

/** Holds every stage that would enter while the rollout-wide error budget is exhausted, or unreadable (spec 40 §4). */
export function exhaustedBudget({ budgets }: GoalInput): Hold | undefined {
  return budgets?.release;
}

/** Holds a stage whose own error budget is exhausted or unreadable, and so every later one. */
export const exhaustedStageBudget: EntryHold =
  ({ spec, budgets }) =>
  (index) =>
    budgets?.stages.get(spec.stages[index]?.name ?? "");
