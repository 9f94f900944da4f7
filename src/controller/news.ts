import { stageSetAnnotations } from "../api/keys.ts";
import type { Cause } from "../domain/pass/state.ts";
import { deepEqual } from "../lib/equal.ts";
import { asArray, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";

/** Why a change of a StageSet is a reason to run it; undefined for status, labels and other metadata (spec 20 §1). */
export function causeOfChange(now: KubeObject, before: KubeObject | undefined): Cause | undefined {
  if (before === undefined || before.metadata.uid !== now.metadata.uid) return "spec";
  if (before.metadata.generation !== now.metadata.generation) return "spec";
  if (before.metadata.deletionTimestamp !== now.metadata.deletionTimestamp) return "spec";
  const changed = stageSetAnnotations.some(
    (key) => before.metadata.annotations?.[key] !== now.metadata.annotations?.[key],
  );
  return changed ? "annotation" : undefined;
}

/** Whether what dependents look at has changed (spec 20 §1). */
export function isNewsForDependents(now: KubeObject, before: KubeObject | undefined): boolean {
  return before === undefined || !deepEqual(dependencyFields(now), dependencyFields(before));
}

function dependencyFields(stageSet: KubeObject): unknown {
  const ready = asArray(at(stageSet, "status", "conditions")).find((each) => at(each, "type") === "Ready");
  return [
    stageSet.metadata.uid,
    stageSet.metadata.generation,
    at(stageSet, "spec", "dependsOn"),
    at(ready, "status"),
    at(stageSet, "status", "observedGeneration"),
    at(stageSet, "status", "version"),
    at(stageSet, "status", "pendingUpdate"),
    at(stageSet, "status", "budgetFreeze"),
  ];
}
