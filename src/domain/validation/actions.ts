import type { Action, StageSetSpec } from "../../api/stage-set.ts";
import { selectorProblems, selectsEverything } from "../formats/label-selector.ts";
import { patchProblem } from "../formats/patch-document.ts";
import {
  deny,
  exactlyOneProblem,
  type Finding,
  inside,
  nameFindings,
  type Place,
  quote,
  type ValidationContext,
  warn,
} from "./finding.ts";
import { actionGroups, type ActionList, actionsOf } from "./places.ts";
import { type UrlContext, urlFindings } from "./urls.ts";

const verbs = ["patch", "http", "wait", "job", "delete", "apply"] as const;
/** RFC 9110 §5.1 */
const headerName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** V10 to V15: actions, one by one and within their lists. */
export function actionFindings(spec: StageSetSpec, context: ValidationContext): Generator<Finding> {
  return actionGroupFindings(actionGroups(spec), { ...context, versioned: spec.version !== undefined });
}

/** V10 to V15 of some groups; `versioned`: there is a version to run once for. */
export function* actionGroupFindings(
  groups: Iterable<readonly ActionList[]>,
  context: UrlContext & { readonly versioned: boolean },
): Generator<Finding> {
  const { versioned } = context;
  for (const group of groups) {
    const actions = group.flatMap((list) => [...actionsOf(list)].map(([place, action]) => ({ place, action, list })));
    yield* nameFindings(
      "V10",
      actions.map(({ place, action }) => [inside(place, "name"), action.name] as const),
    );
    for (const { place, action, list } of actions) {
      const problem = exactlyOneProblem(action, verbs);
      if (problem !== undefined) yield deny("V10", place, problem);
      if (action.patch !== undefined) yield* patchFindings(inside(place, "patch"), action.patch);
      if (action.http !== undefined) yield* httpFindings(inside(place, "http"), action.http, context);
      if (action.wait !== undefined) yield* waitFindings(inside(place, "wait"), action.wait);
      yield* scopeFindings(place, action, { kind: list.kind, versioned });
    }
  }
}

function* patchFindings(place: Place, patch: NonNullable<Action["patch"]>): Generator<Finding> {
  const target = inside(place, "target");
  const problem = exactlyOneProblem(patch.target, ["name", "selector"]);
  if (problem !== undefined) yield deny("V11", target, problem);
  const { selector } = patch.target;
  if (selector !== undefined) {
    if (selectsEverything(selector))
      yield deny("V11", inside(target, "selector"), "is empty, want at least one requirement");
    for (const { path, message } of selectorProblems(selector))
      yield deny("V11", inside(inside(target, "selector"), path), message);
  }
  const unfit = patchProblem(patch.patch, patch.type ?? "merge");
  if (unfit !== undefined) yield deny("V11", inside(place, "patch"), `${unfit}: ${quote(patch.patch)}`);
}

function* httpFindings(place: Place, http: NonNullable<Action["http"]>, context: UrlContext): Generator<Finding> {
  yield* urlFindings("V12", inside(place, "url"), http.url, context);
  if (http.bodyFrom !== undefined && (http.bodyFrom.key ?? "") === "")
    yield deny("V12", inside(inside(place, "bodyFrom"), "key"), "is missing, want the entry of the Secret");
  for (const [index, { key = "" }] of (http.headersFrom ?? []).entries())
    if (!headerName.test(key))
      yield deny(
        "V12",
        inside(inside(inside(place, "headersFrom"), `[${index}]`), "key"),
        key === "" ? "is missing, want the name of a header" : `is ${quote(key)}, want the name of a header`,
      );
  if (http.body !== undefined && http.bodyFrom !== undefined)
    yield warn("V12", place, "sets body and bodyFrom, of which bodyFrom is sent");
}

function* waitFindings(place: Place, wait: NonNullable<Action["wait"]>): Generator<Finding> {
  if (wait.expr !== undefined && wait.target === undefined)
    yield deny("V13", inside(place, "target"), "is missing, want the object expr is evaluated over");
  if (wait.duration === undefined && wait.expr === undefined)
    yield warn("V13", place, "sets neither duration nor expr, and so waits for nothing");
  if (wait.duration !== undefined && wait.expr !== undefined)
    yield warn("V13", place, "sets duration and expr, of which duration is used");
}

function* scopeFindings(
  place: Place,
  action: Action,
  { kind, versioned }: { readonly kind: ActionList["kind"]; readonly versioned: boolean },
): Generator<Finding> {
  const { scope, completionAnchor: anchor } = action;
  const anchorPlace = inside(place, "completionAnchor");
  if (kind !== "pre" && kind !== "post") {
    const wanted = "want it on pre and post actions only";
    if (scope !== undefined) yield deny("V15", inside(place, "scope"), `is ${quote(scope)}, ${wanted}`);
    if (anchor !== undefined) yield deny("V15", anchorPlace, `names ${quote(anchor.name)}, ${wanted}`);
    return;
  }
  if (scope === "Version" && !versioned)
    yield deny("V14", inside(place, "scope"), 'is "Version" while spec.version is not set, want another scope or both');
  if (anchor === undefined) return;
  if (scope !== "Lifetime")
    yield deny("V14", anchorPlace, `is set with scope ${quote(scope ?? "Revision")}, want it with "Lifetime" only`);
  for (const member of ["apiVersion", "kind", "name"] as const)
    if (anchor[member] === "") yield deny("V14", inside(anchorPlace, member), "is empty, want it set");
}
