import type { Action, Migration } from "../../src/api/stage-set.ts";
import { renderVersion } from "../../src/domain/formats/version.ts";
import { decideVersion, type VersionDecision, type VersionInput } from "../../src/domain/versions/decide-version.ts";
import {
  afterRun,
  nothingRecorded,
  type Recorded,
  type Rung,
  rungsOf,
  stepsLeft,
  withCompletion,
  withStep,
} from "../../src/domain/versions/migration-ledger.ts";
import { migrationsBefore, type TransitionPlan } from "../../src/domain/versions/plan-transition.ts";

export const step = (name: string): Action => ({ name, wait: { duration: "1s" } });
export const stages = [{ name: "db" }, { name: "app" }];

// The ladder of spec 30 §10.
export const ladder: readonly Migration[] = [
  { name: "idx", to: "1.3.0", stage: "db", actions: [step("a"), step("b")], down: [step("a")] },
  {
    name: "split",
    to: "1.4.0",
    from: ">=1.0.0, <1.4.0",
    stage: "app",
    actions: [step("a"), step("b")],
    down: [step("a")],
  },
  { name: "drop", to: "1.5.0", stage: "db", actions: [step("a")] },
  { name: "v2", to: "2.0.0", from: "1.x", stage: "db", actions: [step("a")] },
];

export interface World {
  readonly deployed: string | undefined;
  readonly recorded: Recorded;
}
export interface Options extends Partial<Omit<VersionInput, "wanted" | "deployed" | "recorded">> {
  readonly migrations?: readonly Migration[];
}

export function decide(world: World, wanted: string, { migrations = ladder, ...rest }: Options = {}): VersionDecision {
  return decideVersion({
    rules: {},
    directed: false,
    annotations: {},
    stageVersions: [],
    stages,
    rungs: rungsOf(migrations),
    wanted: { text: wanted, origin: "spec.version.value" },
    ...world,
    ...rest,
  });
}

export const at = (deployed: string | undefined): World => ({ deployed, recorded: nothingRecorded });
export const allowed: Options = { rules: { allowDowngrade: true } };

export function planOf(decision: VersionDecision): TransitionPlan {
  if (decision.kind !== "run" && decision.kind !== "held") throw new Error(`no plan: ${JSON.stringify(decision)}`);
  return decision.plan;
}

/** What runs, as `stage: direction name …`. */
export function order(decision: VersionDecision): string {
  const plan = planOf(decision);
  const text = ({ name }: { readonly name: string }): string => {
    const list = migrationsBefore(plan, name).map(({ rung, direction }) =>
      direction === "down" ? `down ${rung.migration.name}` : rung.migration.name,
    );
    return list.length === 0 ? "" : `[${name}] ${list.join(", ")}`;
  };
  return stages
    .map(text)
    .filter((part) => part !== "")
    .join(" ");
}

export function reason(decision: VersionDecision): string {
  return decision.kind === "refused" ? decision.reason : decision.kind;
}

export interface Play {
  readonly migrations?: readonly Migration[];
  /** How many steps are done before the interruption; default: all. */
  readonly steps?: number;
  readonly effect?: (rung: Rung, direction: "up" | "down") => void;
  readonly completed?: (rung: Rung, direction: "up" | "down") => void;
}

/** Runs what was decided, as an executor that records each step before the next. */
export function run(
  world: World,
  decision: VersionDecision,
  { migrations = ladder, steps = Infinity, effect, completed }: Play = {},
) {
  if (decision.kind === "adoption")
    return { world: { ...world, deployed: renderVersion(decision.wanted) }, ended: true };
  if (decision.kind !== "run") return { world, ended: false };
  const rungs = rungsOf(migrations);
  const same = (rung: Rung): Rung => rungs[rung.index] ?? rung;
  let { recorded } = world;
  let left = steps;
  for (const { name } of stages)
    for (const planned of migrationsBefore(decision.plan, name)) {
      const target = { rung: same(planned.rung), direction: planned.direction };
      for (const action of stepsLeft(target.rung, target.direction, recorded)) {
        if (left-- <= 0) return { world: { ...world, recorded }, ended: false };
        effect?.(target.rung, target.direction);
        recorded = withStep(rungs, recorded, { ...target, action });
      }
      recorded = withCompletion(rungs, recorded, target);
      completed?.(target.rung, target.direction);
    }
  const after = afterRun(rungs, recorded, decision.plan.leftovers.map(same));
  return { world: { deployed: renderVersion(decision.wanted), recorded: after }, ended: true };
}

export const play = (world: World, decision: VersionDecision, options: Play = {}): World =>
  run(world, decision, options).world;
