import { asObject, asText, at } from "../lib/json.ts";
import { splitApiVersion, type KubeObject } from "../lib/kube-object.ts";
import type { SourceRef } from "../api/stage-set.ts";
import { failure, type Failure } from "./failure.ts";

/** What makes an artifact new: a republished digest under an old revision is new too (spec 40 §1). */
export interface ArtifactIdentity {
  readonly revision: string;
  /** Undefined only for what an earlier controller recorded without it: then the revision alone counts. */
  readonly digest: string | undefined;
}

/** Source coordinates of one stage, fixed for a run. */
export interface Pin {
  readonly namespace: string;
  readonly name: string;
  readonly kind: string;
  readonly revision: string;
  readonly digest: string;
  readonly url: string;
  /** The source lives outside the StageSet's namespace: whatever fails about it reads the same (spec 50 §1.4). */
  readonly foreign: boolean;
  /** The sentence to use for any failure when {@link foreign}. */
  readonly foreignSentence: string;
  /** The source's own complaint while it still offers what is deployed (spec 20 §3.5). */
  readonly notReady?: string;
}

/** Equal identities: the revision, and the digest when both are known. */
export function sameIdentity(a: ArtifactIdentity | undefined, b: ArtifactIdentity | undefined): boolean {
  if (a === undefined || b === undefined) return false;
  return a.revision === b.revision && (a.digest === undefined || b.digest === undefined || a.digest === b.digest);
}

export function identityOf(pin: Pin): ArtifactIdentity {
  return { revision: pin.revision, digest: pin.digest };
}

const fluxGroup = "source.toolkit.fluxcd.io";
const directKinds = new Set(["ExternalArtifact", "GitRepository", "OCIRepository", "Bucket"]);

/** Where a stage's artifact is announced: by the named object itself, or by ExternalArtifacts that point back to it. */
export type SourceTarget =
  | {
      readonly mode: "direct";
      readonly kind: string;
      readonly version: string | undefined;
      readonly namespace: string;
      readonly name: string;
    }
  | {
      readonly mode: "producer";
      readonly group: string;
      readonly kind: string;
      readonly namespace: string;
      readonly name: string;
    };

/** Reads a source reference as spec 10 §3 and 50 §1.4 do: only Flux' own group counts as direct. */
export function sourceTarget(ref: SourceRef, ownNamespace: string): SourceTarget | Failure {
  const kind = ref.kind === undefined || ref.kind === "" ? "ExternalArtifact" : ref.kind;
  const namespace = ref.namespace === undefined || ref.namespace === "" ? ownNamespace : ref.namespace;
  const { group, version } = splitApiVersion(ref.apiVersion ?? "");
  const unversioned = ref.apiVersion === undefined || ref.apiVersion === "";
  if (directKinds.has(kind) && (unversioned || group === fluxGroup))
    return { mode: "direct", kind, version: unversioned ? undefined : version, namespace, name: ref.name };
  if (unversioned)
    return failure(
      "InvalidSpec",
      `sourceRef ${kind} "${ref.name}" has no apiVersion: a producer's group identifies its artifacts`,
    );
  return { mode: "producer", group, kind, namespace, name: ref.name };
}

/** The one sentence for every failure about a source or dependency in another namespace (spec 20 §3.7). */
export function foreignSentence(kind: string, name: string, namespace: string): string {
  return `cross-namespace ${kind} "${name}" is not reachable; check the source CR's status in "${namespace}"`;
}

/** The ExternalArtifacts among `candidates` whose back-pointer names the producer (spec 20 §3.3). */
export function artifactsOf(
  producer: Extract<SourceTarget, { mode: "producer" }>,
  candidates: readonly KubeObject[],
): readonly KubeObject[] {
  return candidates.filter((candidate) => {
    const ref = asObject(at(candidate, "spec", "sourceRef"));
    if (ref === undefined) return false;
    const namespace = asText(ref["namespace"]);
    return (
      ref["kind"] === producer.kind &&
      ref["name"] === producer.name &&
      splitApiVersion(asText(ref["apiVersion"]) ?? "").group === producer.group &&
      (namespace === undefined || namespace === producer.namespace)
    );
  });
}

/**
 * The pin a source object offers. `lastApplied` is what the stage runs: a source that turned not ready, still offering
 * exactly that, does not stop drift correction (spec 20 §3.5).
 */
export function pinOf(
  source: KubeObject,
  context: {
    readonly ownNamespace: string;
    /** What the spec names, and so all that a message about another namespace may name. */
    readonly target: Pick<SourceTarget, "kind" | "name">;
    readonly lastApplied: ArtifactIdentity | undefined;
  },
): Pin | Failure {
  const namespace = source.metadata.namespace ?? context.ownNamespace;
  const foreign = namespace !== context.ownNamespace;
  const sentence = foreignSentence(context.target.kind, context.target.name, namespace);
  const artifact = asObject(at(source, "status", "artifact"));
  const url = asText(artifact?.["url"]);
  const digest = asText(artifact?.["digest"]);
  if (url === undefined || digest === undefined)
    return foreign
      ? failure("SourceNotReady", sentence, "retry")
      : failure("ArtifactNotFound", `${source.kind} "${source.metadata.name}" has no artifact yet`);
  const revision = asText(artifact?.["revision"]) ?? digest;
  const pin: Pin = {
    namespace,
    name: source.metadata.name,
    kind: source.kind,
    revision,
    digest,
    url,
    foreign,
    foreignSentence: sentence,
  };
  const complaint = notReadyReason(source);
  if (complaint === undefined) return pin;
  if (sameIdentity(context.lastApplied, identityOf(pin)))
    return {
      ...pin,
      notReady: foreign ? sentence : `${source.kind} "${source.metadata.name}" is not ready: ${complaint}`,
    };
  return failure(
    "SourceNotReady",
    foreign ? sentence : `${source.kind} "${source.metadata.name}" is not ready: ${complaint}`,
    "retry",
  );
}

function notReadyReason(source: KubeObject): string | undefined {
  const conditions = at(source, "status", "conditions");
  const ready = Array.isArray(conditions)
    ? conditions.map(asObject).find((condition) => condition?.["type"] === "Ready")
    : undefined;
  if (ready === undefined) return "it reports no Ready condition";
  if (ready["status"] === "True") return undefined;
  const reason = asText(ready["reason"]) ?? "no reason";
  const message = asText(ready["message"]);
  return message === undefined ? reason : `${reason}: ${message}`;
}

/**
 * Keys of `lastAttemptedRevisions` and `lastAppliedRevisions`: `<namespace>/<name>`, with `/<Kind>` where two stages
 * resolve to different kinds under one name (spec 10 §5).
 */
export function revisionKeys(pins: readonly Pin[]): readonly string[] {
  const kinds = new Map<string, Set<string>>();
  for (const pin of pins) {
    const name = `${pin.namespace}/${pin.name}`;
    kinds.set(name, (kinds.get(name) ?? new Set()).add(pin.kind));
  }
  return pins.map((pin) => {
    const name = `${pin.namespace}/${pin.name}`;
    return (kinds.get(name)?.size ?? 1) > 1 ? `${name}/${pin.kind}` : name;
  });
}
