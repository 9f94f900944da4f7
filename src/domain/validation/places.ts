import type {
  Action,
  ErrorBudget,
  MetricSource,
  Migration,
  SourceRef,
  Stage,
  StageSetSpec,
} from "../../api/stage-set.ts";
import { inside, type Place, quote, root } from "./finding.ts";

/** Stages with their places. */
export function* stagesOf(spec: StageSetSpec): Generator<readonly [Place, Stage]> {
  for (const [index, stage] of spec.stages.entries())
    yield [inside(inside(root, "stages"), `[${index}]`, `stage ${quote(stage.name)}`), stage];
}

/** Actions that run one after another. */
export interface ActionList {
  readonly place: Place;
  readonly kind: "pre" | "post" | "onFailure" | "onRollback" | "up" | "down";
  readonly actions: readonly Action[];
}

/** The action lists in which names must differ from each other; one group after another. */
export function* actionGroups(spec: StageSetSpec): Generator<readonly ActionList[]> {
  for (const [place, { actions = {} }] of stagesOf(spec))
    yield (["pre", "post", "onFailure"] as const).map((kind) => ({
      place: inside(inside(place, "actions"), kind),
      kind,
      actions: actions[kind] ?? [],
    }));
  yield [{ place: inside(root, "onRollback"), kind: "onRollback", actions: spec.onRollback ?? [] }];
  yield* migrationGroups(migrationsOf(spec));
}

/** A migration and where it is, in a spec or in a file. */
export interface PlacedMigration {
  readonly place: Place;
  readonly migration: Migration;
}

/** The migrations that the spec itself holds. */
export function migrationsOf(spec: StageSetSpec): readonly PlacedMigration[] {
  return (spec.migrations ?? []).map((migration, index) => ({
    place: inside(inside(root, "migrations"), `[${index}]`, `migration ${quote(migration.name)}`),
    migration,
  }));
}

/** The action lists of migrations, each a group of its own. */
export function* migrationGroups(migrations: readonly PlacedMigration[]): Generator<readonly ActionList[]> {
  for (const { place, migration } of migrations) {
    yield [{ place: inside(place, "actions"), kind: "up", actions: migration.actions ?? [] }];
    yield [{ place: inside(place, "down"), kind: "down", actions: migration.down ?? [] }];
  }
}

/** The actions of a list with their places. */
export function* actionsOf(list: ActionList): Generator<readonly [Place, Action]> {
  for (const [index, action] of list.actions.entries())
    yield [inside(list.place, `[${index}]`, `action ${quote(action.name)}`), action];
}

export type PlacedAction = readonly [Place, Action, ActionList["kind"]];

/** Every action of the spec. */
export function allActions(spec: StageSetSpec): Generator<PlacedAction> {
  return actionsOfGroups(actionGroups(spec));
}

/** Every action of some groups. */
export function* actionsOfGroups(groups: Iterable<readonly ActionList[]>): Generator<PlacedAction> {
  for (const group of groups)
    for (const list of group) for (const [place, action] of actionsOf(list)) yield [place, action, list.kind];
}

/** Every reference to a source. */
export function* sourceRefsOf(spec: StageSetSpec): Generator<readonly [Place, SourceRef]> {
  for (const [place, stage] of stagesOf(spec)) yield [inside(place, "sourceRef"), stage.sourceRef];
  yield* sourceRefsOfActions(allActions(spec));
  if (spec.migrationsSourceRef !== undefined)
    yield [inside(inside(root, "migrationsSourceRef"), "sourceRef"), spec.migrationsSourceRef.sourceRef];
}

/** Every reference to a source of some actions. */
export function* sourceRefsOfActions(actions: Iterable<PlacedAction>): Generator<readonly [Place, SourceRef]> {
  for (const [place, { job, apply }] of actions) {
    if (job !== undefined) yield [inside(inside(place, "job"), "sourceRef"), job.sourceRef];
    if (apply !== undefined) yield [inside(inside(place, "apply"), "sourceRef"), apply.sourceRef];
  }
}

/** Every error budget. */
export function* errorBudgetsOf(spec: StageSetSpec): Generator<readonly [Place, ErrorBudget]> {
  if (spec.errorBudget !== undefined) yield [inside(root, "errorBudget"), spec.errorBudget];
  for (const [place, stage] of stagesOf(spec))
    if (stage.errorBudget !== undefined) yield [inside(place, "errorBudget"), stage.errorBudget];
}

/** Every metric source. */
export function* metricSourcesOf(spec: StageSetSpec): Generator<readonly [Place, MetricSource]> {
  for (const [place, budget] of errorBudgetsOf(spec)) yield [inside(place, "source"), budget.source];
  for (const [stagePlace, { promotion }] of stagesOf(spec)) {
    const place = inside(stagePlace, "promotion");
    for (const [index, check] of (promotion?.analysis?.checks ?? []).entries()) {
      const item = inside(inside(inside(place, "analysis"), "checks"), `[${index}]`, `check ${quote(check.name)}`);
      yield [inside(item, "source"), check.source];
    }
    if (promotion?.fastTrack !== undefined)
      yield [inside(inside(place, "fastTrack"), "source"), promotion.fastTrack.source];
  }
}
