import { parseStageSet, type StageSet } from "../api/stage-set.ts";
import type { Snapshot } from "../domain/pass/state.ts";
import { validateStored } from "../domain/validation/validate-stored.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { statusOf } from "./journal.ts";

export interface SnapshotOptions {
  readonly crossNamespace: "allowed" | "refused";
  readonly allowLoopback: boolean;
}

/** The spec one pass works on; parsed once per generation. */
export function takeSnapshot(object: KubeObject, options: SnapshotOptions): Snapshot {
  const { metadata } = object;
  const base = {
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    uid: metadata.uid ?? "",
    generation: metadata.generation ?? 0,
    deletedAt: metadata.deletionTimestamp === undefined ? undefined : Date.parse(metadata.deletionTimestamp),
    annotations: metadata.annotations ?? {},
    stored: statusOf(object),
  };
  const parsed = parseStageSet(object);
  return {
    ...base,
    // Suspension and teardown go by what can be read of an invalid spec: a typo must not undo `prune: false`.
    spec: parsed.kind === "valid" ? parsed.value.spec : parsed.readable?.spec,
    invalid: validateStored(object, options),
  };
}

export type { StageSet };
