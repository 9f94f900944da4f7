import { hasControl, fieldManager, nameLabel, namespaceLabel } from "../api/keys.ts";
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
import { fingerprintOf, isUntouched, rivalOf, type Fingerprint } from "./fingerprint.ts";
import { inFlight } from "./in-flight.ts";
import { isInvalidAsSuch } from "./probe.ts";
import {
  lacksDryRun,
  mayBeImmutable,
  outlookOf,
  refusalClass,
  refusalText,
  speaksOfImmutability,
  type Outlook,
  type RefusalClass,
} from "./refusal-text.ts";
import { liveObject, readLive, servedAs, type Target } from "./target.ts";
import { withUid } from "./with-uid.ts";

export type { Fingerprint };

/** One object to apply, with what is remembered of its last apply. */
export interface WaveObject {
  readonly object: RenderedObject;
  readonly known: Fingerprint | undefined;
  /** A watch vouches that the live object is as `known` says. */
  readonly vouched?: boolean;
  /** What a look at it just found, with nothing written since that could change it: it is not looked at again. */
  readonly looked?: Look | undefined;
}

/** A StageSet by namespace and name. */
export interface Owner {
  readonly namespace: string;
  readonly name: string;
}

/**
 * What became of an accepted object. `recreated`: it was deleted first, because it could not be changed; `kept`: it exists
 * and is left alone by request; `vouched`: unchanged, by the word of a watch and without a request; `skipped`: it is not
 * looked after by request, or has done its work and is gone.
 */
export interface AppliedObject {
  readonly id: string;
  readonly change: "created" | "configured" | "recreated" | "unchanged" | "kept" | "vouched" | "skipped";
  /** Undefined only for `skipped` and `vouched`. */
  readonly live: KubeObject | undefined;
  readonly fingerprint: Fingerprint | undefined;
  /** Who had changed it before it was written, as far as `managedFields` and the owner labels tell. */
  readonly rival?: string | undefined;
  /** Another StageSet that the labels named before the write: both claim the object. */
  readonly takenFrom?: Owner | undefined;
}

/** An object that is being deleted, to be created anew. */
export interface Recreating {
  readonly id: string;
  /** What it waits for; empty when nothing but time is missing. */
  readonly finalizers: readonly string[];
}

export interface ApplyOptions extends Target {
  readonly policy: ConflictSettings;
  readonly owner: Owner;
  /** `steady`: the same render was accepted before, so what is missing was deleted since. */
  readonly mode: "changed" | "steady";
}

export interface ObjectFailure {
  readonly id: string;
  readonly class: RefusalClass;
  /** Names the object; no Secret's value. */
  readonly message: string;
  readonly op: Extract<StageOperation, "apply" | "conflict policy">;
  readonly outlook: Outlook;
}

export interface ApplyOutcome {
  readonly applied: readonly AppliedObject[];
  readonly failures: readonly ObjectFailure[];
  /** Deleted to be created anew and not gone yet; nothing of the wave was written. */
  readonly recreating: readonly Recreating[];
}

/** A kind that was just defined needs a moment until discovery shows it and requests find it. */
const notServedRetryMs = 200;
const discoveryDelaysMs = [100, 300, 700];
/** How long a deleted object is waited for before the worker is given back. */
const goneWaitMs = 50;

type Written = Extract<AppliedObject["change"], "created" | "configured" | "recreated">;

/** What the look at one object found. */
export type Look =
  | { readonly kind: "settled"; readonly applied: AppliedObject }
  /** `uid`: of the object that is changed; undefined: it is created, or its uid is not known. */
  | {
      readonly kind: "write";
      readonly resource: ApiResource;
      readonly change: Written;
      readonly rival?: string | undefined;
      readonly uid?: string | undefined;
      readonly takenFrom?: Owner | undefined;
    }
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
  options: ApplyOptions,
): Promise<ApplyOutcome> {
  const objects = ranks.flat();
  const looks = new Map<string, Look>();
  const found = await inFlight(objects, options.inFlight, async (each) => each.looked ?? (await look(options, each)));
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
export async function look(options: ApplyOptions, { object, known, vouched }: WaveObject): Promise<Look> {
  if (object.controls.reconcile === "disabled") return skipped(object);
  if (vouched === true && known?.hash === object.hash)
    return { kind: "settled", applied: { id: object.id, change: "vouched", live: undefined, fingerprint: known } };
  const resource = await servedSoon(options, object);
  if (resource === undefined) return notServed(object);
  const decision = conflictDecision(object, options.policy);
  const mayHaveEnded = options.mode === "steady" && object.expires === true;
  if (decision.action === "KeepExisting" || known?.hash === object.hash || mayHaveEnded) {
    const read = await readOrFail(options, resource, object);
    if (read.kind === "failed") return read;
    const { live } = read;
    if (live === undefined && mayHaveEnded) return skipped(object);
    if (live !== undefined && decision.action === "KeepExisting") return settled(object, live, "kept");
    if (live !== undefined && hasControl(live.metadata, "notReconciled")) return settled(object, live, "kept");
    if (live !== undefined && isUntouched(known, object, live)) return settled(object, live, "unchanged");
    return dryRun(options, { object, resource, live: live ?? "absent" });
  }
  // Another manifest than the one we applied to this very object: it is going to be written.
  return dryRun(options, { object, resource, live: "unread", appliedUid: known?.uid });
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
  /** The uid of the object to which this process applied another manifest. */
  readonly appliedUid?: string | undefined;
}

async function dryRun(options: ApplyOptions, work: DryRun): Promise<Look> {
  const { object, resource } = work;
  const outcome = await tryDryRun(options, work);
  if (outcome.kind === "accepted" && outcome.creates) return { kind: "write", resource, change: "created" };
  if (outcome.kind === "refused" && lacksDryRun(outcome.error))
    return { kind: "write", resource, change: "configured" };
  if (outcome.kind === "refused" && !mayBeImmutable(outcome.error)) return refused(object, outcome.error);
  if (outcome.kind === "accepted" && surelyChanges(work, outcome.result))
    return { kind: "write", resource, change: "configured", uid: work.appliedUid };
  const read: Read =
    work.live === "unread"
      ? await readOrFail(options, resource, object)
      : { kind: "read", live: work.live === "absent" ? undefined : work.live };
  if (read.kind === "failed") return read;
  const { live } = read;
  if (live === undefined)
    return outcome.kind === "refused" ? refused(object, outcome.error) : { kind: "write", resource, change: "created" };
  if (hasControl(live.metadata, "notReconciled")) return settled(object, live, "kept");
  if (outcome.kind === "refused") return conflict(options, { object, resource, live }, outcome.error);
  if (live.metadata.deletionTimestamp !== undefined && isNamespace(object)) return goingNamespace(object);
  if (sameContent(outcome.result, live)) return settled(object, live, "unchanged");
  const takenFrom = otherOwner(options, live);
  const rival = takenFrom === undefined ? rivalOf(live) : `StageSet ${takenFrom.namespace}/${takenFrom.name}`;
  return { kind: "write", resource, change: "configured", uid: live.metadata.uid, rival, takenFrom };
}

/** Without a look at the live object: all that counts of it is in the answer to the dry run. */
function surelyChanges({ appliedUid }: DryRun, result: KubeObject): boolean {
  const { uid, deletionTimestamp } = result.metadata;
  return (
    appliedUid !== undefined &&
    uid === appliedUid &&
    deletionTimestamp === undefined &&
    !hasControl(result.metadata, "notReconciled")
  );
}

type DryRunOutcome =
  | { readonly kind: "accepted"; readonly creates: boolean; readonly result: KubeObject }
  | { readonly kind: "refused"; readonly error: KubeError };

async function tryDryRun(options: ApplyOptions, { object, resource }: DryRun): Promise<DryRunOutcome> {
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
  options: ApplyOptions,
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
          live,
          `${refusalText(object, error)}; set conflictPolicy to Recreate or KeepExisting to allow it`,
        )
      : refused(object, error, live);
  if (!immutable && (await isInvalidAsSuch(options, { object, resource }))) return refused(object, error, live);
  if (holdsData(object) && !decision.mayLoseData)
    return policyFailure(
      object,
      live,
      `${refusalText(object, error)}; recreating it would lose data: add a conflictPolicy rule with allowDataLoss: true`,
    );
  return { kind: "recreate", resource, live };
}

/** Deletes what must be created anew; gives what is not gone yet. */
async function removeForRecreation(
  options: ApplyOptions,
  objects: readonly WaveObject[],
  looks: Map<string, Look>,
): Promise<readonly Recreating[]> {
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
    if (now?.metadata.uid === live.metadata.uid) return { id: object.id, finalizers: now?.metadata.finalizers ?? [] };
    looks.set(object.id, { kind: "write", resource, change: "recreated", uid: now?.metadata.uid });
    return undefined;
  });
  return left.flatMap((each) => each ?? []);
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
  options: ApplyOptions,
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
    await inFlight(writes, options.inFlight, async (write) => {
      const written = await writeObject(options, write);
      if ("op" in written) failures.push(written);
      else applied.push(written);
    });
    if (failures.length > 0) break;
  }
  const definesKinds = applied.some(
    ({ live, change }) => live?.kind === "CustomResourceDefinition" && change !== "unchanged" && change !== "kept",
  );
  if (definesKinds) options.access.discovery.invalidate();
  return { applied, failures, recreating: [] };
}

/** Objects accepted before must reach the record, so a refusal is a result. */
async function writeObject(
  options: ApplyOptions,
  write: Extract<Look, { kind: "write" }> & { readonly object: RenderedObject },
): Promise<AppliedObject | ObjectFailure> {
  const { object, resource, change, uid, rival, takenFrom } = write;
  try {
    const live = await sendApply(options, { object, resource, dryRun: false, uid });
    return { id: object.id, change, live, fingerprint: fingerprintOf(object, live), rival, takenFrom };
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    if (uid === undefined || !isAnotherObject(error)) return failureOf(object, error);
  }
  // Deleted, or another one by now: who still may write looks again.
  const again = await look(options, { object, known: undefined });
  if (again.kind === "settled") return again.applied;
  if (again.kind === "failed") return again.failure;
  if (again.kind === "write") return writeObject(options, { ...again, object, uid: undefined });
  const message = `${describeObject(object)}: Conflict: it was changed while it was being applied`;
  return { id: object.id, class: "other", message, op: "apply", outlook: "for now" };
}

/** The answer to an apply that names a uid when no object, or another one, has the name. */
function isAnotherObject(error: KubeError): boolean {
  if (error.reason === "Conflict") return true;
  const causes = error.status?.details?.causes ?? [];
  return error.reason === "Invalid" && causes.some((cause) => cause.field === "metadata.uid");
}

async function sendApply(
  options: Target,
  work: {
    readonly object: RenderedObject;
    readonly resource: ApiResource;
    readonly dryRun: boolean;
    /** Of the one object that may be changed; undefined: whichever has the name, or a new one. */
    readonly uid?: string | undefined;
  },
  onStatus?: (httpStatus: number) => void,
): Promise<KubeObject> {
  const { object, resource } = work;
  const { signal, clock, random } = options;
  const request = applyRequest(resource, {
    namespace: resource.namespaced ? object.namespace : undefined,
    name: object.name,
    body: work.uid === undefined ? object.body : withUid(object.body, work.uid),
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

function skipped({ id }: RenderedObject): Look {
  return { kind: "settled", applied: { id, change: "skipped", live: undefined, fingerprint: undefined } };
}

function settled(object: RenderedObject, live: KubeObject, change: "unchanged" | "kept"): Look {
  const fingerprint = change === "kept" ? undefined : fingerprintOf(object, live);
  return { kind: "settled", applied: { id: object.id, change, live, fingerprint } };
}

function isNamespace({ group, kind }: RenderedObject): boolean {
  return group === "" && kind === "Namespace";
}

/** Nothing can be created in it, and what is in it is going: the release waits until it can be made anew. */
function goingNamespace(object: RenderedObject): Look {
  const message = `${describeObject(object)}: is being deleted and is created anew when it is gone`;
  return { kind: "failed", failure: { id: object.id, class: "other", message, op: "apply", outlook: "for now" } };
}

/** The StageSet the live labels name, when it is another one. */
function otherOwner({ owner }: ApplyOptions, { metadata }: KubeObject): Owner | undefined {
  const { [nameLabel]: name, [namespaceLabel]: namespace } = metadata.labels ?? {};
  if (name === undefined || namespace === undefined) return undefined;
  return name === owner.name && namespace === owner.namespace ? undefined : { namespace, name };
}

function refused(object: RenderedObject, error: KubeError, live?: KubeObject): Look {
  const failure = failureOf(object, error);
  return { kind: "failed", failure: live === undefined ? failure : { ...failure, outlook: inView(live, failure) } };
}

/** What is being deleted makes room for what the manifest wants. */
function inView(live: KubeObject, { outlook }: Pick<ObjectFailure, "outlook">): Outlook {
  return live.metadata.deletionTimestamp === undefined ? outlook : "for now";
}

function failureOf(object: RenderedObject, error: KubeError): ObjectFailure {
  const message = refusalText(object, error);
  return { id: object.id, class: refusalClass(error), message, op: "apply", outlook: outlookOf(error) };
}

function policyFailure(object: RenderedObject, live: KubeObject, message: string): Look {
  const outlook = inView(live, { outlook: "lasting" });
  return { kind: "failed", failure: { id: object.id, class: "invalid", message, op: "conflict policy", outlook } };
}

function notServed(object: RenderedObject): Look {
  const group = object.group === "" ? "the core group" : `group "${object.group}"`;
  const message = `${describeObject(object)}: kind ${object.kind} version "${object.version}" of ${group} is not served: install the CRD`;
  return { kind: "failed", failure: { id: object.id, class: "notServed", message, op: "apply", outlook: "unknown" } };
}

function isConnectionLoss(error: KubeError): boolean {
  return error.reason === "Unreachable" || error.reason === "Unauthorized";
}
