import { describeObject } from "../../domain/object-id.ts";
import type { Effect } from "../../domain/pass/step.ts";
import type { Pass } from "../pass.ts";

type ApplyEffect = Extract<Effect, { kind: "apply" }>;

/** One `HelmHookApplied` per stage and revision (spec 20 §5.4). */
export function sayHooks(pass: Pass, effect: ApplyEffect): void {
  const hooks = effect.objects.filter((object) => object.helmHook);
  if (hooks.length === 0) return;
  pass.report.event({
    type: "Warning",
    reason: "HelmHookApplied",
    // The revision tells it from the Event of another one, which would count as a repetition.
    note: `stage "${effect.stage}" of revision "${effect.identity.revision}" applies Helm hooks like any other object: ${hooks.map(describeObject).join(", ")}`,
    once: `helm-hook ${effect.stage} ${effect.identity.revision}`,
  });
}

/** One `AnnotationIgnored` per control whose value means nothing (spec 10 §11). */
export function sayIgnoredControls(pass: Pass, effect: ApplyEffect): void {
  for (const object of effect.objects)
    for (const control of object.controls.ignored)
      pass.report.event({
        type: "Warning",
        reason: "AnnotationIgnored",
        note: `${describeObject(object)} of stage "${effect.stage}": ${control} has a value that is not accepted`,
        once: `control ${object.id} ${control}`,
      });
}
