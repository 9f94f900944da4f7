import { hasControl, nameLabel, namespaceLabel } from "../api/keys.ts";
import { describeObject, parseObjectId, type ObjectId } from "../domain/object-id.ts";
import { applyOrder } from "../domain/waves.ts";
import { isKubeError, KubeError } from "../kube/error.ts";
import { isAuthorizationRefusal } from "../kube/refusal.ts";
import { deleteRequest, type ApiResource } from "../kube/request.ts";
import { sendWithRetry } from "../kube/retry.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { inFlight } from "./in-flight.ts";
import { readLive, servedAs, type Target } from "./target.ts";

/** What became of one recorded id. */
export type DeleteOutcome =
  /** Not there any more, or its kind is not. */
  | { readonly kind: "gone" }
  /** Not ours, opted out, or recorded by another StageSet: left alone. */
  | { readonly kind: "released" }
  /**
   * Deletion was asked for; `finalizers` hold it. Also what waits for a custom resource to go first, and what must be
   * found absent once more.
   */
  | { readonly kind: "pending"; readonly finalizers: readonly string[] }
  | { readonly kind: "failed"; readonly class: "authorization" | "credential" | "other"; readonly message: string };

export interface DeleteOptions extends Target {
  /** The StageSet both owner labels must name. */
  readonly owner: { readonly namespace: string; readonly name: string };
  /** `teardown`: custom resources of kinds this stage defines must be gone before the rest is deleted. */
  readonly purpose: "prune" | "teardown";
  /** Another StageSet's inventory for this target records the id. */
  readonly recordedElsewhere: (id: string) => boolean;
  /** False while a write that was sent before may still create what is not there: nothing counts as gone yet. */
  readonly mayForget: () => boolean;
}

interface Entry {
  readonly id: string;
  readonly version: string;
}
type Placed = ObjectId & { readonly entry: Entry };

/** A delete that meets a change is tried again on what is there now. */
const mostConflicts = 5;

/**
 * Deletes what a stage recorded, in reverse apply order, each only if its live labels say it is ours (spec 20 §8.3).
 * An error of one object does not stop the others. The ids that were not reached are `pending`.
 *
 * @throws the credential's error when none can be had
 */
export async function deleteObjects(
  entries: readonly Entry[],
  options: DeleteOptions,
): Promise<ReadonlyMap<string, DeleteOutcome>> {
  const outcomes = new Map<string, DeleteOutcome>();
  const placed: Placed[] = [];
  for (const entry of entries) {
    const id = parseObjectId(entry.id);
    if (id === undefined) outcomes.set(entry.id, { kind: "released" });
    else placed.push({ ...id, entry });
  }
  for (const batch of batches(placed, options.purpose)) {
    const results = await inFlight(batch, options.inFlight, (each) => deleteOne(options, each));
    for (const [index, each] of batch.entries()) outcomes.set(each.entry.id, results[index] ?? waiting);
    const held = options.purpose === "teardown" && results.some((result) => result.kind === "pending");
    if (held) break;
  }
  for (const entry of entries) if (!outcomes.has(entry.id)) outcomes.set(entry.id, waiting);
  return outcomes;
}

const waiting: DeleteOutcome = { kind: "pending", finalizers: [] };

/**
 * Reverse apply order in steps that may each go at once: custom resources whose CRD is deleted too first, then all but
 * what others live in, then namespaces, CRDs and cluster roles (spec 20 §12.5).
 */
function batches(objects: readonly Placed[], purpose: DeleteOptions["purpose"]): readonly (readonly Placed[])[] {
  const reversed = [...applyOrder(objects)].reverse();
  const definedGroups = new Set(
    objects
      .filter((object) => object.kind === "CustomResourceDefinition")
      .map((object) => object.name.slice(object.name.indexOf(".") + 1)),
  );
  const isBase = (object: Placed): boolean =>
    object.kind === "CustomResourceDefinition" || (object.kind === "Namespace" && object.group === "");
  const custom = reversed.filter((object) => definedGroups.has(object.group));
  const base = reversed.filter((object) => !definedGroups.has(object.group) && isBase(object));
  const rest = reversed.filter((object) => !definedGroups.has(object.group) && !isBase(object));
  return (purpose === "teardown" ? [custom, rest, base] : [[...custom, ...rest], base]).filter(
    (batch) => batch.length > 0,
  );
}

async function deleteOne(options: DeleteOptions, object: Placed): Promise<DeleteOutcome> {
  const outcome = await tryDelete(options, object);
  return outcome.kind === "gone" && !options.mayForget() ? waiting : outcome;
}

async function tryDelete(options: DeleteOptions, object: Placed): Promise<DeleteOutcome> {
  try {
    if (options.recordedElsewhere(object.entry.id)) return { kind: "released" };
    const version = object.entry.version === "" ? undefined : object.entry.version;
    const resource =
      (await servedAs(options, { ...object, version })) ?? (await servedAs(options, { ...object, version: undefined }));
    if (resource === undefined) return { kind: "gone" };
    for (let attempt = 0; attempt < mostConflicts; attempt++) {
      const live = await readLive(options, resource, object);
      const verdict = judge(options, live);
      if (verdict !== undefined) return verdict;
      if (live !== undefined && (await sendDelete(options, { object, resource, live })) === "sent") {
        // Most objects without finalizers are gone at once.
        const after = await readLive(options, resource, object);
        if (after === undefined || after.metadata.uid !== live.metadata.uid) return { kind: "gone" };
        return { kind: "pending", finalizers: after.metadata.finalizers ?? [] };
      }
    }
    return waiting;
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    return {
      kind: "failed",
      class: isAuthorizationRefusal(error) ? "authorization" : error.reason === "Unauthorized" ? "credential" : "other",
      message: `Cannot delete ${describeObject(object)}: ${error.message}`,
    };
  }
}

/** What can be said without a delete; undefined: it is ours and is to go. */
function judge(options: DeleteOptions, live: KubeObject | undefined): DeleteOutcome | undefined {
  if (live === undefined) return { kind: "gone" };
  const { labels = {} } = live.metadata;
  const ours = labels[nameLabel] === options.owner.name && labels[namespaceLabel] === options.owner.namespace;
  if (!ours) return { kind: "released" };
  if (hasControl(live.metadata, "neverDelete") || hasControl(live.metadata, "notReconciled"))
    return { kind: "released" };
  if (live.metadata.deletionTimestamp !== undefined)
    return { kind: "pending", finalizers: live.metadata.finalizers ?? [] };
  return undefined;
}

async function sendDelete(
  options: DeleteOptions,
  work: { readonly object: Placed; readonly resource: ApiResource; readonly live: KubeObject },
): Promise<"sent" | "changed"> {
  const { object, resource, live } = work;
  const { uid, resourceVersion } = live.metadata;
  const request = deleteRequest(resource, {
    namespace: resource.namespaced ? object.namespace : undefined,
    name: object.name,
    uid,
    resourceVersion,
    propagation: "Background",
  });
  const { signal, clock, random } = options;
  try {
    await sendWithRetry(options.access.client, request, { signal, clock, random });
    return "sent";
  } catch (error) {
    if (isKubeError(error, "NotFound")) return "sent";
    if (isKubeError(error, "Conflict")) return "changed";
    throw error;
  }
}
