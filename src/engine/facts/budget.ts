import type { ErrorBudget } from "../../api/stage-set.ts";
import { judgeBudget, named } from "../../domain/budgets/budget.ts";
import { budgetIntervalMs } from "../../domain/pass/budget-step.ts";
import { credentialIdentity } from "../../domain/pass/plan.ts";
import type { Fact, FactKey } from "../../domain/pass/state.ts";
import { stageEntry } from "../../domain/status.ts";
import type { Engine } from "../engine.ts";
import type { Pass } from "../pass.ts";
import { inPhase } from "../phase.ts";

type BudgetKey = Extract<FactKey, { kind: "budget" }>;

/** What the source of an error budget said last, if that is not too long ago; else it is asked, and nothing known yet. */
export function readBudget(engine: Engine, pass: Pass, { stage: name }: BudgetKey): Promise<Fact> {
  const { spec, stored } = pass.snapshot;
  const stage = name === undefined ? undefined : spec?.stages.find((each) => each.name === name);
  const budget = name === undefined ? spec?.errorBudget : stage?.errorBudget;
  if (spec === undefined || budget === undefined) return Promise.resolve({ kind: "budget", reading: undefined });
  return inPhase(engine, pass, { span: "stageset.gateErrorBudget", attributes: {} }, (span) => {
    const { options, clock } = engine;
    const reading = engine.metrics.latest(pass.key, {
      name: name === undefined ? "budget" : `budget ${name}`,
      source: budget.source,
      as: credentialIdentity(spec, stage, options),
      maxAgeMs: budgetIntervalMs(spec, budget, options.defaultIntervalMs),
    });
    if (reading !== undefined) {
      const record = name === undefined ? stored?.budgetFreeze : stageEntry(stored ?? {}, name)?.budgetFreeze;
      const { answer } = reading;
      const judged = judgeBudget({ budget, stage: name, record, answer, counted: true, now: clock.now() });
      span.set({ "stageset.budgetFrozen": judged.hold?.reason === "BudgetExhausted" });
      if (answer.kind === "value" && name === undefined) engine.reports.budgetRead(pass.key, answer.value);
      tellTrouble(pass, { budget, stage: name, problem: answer.kind === "value" ? undefined : answer.problem });
    }
    return Promise.resolve({ kind: "budget", reading } as const);
  });
}

/** One Warning when a source becomes unreadable. Where that holds the release, the hold is told instead. */
function tellTrouble(
  pass: Pass,
  o: { readonly budget: ErrorBudget; readonly stage: string | undefined; readonly problem: string | undefined },
): void {
  const { unreadable } = pass.session;
  const key = o.stage ?? "";
  if (o.problem === undefined) {
    unreadable.delete(key);
    return;
  }
  if (unreadable.has(key)) return;
  unreadable.add(key);
  if (o.budget.onSourceError === "Hold" && o.budget.dryRun !== true) return;
  pass.report.event({
    type: "Warning",
    reason: "BudgetSourceUnavailable",
    note: `${named(o.stage)} cannot be read: ${o.problem}`,
    once: undefined,
  });
}
