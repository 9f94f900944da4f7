import { budgetOverrideAnnotation } from "../../api/keys.ts";
import type { ErrorBudget, StageSetSpec, StageSetStatus } from "../../api/stage-set.ts";
import { deepEqual } from "../../lib/equal.ts";
import { heldBy, judgeBudget, type BudgetFreeze, type BudgetVerdict } from "../budgets/budget.ts";
import type { BudgetHolds, GoalInput, Hold } from "../holds/hold.ts";
import { pinsHash } from "../holds/override.ts";
import { tokenOf } from "../ignored-annotations.ts";
import { identityOf, sameIdentity } from "../pins.ts";
import { enteredIdentity, stageEntry } from "../status.ts";
import { minuteMs, positiveMs, retryMs } from "../timing.ts";
import { planGoals, type Goals } from "./goals.ts";
import { factOf } from "./plan.ts";
import type { FactKey, PassState } from "./state.ts";
import type { Step } from "./step.ts";

/** How old an answer may be: an exhausted budget is asked for again once per `interval` (spec 40 §4). */
export function budgetIntervalMs(spec: StageSetSpec, budget: ErrorBudget, defaultIntervalMs: number): number {
  return positiveMs(budget.interval) ?? retryMs(spec, defaultIntervalMs);
}

/** What the budgets hold, or what has to be done before that is known and on record. */
export type BudgetStep = { readonly kind: "budgets"; readonly input: GoalInput; readonly goals: Goals } | Step;

/**
 * Error budgets, rollout-wide and of stages (spec 40 §1 steps 8 and 10, §4). `goals` are those without them: what a lower
 * step holds is not asked about. The stages' are asked for when their turn has come, every stage before being done; until
 * then a freeze on record holds.
 */
export function budgetStep(state: PassState, input: GoalInput, goals: Goals): BudgetStep {
  const { spec, status, pins } = input;
  const token = tokenOf(state.snapshot.annotations[budgetOverrideAnnotation]);
  // A hold of a lower step means that this one is not reached: nothing is asked, and no token consumed.
  // The promotion gate of an earlier stage is of a higher one.
  const reached = goals.hold === undefined || goals.hold.kind === "gate";
  const fresh = reached && token !== undefined && token !== status.lastHandledBudgetOverride ? token : undefined;
  if (!concerns(spec, status) && fresh === undefined) return { kind: "budgets", input, goals };
  const hash = pinsHash(spec.stages, pins);
  const budgets = new Evaluation(state, { input, goals, reached });
  const overridden = status.budgetOverrideFor === hash || (fresh !== undefined && holdsOnRecord(input));
  const asked = overridden || !reached ? undefined : budgets.missing();
  if (asked !== undefined) return asked;
  const holds = overridden ? noHolds : budgets.holds();
  const released = fresh !== undefined && (overridden || budgets.held);
  const next: StageSetStatus = withOverride(released || overridden ? budgets.cleared() : budgets.recorded(), {
    lastHandled: fresh ?? status.lastHandledBudgetOverride,
    letsThrough: released || overridden ? hash : undefined,
  });
  if (!deepEqual(next, status))
    return {
      kind: "record",
      write: { kind: "status", status: next },
      remember: { budgetsCounted: budgets.counted() },
      joinsNext: "once prepared",
    };
  if (holds === noHolds || (holds.release === undefined && holds.stages.size === 0))
    return { kind: "budgets", input, goals };
  const held = { ...input, budgets: holds };
  return { kind: "budgets", input: held, goals: planGoals(held) };
}

const noHolds: BudgetHolds = { release: undefined, stages: new Map() };

/** Most StageSets have no budget, and no trace of one. */
function concerns(spec: StageSetSpec, status: StageSetStatus): boolean {
  return (
    spec.errorBudget !== undefined ||
    status.budgetFreeze !== undefined ||
    status.budgetOverrideFor !== undefined ||
    spec.stages.some((stage) => stage.errorBudget !== undefined) ||
    (status.stages ?? []).some((entry) => entry.budgetFreeze !== undefined)
  );
}

function isEntering({ spec, status, pins }: GoalInput, index: number): boolean {
  const pin = pins[index];
  const entry = stageEntry(status, spec.stages[index]?.name ?? "");
  return pin !== undefined && !sameIdentity(enteredIdentity(entry), identityOf(pin));
}

/** An enforced freeze on record holds a stage that would enter: that is what a token releases, without asking again. */
function holdsOnRecord(input: GoalInput): boolean {
  const { spec, status } = input;
  const holds = (record: BudgetFreeze | undefined): boolean => record !== undefined && record.dryRun !== true;
  return spec.stages.some(
    (stage, index) =>
      isEntering(input, index) &&
      ((spec.errorBudget !== undefined && holds(status.budgetFreeze)) ||
        (stage.errorBudget !== undefined && holds(stageEntry(status, stage.name)?.budgetFreeze))),
  );
}

function withOverride(
  status: StageSetStatus,
  { lastHandled, letsThrough }: { readonly lastHandled: string | undefined; readonly letsThrough: string | undefined },
): StageSetStatus {
  const { budgetOverrideFor: _superseded, ...rest } = status;
  return {
    ...rest,
    ...(lastHandled === undefined ? {} : { lastHandledBudgetOverride: lastHandled }),
    ...(letsThrough === undefined ? {} : { budgetOverrideFor: letsThrough }),
  };
}

/** One budget that is to be judged in this step. */
interface Asked {
  readonly stage: string | undefined;
  readonly budget: ErrorBudget;
  readonly key: Extract<FactKey, { kind: "budget" }>;
  readonly record: BudgetFreeze | undefined;
}

/** The budgets of one plan: which are asked, and what they say. */
class Evaluation {
  readonly #state: PassState;
  readonly #input: GoalInput;
  readonly #goals: Goals;
  readonly #reached: boolean;
  readonly #verdicts = new Map<string | undefined, BudgetVerdict>();

  constructor(
    state: PassState,
    { input, goals, reached }: { readonly input: GoalInput; readonly goals: Goals; readonly reached: boolean },
  ) {
    this.#state = state;
    this.#input = input;
    this.#goals = goals;
    this.#reached = reached;
  }

  /** What has to be read before anything can be said; judges what is there. */
  missing(): Step | undefined {
    const release = this.#release();
    const first = release === undefined ? undefined : this.#judge(release);
    if (first !== undefined) return first;
    // Held as a whole: what a stage's budget would say does not matter.
    if (this.#verdicts.get(undefined)?.hold !== undefined) return undefined;
    const turn = this.#turn();
    return turn === undefined ? undefined : this.#judge(turn);
  }

  holds(): BudgetHolds {
    if (!this.#reached) return noHolds;
    const stages = new Map<string, Hold>();
    for (const [index, { name, errorBudget }] of this.#input.spec.stages.entries()) {
      if (errorBudget === undefined || !isEntering(this.#input, index)) continue;
      const verdict = this.#verdicts.get(name);
      const record = stageEntry(this.#input.status, name)?.budgetFreeze;
      const hold = verdict === undefined ? record && heldBy(record, name) : verdict.hold;
      if (hold !== undefined) stages.set(name, this.#asHold(hold, errorBudget, { stage: name }));
    }
    const release = this.#verdicts.get(undefined)?.hold;
    const { errorBudget } = this.#input.spec;
    return {
      release:
        release === undefined || errorBudget === undefined
          ? undefined
          : this.#asHold(release, errorBudget, { stage: undefined }),
      stages,
    };
  }

  get held(): boolean {
    const { release, stages } = this.holds();
    return release !== undefined || stages.size > 0;
  }

  /** The status with what the verdicts put on record; a freeze of what is not wanted any more goes. */
  recorded(): StageSetStatus {
    const { spec, status } = this.#input;
    const wanted =
      spec.errorBudget !== undefined && this.#goals.stages.some(({ index }) => isEntering(this.#input, index));
    const release = this.#verdicts.get(undefined);
    const record = release === undefined ? (wanted ? status.budgetFreeze : undefined) : release.record;
    return this.#withRecords(record, (name, index, before) => {
      const stage = spec.stages[index];
      if (stage?.errorBudget === undefined || !isEntering(this.#input, index)) return undefined;
      const verdict = this.#verdicts.get(name);
      return verdict === undefined ? before : verdict.record;
    });
  }

  /** The status without a freeze. */
  cleared(): StageSetStatus {
    return this.#withRecords(undefined, () => undefined);
  }

  /** Answers that are in the counts on record now. */
  counted(): ReadonlyMap<string, number> {
    const counted = new Map(this.#state.memory.budgetsCounted);
    for (const [stage] of this.#verdicts) {
      const readAt = this.#readingOf(stage)?.readAt;
      if (readAt !== undefined) counted.set(stage ?? "", readAt);
    }
    return counted;
  }

  #release(): Asked | undefined {
    const { spec, status } = this.#input;
    if (spec.errorBudget === undefined || !this.#isWanted()) return undefined;
    return {
      stage: undefined,
      budget: spec.errorBudget,
      key: { kind: "budget", stage: undefined },
      record: status.budgetFreeze,
    };
  }

  /** Some stage would enter. */
  #isWanted(): boolean {
    return this.#goals.stages.some(({ index }) => isEntering(this.#input, index));
  }

  /** The stage whose turn it is, if it would enter: every stage before it is done with its pin. */
  #turn(): Asked | undefined {
    const goal = this.#goals.stages.find(({ mode, content }) => mode !== "keep" || content !== "pin");
    const budget = goal === undefined ? undefined : this.#input.spec.stages[goal.index]?.errorBudget;
    if (goal?.mode !== "enter" || budget === undefined) return undefined;
    const record = stageEntry(this.#input.status, goal.stage)?.budgetFreeze;
    return { stage: goal.stage, budget, key: { kind: "budget", stage: goal.stage }, record };
  }

  #judge({ stage, budget, key, record }: Asked): Step | undefined {
    const fact = factOf(this.#state, key);
    if (fact?.kind !== "budget") return { kind: "need", facts: [key] };
    const { reading } = fact;
    if (reading === undefined)
      // Its answer wakes the key; the time is for one that is lost.
      return { kind: "park", wakes: [{ kind: "at", elapsed: this.#state.elapsed + minuteMs }], remember: {} };
    const counted = this.#state.memory.budgetsCounted.get(stage ?? "") === reading.readAt;
    const { answer } = reading;
    this.#verdicts.set(stage, judgeBudget({ budget, stage, record, answer, counted, now: this.#state.now }));
    return undefined;
  }

  #asHold(
    { reason, message }: NonNullable<BudgetVerdict["hold"]>,
    budget: ErrorBudget,
    { stage }: { readonly stage: string | undefined },
  ): Hold {
    const intervalMs = budgetIntervalMs(this.#input.spec, budget, this.#state.options.defaultIntervalMs);
    const readAt = this.#readingOf(stage)?.readAt;
    const until = readAt === undefined ? undefined : this.#state.now + (readAt + intervalMs - this.#state.elapsed);
    return { kind: "wait", reason, message, until };
  }

  #readingOf(stage: string | undefined): { readonly readAt: number } | undefined {
    const fact = factOf(this.#state, { kind: "budget", stage });
    return fact?.kind === "budget" ? fact.reading : undefined;
  }

  #withRecords(
    release: BudgetFreeze | undefined,
    recordOf: (name: string, index: number, before: BudgetFreeze | undefined) => BudgetFreeze | undefined,
  ): StageSetStatus {
    const { spec, status } = this.#input;
    const indexes = new Map(spec.stages.map(({ name }, index) => [name, index]));
    const stages = new Map((status.stages ?? []).map((entry) => [entry.name, entry]));
    for (const { name } of spec.stages) {
      const record = recordOf(name, indexes.get(name) ?? -1, stages.get(name)?.budgetFreeze);
      const { budgetFreeze: before, ...entry } = stages.get(name) ?? { name, phase: "Pending" as const };
      if (!deepEqual(before, record))
        stages.set(name, record === undefined ? entry : { ...entry, budgetFreeze: record });
    }
    const { budgetFreeze: _before, ...rest } = status;
    return {
      ...rest,
      ...(status.stages === undefined && stages.size === 0 ? {} : { stages: [...stages.values()] }),
      ...(release === undefined ? {} : { budgetFreeze: release }),
    };
  }
}
