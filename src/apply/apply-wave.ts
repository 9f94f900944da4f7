import { hasControl, fieldManager } from "../api/keys.ts";
import { conflictDecision, holdsData, type ConflictSettings } from "../domain/conflict-policy.ts";
import type { StageOperation } from "../domain/failure.ts";
import { describeObject } from "../domain/object-id.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import { isKubeError, KubeError } from "../kube/error.ts";
import { applyRequest, deleteRequest, type ApiResource } from "../kube/request.ts";
import { sendWithRetry } from "../kube/retry.ts";
import { sleep } from "../lib/clock.ts";
import { deepEqual } from "../lib/equal.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { fingerprintOf, isUntouched, type Fingerprint } from "./fingerprint.ts";
import { inFlight } from "./in-flight.ts";
import { isInvalidAsSuch } from "./probe.ts";
import {
  lacksDryRun,
  mayBeImmutable,
  refusalClass,
  refusalText,
  speaksOfImmutability,
  type RefusalClass,
} from "./refusal-text.ts";
import { liveObject, readLive, servedAs, type Target } from "./target.ts";

export type { Fingerprint };

/** One object to apply, with what is remembered of its last apply. */
export interface WaveObject {
  readonly object: RenderedObject;
  readonly known: Fingerprint | undefined;
}

/** What became of an accepted object. `kept`: it exists and is left alone by request. */
export interface AppliedObject {
  readonly id: string;
  readonly change: "created" | "configured" | "unchanged" | "kept" | "skipped";
  /** Undefined only for `skipped`. */
  readonly live: KubeObject | undefined;
  readonly fingerprint: Fingerprint | undefined;
}

export interface ObjectFailure {
  readonly id: string;
  readonly class: RefusalClass;
  /** Names the object; no Secret's value. */
  readonly message: string;
  readonly op: Extract<StageOperation, "apply" | "conflict policy">;
}

export interface ApplyOutcome {
  readonly applied: readonly AppliedObject[];
  readonly failures: readonly ObjectFailure[];
  /** Deleted to be created anew and not gone yet; nothing of the wave was written. */
  readonly recreating: readonly string[];
}

/** A kind that was just defined needs a moment until discovery shows it and requests find it. */
const notServedRetryMs = 200;
const discoveryDelaysMs = [100, 300, 700];
/** How long a deleted object is waited for before the worker is given back. */
const goneWaitMs = 50;

/** What the look at one object found. */
type Look =
  | { readonly kind: "settled"; readonly applied: AppliedObject }
  | { readonly kind: "write"; readonly resource: ApiResource; readonly exists: boolean }
  | { readonly kind: "recreate"; readonly resource: ApiResource; readonly live: KubeObject }
  | { readonly kind: "failed"; readonly failure: ObjectFailure };

/**
 * Applies one wave with server-side apply: every object that may have changed is dry-run first, and only if all are
 * accepted is any written, rank after rank (spec 20 §6.2). What was written before an error is in the outcome.
 *
 * @throws {KubeError} lost connections and refusals that are about no single object
 */
export async function applyWave(
  ranks: readonly (readonly WaveObject[])[],
  options: Target & { readonly policy: ConflictSettings },
): Promise<ApplyOutcome> {
  const objects = ranks.flat();
  const looks = new Map<string, Look>();
  const found = await inFlight(objects, options.inFlight, (each) => look(options, each));
  for (const [index, each] of objects.entries()) {
    const result = found[index];
    if (result !== undefined) looks.set(each.object.id, result);
  }
  const settled = found.flatMap((each) => (each.kind === "settled" ? [each.applied] : []));
  const failures = found.flatMap((each) => (each.kind === "failed" ? [each.failure] : []));
  if (failures.length > 0) return { applied: settled, failures, recreating: [] };
  const recreating = await removeForRecreation(options, objects, looks);
  if (recreating.length > 0) return { applied: settled, failures: [], recreating };
  return writeRanks(options, { ranks, looks, settled });
}

/** Finds out what one object needs, without writing. */
async function look(options: Parameters<typeof applyWave>[1], { object, known }: WaveObject): Promise<Look> {
  if (object.controls.reconcile === "disabled")
    return { kind: "settled", applied: { id: object.id, change: "skipped", live: undefined, fingerprint: undefined } };
  const resource = await servedSoon(options, object);
  if (resource === undefined) return notServed(object);
  const decision = conflictDecision(object, options.policy);
  if (decision.action === "KeepExisting" || known?.hash === object.hash) {
    const read = await readOrFail(options, resource, object);
    if (read.kind === "failed") return read;
    const { live } = read;
    if (live !== undefined && decision.action === "KeepExisting") return settled(object, live, "kept");
    if (live !== undefined && hasControl(live.metadata, "notReconciled")) return settled(object, live, "kept");
    if (live !== undefined && isUntouched(known, object, live)) return settled(object, live, "unchanged");
    return dryRun(options, { object, resource, live: live ?? "absent" });
  }
  return dryRun(options, { object, resource, live: "unread" });
}

/** How the target serves the object's kind, looked for anew for about a second. */
async function servedSoon(options: Target, object: RenderedObject): Promise<ApiResource | undefined> {
  for (const delayMs of discoveryDelaysMs) {
    const resource = await servedAs(options, object);
    if (resource !== undefined) return resource;
    await sleep(options.clock, delayMs, options.signal);
    options.access.discovery.invalidate();
  }
  return servedAs(options, object);
}

interface DryRun {
  readonly object: RenderedObject;
  readonly resource: ApiResource;
  readonly live: KubeObject | "absent" | "unread";
}

async function dryRun(options: Parameters<typeof applyWave>[1], work: DryRun): Promise<Look> {
  const { object, resource } = work;
  const outcome = await tryDryRun(options, work);
  if (outcome.kind === "accepted" && outcome.creates) return { kind: "write", resource, exists: false };
  if (outcome.kind === "refused" && lacksDryRun(outcome.error)) return { kind: "write", resource, exists: true };
  if (outcome.kind === "refused" && !mayBeImmutable(outcome.error)) return refused(object, outcome.error);
  const read: Read =
    work.live === "unread"
      ? await readOrFail(options, resource, object)
      : { kind: "read", live: work.live === "absent" ? undefined : work.live };
  if (read.kind === "failed") return read;
  const { live } = read;
  if (live === undefined)
    return outcome.kind === "refused" ? refused(object, outcome.error) : { kind: "write", resource, exists: false };
  if (hasControl(live.metadata, "notReconciled")) return settled(object, live, "kept");
  if (outcome.kind === "refused") return conflict(options, { object, resource, live }, outcome.error);
  if (live.metadata.deletionTimestamp === undefined && sameContent(outcome.result, live))
    return settled(object, live, "unchanged");
  return { kind: "write", resource, exists: true };
}

type DryRunOutcome =
  | { readonly kind: "accepted"; readonly creates: boolean; readonly result: KubeObject }
  | { readonly kind: "refused"; readonly error: KubeError };

async function tryDryRun(
  options: Parameters<typeof applyWave>[1],
  { object, resource }: DryRun,
): Promise<DryRunOutcome> {
  for (let attempt = 0; ; attempt++) {
    try {
      let httpStatus = 0;
      const result = await sendApply(options, { object, resource, dryRun: true }, (status) => (httpStatus = status));
      return { kind: "accepted", creates: httpStatus === 201, result };
    } catch (error) {
      if (!(error instanceof KubeError) || isConnectionLoss(error)) throw error;
      if (error.reason !== "NotServed" || attempt > 0) return { kind: "refused", error };
      options.access.discovery.invalidate();
      await sleep(options.clock, notServedRetryMs, options.signal);
    }
  }
}

/** What a refused update of an existing object comes to (spec 20 §7). */
async function conflict(
  options: Parameters<typeof applyWave>[1],
  {
    object,
    resource,
    live,
  }: { readonly object: RenderedObject; readonly resource: ApiResource; readonly live: KubeObject },
  error: KubeError,
): Promise<Look> {
  const decision = conflictDecision(object, options.policy);
  const immutable = speaksOfImmutability(error);
  if (live.metadata.deletionTimestamp !== undefined && decision.action === "Recreate")
    return { kind: "recreate", resource, live };
  if (decision.action !== "Recreate")
    return immutable
      ? policyFailure(
          object,
          `${refusalText(object, error)}; set conflictPolicy to Recreate or KeepExisting to allow it`,
        )
      : refused(object, error);
  if (!immutable && (await isInvalidAsSuch(options, { object, resource }))) return refused(object, error);
  if (holdsData(object) && !decision.mayLoseData)
    return policyFailure(
      object,
      `${refusalText(object, error)}; recreating it would lose data: add a conflictPolicy rule with allowDataLoss: true`,
    );
  return { kind: "recreate", resource, live };
}

/** Deletes what must be created anew; gives the ids that are not gone yet. */
async function removeForRecreation(
  options: Parameters<typeof applyWave>[1],
  objects: readonly WaveObject[],
  looks: Map<string, Look>,
): Promise<readonly string[]> {
  const recreated = objects.flatMap(({ object }) => {
    const found = looks.get(object.id);
    return found?.kind === "recreate" ? [{ object, ...found }] : [];
  });
  const left = await inFlight(recreated, options.inFlight, async ({ object, resource, live }) => {
    if (live.metadata.deletionTimestamp === undefined) await sendDelete(options, { object, resource, live });
    let now = await readLive(options, resource, object);
    if (now?.metadata.uid === live.metadata.uid) {
      await sleep(options.clock, goneWaitMs, options.signal);
      now = await readLive(options, resource, object);
    }
    if (now?.metadata.uid === live.metadata.uid) return object.id;
    looks.set(object.id, { kind: "write", resource, exists: now !== undefined });
    return undefined;
  });
  return left.flatMap((id) => id ?? []);
}

async function sendDelete(
  options: Target,
  {
    object,
    resource,
    live,
  }: { readonly object: RenderedObject; readonly resource: ApiResource; readonly live: KubeObject },
): Promise<void> {
  const { signal, clock, random } = options;
  const { namespace, name } = object;
  const { uid } = live.metadata;
  const request = deleteRequest(resource, {
    namespace: resource.namespaced ? namespace : undefined,
    name,
    uid,
    propagation: "Background",
  });
  try {
    await sendWithRetry(options.access.client, request, { signal, clock, random });
  } catch (error) {
    // Gone, or another object by now: the next look decides.
    if (!isKubeError(error, "NotFound", "Conflict")) throw error;
  }
}

async function writeRanks(
  options: Parameters<typeof applyWave>[1],
  wave: {
    readonly ranks: readonly (readonly WaveObject[])[];
    readonly looks: ReadonlyMap<string, Look>;
    readonly settled: readonly AppliedObject[];
  },
): Promise<ApplyOutcome> {
  const applied: AppliedObject[] = [...wave.settled];
  const failures: ObjectFailure[] = [];
  for (const rank of wave.ranks) {
    const writes = rank.flatMap(({ object }) => {
      const found = wave.looks.get(object.id);
      return found?.kind === "write" ? [{ object, ...found }] : [];
    });
    await inFlight(writes, options.inFlight, async ({ object, resource, exists }) => {
      try {
        const live = await sendApply(options, { object, resource, dryRun: false });
        const change = exists ? "configured" : "created";
        applied.push({ id: object.id, change, live, fingerprint: fingerprintOf(object, live) });
      } catch (error) {
        // Objects accepted before must reach the record, so a refusal is a result.
        if (!(error instanceof KubeError)) throw error;
        failures.push(failureOf(object, error));
      }
    });
    if (failures.length > 0) break;
  }
  const definesKinds = applied.some(
    ({ live, change }) =>
      live?.kind === "CustomResourceDefinition" && (change === "created" || change === "configured"),
  );
  if (definesKinds) options.access.discovery.invalidate();
  return { applied, failures, recreating: [] };
}

async function sendApply(
  options: Target,
  work: { readonly object: RenderedObject; readonly resource: ApiResource; readonly dryRun: boolean },
  onStatus?: (httpStatus: number) => void,
): Promise<KubeObject> {
  const { object, resource } = work;
  const { signal, clock, random } = options;
  const request = applyRequest(resource, {
    namespace: resource.namespaced ? object.namespace : undefined,
    name: object.name,
    body: object.body,
    fieldManager,
    force: true,
    ...(work.dryRun ? { dryRun: true } : {}),
  });
  return liveObject(
    await sendWithRetry(options.access.client, request, {
      signal,
      clock,
      random,
      onAnswer: ({ httpStatus }) => onStatus?.(httpStatus),
    }),
  );
}

type Read =
  | { readonly kind: "read"; readonly live: KubeObject | undefined }
  | { readonly kind: "failed"; readonly failure: ObjectFailure };

async function readOrFail(options: Target, resource: ApiResource, object: RenderedObject): Promise<Read> {
  try {
    return { kind: "read", live: await readLive(options, resource, object) };
  } catch (error) {
    if (!(error instanceof KubeError) || isConnectionLoss(error)) throw error;
    return { kind: "failed", failure: failureOf(object, error) };
  }
}

/** Equal but for what the server alone writes (spec 20 §6.3). */
function sameContent(result: KubeObject, live: KubeObject): boolean {
  const { metadata, status: _status, ...rest } = result;
  const { metadata: liveMetadata, status: _liveStatus, ...liveRest } = live;
  return (
    deepEqual(rest, liveRest) &&
    deepEqual(metadata.labels ?? {}, liveMetadata.labels ?? {}) &&
    deepEqual(metadata.annotations ?? {}, liveMetadata.annotations ?? {}) &&
    deepEqual(metadata.ownerReferences ?? [], liveMetadata.ownerReferences ?? []) &&
    deepEqual(metadata.finalizers ?? [], liveMetadata.finalizers ?? [])
  );
}

function settled(object: RenderedObject, live: KubeObject, change: "unchanged" | "kept"): Look {
  const fingerprint = change === "kept" ? undefined : fingerprintOf(object, live);
  return { kind: "settled", applied: { id: object.id, change, live, fingerprint } };
}

function refused(object: RenderedObject, error: KubeError): Look {
  return { kind: "failed", failure: failureOf(object, error) };
}

function failureOf(object: RenderedObject, error: KubeError): ObjectFailure {
  return { id: object.id, class: refusalClass(error), message: refusalText(object, error), op: "apply" };
}

function policyFailure(object: RenderedObject, message: string): Look {
  return { kind: "failed", failure: { id: object.id, class: "invalid", message, op: "conflict policy" } };
}

function notServed(object: RenderedObject): Look {
  const group = object.group === "" ? "the core group" : `group "${object.group}"`;
  const message = `${describeObject(object)}: kind ${object.kind} version "${object.version}" of ${group} is not served: install the CRD`;
  return { kind: "failed", failure: { id: object.id, class: "notServed", message, op: "apply" } };
}

function isConnectionLoss(error: KubeError): boolean {
  return error.reason === "Unreachable" || error.reason === "Unauthorized";
}
