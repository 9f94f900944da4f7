import type { StageSetSpec } from "../../api/stage-set.ts";
import { deny, type Finding, inside, type Place, quote } from "./finding.ts";
import { allActions, type PlacedAction, stagesOf } from "./places.ts";

interface Expression {
  readonly rule: Finding["rule"];
  readonly place: Place;
  readonly text: string;
}

/** Every CEL expression of the spec, for V13 and V28: compiling takes more than the rules have. Empty ones count as unset. */
export function* expressionsOf(spec: StageSetSpec): Generator<Expression> {
  for (const [place, { readyChecks }] of stagesOf(spec))
    for (const [index, rule] of (readyChecks?.exprs ?? []).entries())
      for (const member of ["current", "inProgress", "failed"] as const) {
        const text = rule[member] ?? "";
        const at = inside(inside(inside(place, "readyChecks.exprs"), `[${index}]`), member);
        if (text !== "") yield { rule: "V28", place: at, text };
      }
  yield* expressionsOfActions(allActions(spec));
}

/** Every CEL expression of some actions, for V13. */
export function* expressionsOfActions(actions: Iterable<PlacedAction>): Generator<Expression> {
  for (const [place, { wait }] of actions) {
    const text = wait?.expr ?? "";
    if (text !== "") yield { rule: "V13", place: inside(place, "wait.expr"), text };
  }
}

/** Asked before every step of a pass: with 1,000 stages to look through, once per spec must do. */
const answers = new WeakMap<StageSetSpec, boolean>();

export function hasExpressions(spec: StageSetSpec): boolean {
  const known = answers.get(spec) ?? expressionsOf(spec).next().done !== true;
  answers.set(spec, known);
  return known;
}

/** V13 and V28: expressions that are none, by the compiler's word on each. */
export function expressionFindings(
  spec: StageSetSpec,
  problemOf: (expression: string) => string | undefined,
): Generator<Finding> {
  return problemsOf(expressionsOf(spec), problemOf);
}

/** V13 of some actions. */
export function actionExpressionFindings(
  actions: Iterable<PlacedAction>,
  problemOf: (expression: string) => string | undefined,
): Generator<Finding> {
  return problemsOf(expressionsOfActions(actions), problemOf);
}

function* problemsOf(
  expressions: Iterable<Expression>,
  problemOf: (expression: string) => string | undefined,
): Generator<Finding> {
  for (const { rule, place, text } of expressions) {
    const problem = problemOf(text);
    if (problem !== undefined) yield deny(rule, place, `is ${quote(text)}, which is no boolean expression: ${problem}`);
  }
}
