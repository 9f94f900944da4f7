import type { Action, ErrorBudget, MetricSource, SourceRef, Stage, StageSetSpec } from "../../api/stage-set.ts";
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
  for (const [index, migration] of (spec.migrations ?? []).entries()) {
    const place = inside(inside(root, "migrations"), `[${index}]`, `migration ${quote(migration.name)}`);
    yield [{ place: inside(place, "actions"), kind: "up", actions: migration.actions ?? [] }];
    yield [{ place: inside(place, "down"), kind: "down", actions: migration.down ?? [] }];
  }
}

/** The actions of a list with their places. */
export function* actionsOf(list: ActionList): Generator<readonly [Place, Action]> {
  for (const [index, action] of list.actions.entries())
    yield [inside(list.place, `[${index}]`, `action ${quote(action.name)}`), action];
}

/** Every action of the spec. */
export function* allActions(spec: StageSetSpec): Generator<readonly [Place, Action, ActionList["kind"]]> {
  for (const group of actionGroups(spec))
    for (const list of group) for (const [place, action] of actionsOf(list)) yield [place, action, list.kind];
}

/** Every reference to a source. */
export function* sourceRefsOf(spec: StageSetSpec): Generator<readonly [Place, SourceRef]> {
  for (const [place, stage] of stagesOf(spec)) yield [inside(place, "sourceRef"), stage.sourceRef];
  for (const [place, action] of allActions(spec)) {
    if (action.job !== undefined) yield [inside(inside(place, "job"), "sourceRef"), action.job.sourceRef];
    if (action.apply !== undefined) yield [inside(inside(place, "apply"), "sourceRef"), action.apply.sourceRef];
  }
  if (spec.migrationsSourceRef !== undefined)
    yield [inside(inside(root, "migrationsSourceRef"), "sourceRef"), spec.migrationsSourceRef.sourceRef];
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
