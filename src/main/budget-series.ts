import { isEnforced, type BudgetFreeze } from "../domain/budgets/budget.ts";
import { statusOf, type StageSetKey } from "../engine/journal.ts";
import { asArray, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Metrics } from "../observe/metrics.ts";

type BudgetMetrics = Pick<Metrics, "budgetRemaining" | "budgetFrozen" | "stageBudgetFrozen">;

/** Series of the budgets a StageSet has, as its status says; those of budgets that are gone vanish (spec 60 §6). */
export function showBudgets(metrics: BudgetMetrics, key: StageSetKey, stageSet: KubeObject): void {
  const status = statusOf(stageSet);
  const spec = at(stageSet, "spec");
  const frozen = (record: BudgetFreeze | undefined): number => (isEnforced(record) ? 1 : 0);
  if (at(spec, "errorBudget") === undefined) {
    metrics.budgetFrozen.remove({ ...key });
    metrics.budgetRemaining.remove({ ...key });
  } else {
    metrics.budgetFrozen.set({ ...key }, frozen(status.budgetFreeze));
    const remaining = Number(status.budgetFreeze?.remaining ?? NaN);
    if (Number.isFinite(remaining)) metrics.budgetRemaining.set({ ...key }, remaining);
  }
  const stageSetLabels = { namespace: key.namespace, stageset: key.name };
  metrics.stageBudgetFrozen.remove(stageSetLabels);
  for (const stage of asArray(at(spec, "stages"))) {
    const name = asText(at(stage, "name"));
    if (name === undefined || at(stage, "errorBudget") === undefined) continue;
    const entry = status.stages?.find((each) => each.name === name);
    metrics.stageBudgetFrozen.set({ ...stageSetLabels, stage: name }, frozen(entry?.budgetFreeze));
  }
}
