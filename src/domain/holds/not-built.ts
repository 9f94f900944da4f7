import type { StageSetSpec } from "../../api/stage-set.ts";
import type { Promotion } from "../promotion/soak.ts";
import { allActions, stagesOf } from "../validation/places.ts";
import type { GoalInput, Hold } from "./hold.ts";

/** How long until a spec that asks for too much is looked at again without any event (spec 10 §6, `M`). */
const lookAgainMs = 60_000;

/**
 * Holds every stage that would enter a pin under a spec that asks for a step or a gate this build does not have:
 * leaving it out would run the release in another way than its author wrote. What runs already is still corrected.
 */
export function cannotRelease({ spec, now }: Pick<GoalInput, "spec" | "now">): Hold | undefined {
  const paths = [...missingFeatures(spec)];
  if (paths.length === 0) return undefined;
  return { kind: "refusal", reason: "InvalidSpec", message: sentence(paths), until: now + lookAgainMs };
}

function* missingFeatures(spec: StageSetSpec): Generator<string> {
  const { rollbackOnFailure } = spec;
  if (rollbackOnFailure === true) yield "spec.rollbackOnFailure";
  // Places cost more than a look at 1,000 plain stages may.
  const asksForMore = ({ actions, promotion }: StageSetSpec["stages"][number]): boolean =>
    actions !== undefined || promotion !== undefined;
  if ((spec.onRollback ?? []).length === 0 && !spec.stages.some(asksForMore)) return;
  for (const [{ path }, , list] of allActions(spec)) if (list === "onRollback") yield path;
  for (const [{ path }, stage] of stagesOf(spec)) {
    if (stage.promotion !== undefined) yield* missingInGate(`${path}.promotion`, stage.promotion);
  }
}

function* missingInGate(path: string, promotion: Promotion): Generator<string> {
  if (promotion.analysis?.onFailure === "Rollback") yield `${path}.analysis.onFailure`;
  for (const member of ["restartGate", "eventGate"] as const) {
    const gate = promotion[member];
    if (gate?.onFailure === "Rollback") yield `${path}.${member}.onFailure`;
    for (const [index, check] of (gate?.checks ?? []).entries())
      if (check.onFailure === "Rollback") yield `${path}.${member}.checks[${index}].onFailure`;
  }
}

function sentence(paths: readonly string[]): string {
  const shown = [...new Set(paths)];
  const listed = shown.slice(0, 10).join(", ");
  const more = shown.length > 10 ? ` and ${shown.length - 10} more` : "";
  return `not part of this build: ${listed}${more}; remove it, or suspend the StageSet with spec.suspend`;
}
