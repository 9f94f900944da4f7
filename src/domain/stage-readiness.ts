import type { SourceRef } from "../api/stage-set.ts";
import { asArray, asObject, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { sourceTarget, type SourceTarget } from "./pins.ts";

/** Why a stage is not ready, the first row of spec 40 §8.1 that does not hold. */
export type ClosedReason =
  "NotFound" | "Deleting" | "Suspended" | "SpecPending" | "RolledBack" | "Blocked" | "NotReady" | "RevisionPending";

/**
 * Whether one stage is Ready at the observed generation and the pinned revision: the one definition for gate, gauge,
 * engine and command line. `revision` is what is applied; it and `phase` are absent while the stage has none.
 */
export type StageReadiness = {
  readonly phase: string | undefined;
  readonly revision: string | undefined;
} & ({ readonly kind: "ready" } | { readonly kind: "closed"; readonly reason: ClosedReason });

/** What is known of a stage's source: the object it resolves to, or that it resolves to none or to several. */
export type SourceLookup = (target: SourceTarget) => KubeObject | undefined;

/** Judges what a watch or a read showed; `stageSet` is undefined when there is none in scope. */
export function stageReadiness(
  stageSet: KubeObject | undefined,
  stageName: string,
  sourceOf: SourceLookup,
): StageReadiness {
  const stage = specStage(stageSet, stageName);
  if (stageSet === undefined || stage === undefined)
    return { kind: "closed", reason: "NotFound", phase: undefined, revision: undefined };
  const entry = statusEntry(stageSet, stageName);
  const known = { phase: asText(entry?.["phase"]), revision: asText(entry?.["appliedRevision"]) };
  const reason = closedReason(stageSet, entry) ?? revisionReason(stageSet, { stage, entry, sourceOf });
  return reason === undefined ? { kind: "ready", ...known } : { kind: "closed", reason, ...known };
}

/** Names of the stages in `spec.stages`, whatever else is stored. */
export function stageNames(stageSet: KubeObject): readonly string[] {
  return asArray(at(stageSet, "spec", "stages")).flatMap((stage) => asText(at(stage, "name")) ?? []);
}

/** The source a stage refers to; undefined when the reference is malformed. */
export function stageSource(stageSet: KubeObject, stageName: string): SourceTarget | undefined {
  const stage = specStage(stageSet, stageName);
  return stage === undefined ? undefined : targetOf(stageSet, stage);
}

type Fields = Readonly<Record<string, unknown>>;

function specStage(stageSet: KubeObject | undefined, name: string): Fields | undefined {
  return asArray(at(stageSet, "spec", "stages"))
    .map(asObject)
    .find((stage) => stage?.["name"] === name);
}

function statusEntry(stageSet: KubeObject, name: string): Fields | undefined {
  return asArray(at(stageSet, "status", "stages"))
    .map(asObject)
    .find((stage) => stage?.["name"] === name);
}

function closedReason(stageSet: KubeObject, entry: Fields | undefined): ClosedReason | undefined {
  if (stageSet.metadata.deletionTimestamp !== undefined) return "Deleting";
  if (at(stageSet, "spec", "suspend") === true) return "Suspended";
  if (at(stageSet, "status", "observedGeneration") !== stageSet.metadata.generation) return "SpecPending";
  if (at(stageSet, "status", "rollback", "phase") === "InProgress") return "RolledBack";
  if (asText(at(entry, "promotionState", "abortedRevision")) !== undefined) return "RolledBack";
  if (at(entry, "promotionState", "phase") === "Blocked") return "Blocked";
  return entry?.["phase"] === "Ready" ? undefined : "NotReady";
}

/** Row 7: what the source offers now is what was pinned, and what was applied. */
function revisionReason(
  stageSet: KubeObject,
  {
    stage,
    entry,
    sourceOf,
  }: { readonly stage: Fields; readonly entry: Fields | undefined; readonly sourceOf: SourceLookup },
): ClosedReason | undefined {
  const target = targetOf(stageSet, stage);
  const source = target === undefined ? undefined : sourceOf(target);
  const digest = asText(at(source, "status", "artifact", "digest"));
  const revision = asText(at(source, "status", "artifact", "revision")) ?? digest;
  if (source === undefined || revision === undefined) return "RevisionPending";
  const applied = asText(entry?.["appliedRevision"]);
  const appliedDigest = asText(entry?.["appliedDigest"]);
  const name = `${source.metadata.namespace ?? ""}/${source.metadata.name}`;
  const attempted = asObject(at(stageSet, "status", "lastAttemptedRevisions")) ?? {};
  const pinned = attempted[`${name}/${source.kind}`] ?? attempted[name];
  const same = revision === applied && revision === pinned;
  return same && (appliedDigest === undefined || appliedDigest === digest) ? undefined : "RevisionPending";
}

function targetOf(stageSet: KubeObject, stage: Fields): SourceTarget | undefined {
  const ref = asObject(stage["sourceRef"]);
  const name = asText(ref?.["name"]);
  if (ref === undefined || name === undefined) return undefined;
  const apiVersion = asText(ref["apiVersion"]);
  const kind = asText(ref["kind"]);
  const namespace = asText(ref["namespace"]);
  const reference: SourceRef = {
    name,
    ...(apiVersion === undefined ? {} : { apiVersion }),
    ...(kind === undefined ? {} : { kind }),
    ...(namespace === undefined ? {} : { namespace }),
  };
  const target = sourceTarget(reference, stageSet.metadata.namespace ?? "");
  return "mode" in target ? target : undefined;
}
