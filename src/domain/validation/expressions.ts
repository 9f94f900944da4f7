import type { StageSetSpec } from "../../api/stage-set.ts";
import { inside, type Place } from "./finding.ts";
import { allActions, stagesOf } from "./places.ts";

/** Every CEL expression of the spec, for V13 and V28: compiling takes more than the rules have. Empty ones count as unset. */
export function* expressionsOf(spec: StageSetSpec): Generator<readonly [Place, string]> {
  for (const [place, { readyChecks }] of stagesOf(spec))
    for (const [index, rule] of (readyChecks?.exprs ?? []).entries())
      for (const member of ["current", "inProgress", "failed"] as const) {
        const text = rule[member] ?? "";
        if (text !== "") yield [inside(inside(inside(place, "readyChecks.exprs"), `[${index}]`), member), text];
      }
  for (const [place, { wait }] of allActions(spec)) {
    const text = wait?.expr ?? "";
    if (text !== "") yield [inside(place, "wait.expr"), text];
  }
}
