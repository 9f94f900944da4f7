import type { ErrorBudget, StageSetStatus } from "../../api/stage-set.ts";
import { parseDecimal } from "../formats/decimal.ts";
import type { MetricAnswer } from "../metrics/metric-answer.ts";
import { timestamp } from "../status.ts";

export type BudgetFreeze = NonNullable<StageSetStatus["budgetFreeze"]>;

/** Evaluations in a row without a number after which an enforced freeze opens under `onSourceError: Allow`. */
const errorsThatOpen = 3;

/** What one evaluation of an error budget comes to (spec 40 §4). */
export interface BudgetVerdict {
  /** The freeze to have on record from now on; undefined: none. */
  readonly record: BudgetFreeze | undefined;
  readonly hold:
    { readonly reason: "BudgetExhausted" | "BudgetSourceUnavailable"; readonly message: string } | undefined;
}

export interface BudgetCase {
  readonly budget: ErrorBudget;
  /** Undefined: the rollout-wide budget. */
  readonly stage: string | undefined;
  readonly record: BudgetFreeze | undefined;
  readonly answer: MetricAnswer;
  /** This answer is in the record's count of errors already. */
  readonly counted: boolean;
  /** Epoch ms. */
  readonly now: number;
}

/** Judged again with the record it gave, and counted, it gives the same. */
export function judgeBudget(of: BudgetCase): BudgetVerdict {
  return of.answer.kind === "value" ? judgeValue(of, of.answer.value) : judgeError(of, of.answer.problem);
}

function judgeValue({ budget, stage, record, now }: BudgetCase, value: number): BudgetVerdict {
  const { freezeThreshold, resumeThreshold = freezeThreshold } = budget;
  const threshold = parseDecimal(record === undefined ? freezeThreshold : resumeThreshold);
  if (threshold === undefined || value >= threshold) return { record: undefined, hold: undefined };
  const frozen: BudgetFreeze = {
    remaining: String(value),
    freezeThreshold,
    resumeThreshold,
    since: record?.since ?? timestamp(now),
    ...(budget.dryRun === true ? { dryRun: true } : {}),
  };
  return { record: frozen, hold: heldBy(frozen, stage) };
}

function judgeError({ budget, stage, record, counted }: BudgetCase, problem: string): BudgetVerdict {
  if (budget.dryRun === true) return { record, hold: undefined };
  if (budget.onSourceError === "Hold")
    return {
      record,
      hold: { reason: "BudgetSourceUnavailable", message: `${named(stage)} cannot be read: ${problem}` },
    };
  if (record === undefined || !isEnforced(record)) return { record, hold: undefined };
  const sourceErrors = (record.sourceErrors ?? 0) + (counted ? 0 : 1);
  if (sourceErrors >= errorsThatOpen) return { record: undefined, hold: undefined };
  const kept = { ...record, sourceErrors };
  return { record: kept, hold: heldBy(kept, stage) };
}

/** A freeze that holds something; one of a dry run is only on record. */
export function isEnforced(record: BudgetFreeze | undefined): boolean {
  return record !== undefined && record.dryRun !== true;
}

/** The hold a freeze on record stands for. */
export function heldBy(record: BudgetFreeze, stage: string | undefined): BudgetVerdict["hold"] {
  return isEnforced(record) ? { reason: "BudgetExhausted", message: freezeText(record, stage) } : undefined;
}

/** What a freeze comes to, in words that stay the same while its numbers do. */
export function freezeText(record: BudgetFreeze, stage: string | undefined): string {
  const { remaining = "unknown", freezeThreshold = "unknown", resumeThreshold = freezeThreshold } = record;
  return `${named(stage)} is exhausted: ${remaining} remaining, frozen below ${freezeThreshold}, resumes at ${resumeThreshold}`;
}

/** Its subject in messages. */
export function named(stage: string | undefined): string {
  return stage === undefined ? "error budget" : `error budget of stage ${JSON.stringify(stage)}`;
}
