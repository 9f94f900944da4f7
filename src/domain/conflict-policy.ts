import type { Stage } from "../api/stage-set.ts";
import { joinApiVersion } from "../lib/kube-object.ts";
import type { RenderedObject } from "./rendered.ts";

/** What a stage says about immutable conflicts. */
export interface ConflictSettings {
  readonly conflictPolicy: Stage["conflictPolicy"];
  readonly force: boolean;
}

export interface ConflictDecision {
  readonly action: "Fail" | "Recreate" | "KeepExisting";
  /** Deleting a volume loses what is on it: only a matching rule, or the object's own control, may (spec 20 §7.4b). */
  readonly mayLoseData: boolean;
}

type Placed = Pick<RenderedObject, "group" | "version" | "kind" | "namespace" | "name" | "controls">;

/** What to do when an existing object cannot be updated to the manifest (spec 20 §7.1). */
export function conflictDecision(object: Placed, settings: ConflictSettings): ConflictDecision {
  if (object.controls.keepExisting) return { action: "KeepExisting", mayLoseData: false };
  if (object.controls.force) return { action: "Recreate", mayLoseData: true };
  const apiVersion = joinApiVersion(object.group, object.version);
  const rule = settings.conflictPolicy?.rules?.find(
    ({ target }) =>
      matches(target.apiVersion, apiVersion) &&
      matches(target.kind, object.kind) &&
      matches(target.name, object.name) &&
      matches(target.namespace, object.namespace),
  );
  if (rule !== undefined) return { action: rule.action, mayLoseData: rule.allowDataLoss ?? false };
  if (settings.conflictPolicy !== undefined)
    return { action: settings.conflictPolicy.default ?? "Fail", mayLoseData: false };
  return { action: settings.force ? "Recreate" : "Fail", mayLoseData: false };
}

function matches(wanted: string | undefined, actual: string): boolean {
  return wanted === undefined || wanted === "" || wanted === actual;
}

/** Core kinds that hold data. */
export function holdsData({ group, kind }: Pick<Placed, "group" | "kind">): boolean {
  return group === "" && (kind === "PersistentVolumeClaim" || kind === "PersistentVolume");
}
