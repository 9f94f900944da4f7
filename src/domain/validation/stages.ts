import type { Stage, StageSetSpec } from "../../api/stage-set.ts";
import { deny, type Finding, inside, nameFindings, type Place, quote, root, warn } from "./finding.ts";
import { stagesOf } from "./places.ts";

const longestLabelValue = 63;
const apiVersionShape = /^(?:[a-z0-9][-a-z0-9.]*\/)?[a-z0-9][-a-z0-9]*$/;
const dataKinds = ["PersistentVolumeClaim", "PersistentVolume"];

/** V3, on creation: the name becomes a label value. */
export function* nameLengthFindings(name: string): Generator<Finding> {
  if (name.length > longestLabelValue)
    yield deny(
      "V3",
      { path: "metadata.name", subject: "" },
      `is ${quote(name)}, ${name.length} characters long, want at most ${longestLabelValue}: it becomes a label value`,
    );
}

/** V1, V4, V18, V27, V28 and V30: stages and how they are applied. */
export function* stageFindings(spec: StageSetSpec): Generator<Finding> {
  if (spec.stages.length === 0) yield deny("V1", inside(root, "stages"), "is empty, want at least one stage");
  yield* nameFindings(
    "V4",
    [...stagesOf(spec)].map(([place, { name }]) => [inside(place, "name"), name] as const),
  );
  yield* anchorFindings(spec);
  if (spec.onTimeout === "Rollback" && spec.rollbackOnFailure !== true)
    yield warn("V27", inside(root, "onTimeout"), rollbackMessage);
  for (const [place, stage] of stagesOf(spec)) {
    if (stage.onTimeout === "Rollback" && spec.rollbackOnFailure !== true)
      yield warn("V27", inside(place, "onTimeout"), rollbackMessage);
    yield* readyCheckFindings(inside(place, "readyChecks"), stage.readyChecks);
    yield* conflictFindings(place, stage);
  }
}

const rollbackMessage =
  'is "Rollback" while spec.rollbackOnFailure is not true: a timeout fails the stage and rolls nothing back';

/** Stage names and anchors share one space; names among themselves are V4's. */
function* anchorFindings(spec: StageSetSpec): Generator<Finding> {
  const find = (spec.migrations ?? []).length > 0 || spec.migrationsSourceRef !== undefined ? deny : warn;
  const names = new Set(spec.stages.map(({ name }) => name));
  const anchors = new Set<string>();
  for (const [stagePlace, { migrationAnchor: anchor }] of stagesOf(spec)) {
    if (anchor === undefined) continue;
    const place = inside(stagePlace, "migrationAnchor");
    if (names.has(anchor)) yield find("V18", place, `is ${quote(anchor)}, the name of a stage, want another one`);
    else if (anchors.has(anchor)) yield find("V18", place, `is ${quote(anchor)} again, want unique anchors`);
    anchors.add(anchor);
  }
}

function* readyCheckFindings(place: Place, checks: Stage["readyChecks"]): Generator<Finding> {
  for (const [index, rule] of (checks?.exprs ?? []).entries()) {
    const item = inside(inside(place, "exprs"), `[${index}]`);
    if (!apiVersionShape.test(rule.apiVersion))
      yield deny("V28", inside(item, "apiVersion"), `is ${quote(rule.apiVersion)}, want one such as "apps/v1"`);
    if (rule.kind === "") yield deny("V28", inside(item, "kind"), "is empty, want a kind");
    if (rule.current === undefined && rule.failed === undefined)
      yield warn("V28", item, "sets neither current nor failed, and so decides nothing");
  }
}

function* conflictFindings(place: Place, { force, conflictPolicy }: Stage): Generator<Finding> {
  if (conflictPolicy === undefined) return;
  if (force === true)
    yield warn("V30", inside(place, "force"), "is true, which has no effect because conflictPolicy is set");
  for (const [index, { target, action, allowDataLoss }] of (conflictPolicy.rules ?? []).entries())
    if (action === "Recreate" && allowDataLoss !== true && dataKinds.includes(target.kind ?? ""))
      yield warn(
        "V30",
        inside(inside(inside(place, "conflictPolicy"), "rules"), `[${index}]`),
        `recreates a ${target.kind ?? ""} without allowDataLoss, which will be refused`,
      );
}
