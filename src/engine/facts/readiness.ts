import type { Stage } from "../../api/stage-set.ts";
import { describeObject, renderObjectId, type ObjectId } from "../../domain/object-id.ts";
import { stageIdentity } from "../../domain/pass/plan.ts";
import { withCause } from "../../domain/pass/waiting-for.ts";
import type { Fact, FactKey, ReadinessFact, Waiting } from "../../domain/pass/state.ts";
import { sameIdentity } from "../../domain/pins.ts";
import { expired, type Readiness } from "../../domain/readiness/readiness.ts";
import { splitApiVersion, type KubeObject } from "../../lib/kube-object.ts";
import type { Access } from "../../identity/access.ts";
import { IdentityError } from "../../identity/identity-error.ts";
import { KubeError } from "../../kube/error.ts";
import { getRequest, type ApiResource } from "../../kube/request.ts";
import { isAuthorizationRefusal } from "../../kube/refusal.ts";
import type { Awaited } from "../awaited.ts";
import type { Looked, Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";
import { asKubeObject } from "../kube-answer.ts";
import type { Followed } from "../observer.ts";
import { waitsForFirstConsumer } from "./storage-class.ts";
import { accessOf } from "./connection.ts";
import { explain, type Causes, type Judged } from "./explain.ts";
import { judgeExpressions } from "./ready-expressions.ts";

type ReadinessKey = Extract<FactKey, { kind: "readiness" }>;

/** A state older than this is read again unless a watch vouches for it, ms; half the promise of spec 20 §9.6. */
const freshMs = 900;

/** Judges everything a stage waits for together (spec 20 §9.1). */
export async function readReadiness(engine: Engine, pass: Pass, key: ReadinessKey, signal: AbortSignal): Promise<Fact> {
  const { spec } = pass.snapshot;
  const stage = spec?.stages.find((candidate) => candidate.name === key.stage);
  if (spec === undefined || stage === undefined) throw new RangeError(`no stage "${key.stage}" to look at`);
  const as = stageIdentity(spec, stage, engine.options.defaultServiceAccount);
  const access = await accessOf(engine, pass, as, signal);
  const lookedAt = engine.clock.monotonic();
  const awaited = await awaitedOf(engine, pass, { stage, key, access }, signal);
  const known: Looked = { access, awaited, explained: [], lookedAt };
  pass.looked.set(stage.name, known);
  // Ticks look at the same while the stage is held at its gate.
  if (stage.promotion === undefined) pass.session.awaited.delete(stage.name);
  else pass.session.awaited.set(stage.name, { identity: key.identity, awaited: awaited.map(withoutBody) });
  const { looked, expressions } = await lookAtAll(engine, pass, { stage, access, awaited }, signal);
  const readiness = verdict(looked, expressions);
  if (readiness.kind === "ready") return { kind: "readiness", readiness };
  const troubled = looked.filter(({ each, seen }) => each.waitFor && seen.readiness.status !== "Current");
  const { causes, workloads } = await explain(engine, pass, { spec, stage, access, troubled }, signal);
  known.explained = workloads;
  return { kind: "readiness", readiness: verdict(looked, expressions, causes) };
}

/** Looks again at what the last full pass waited for; nothing when there was none (spec 40 §5, ticks). */
export async function readHealth(
  engine: Engine,
  pass: Pass,
  key: Extract<FactKey, { kind: "health" }>,
  signal: AbortSignal,
): Promise<Fact> {
  const { spec } = pass.snapshot;
  const stage = spec?.stages.find((candidate) => candidate.name === key.stage);
  const known = pass.session.awaited.get(key.stage);
  if (spec === undefined || stage === undefined || !sameIdentity(known?.identity, key.identity) || known === undefined)
    return { kind: "health", readiness: undefined };
  try {
    const as = stageIdentity(spec, stage, engine.options.defaultServiceAccount);
    const access = await accessOf(engine, pass, as, signal);
    const { looked, expressions } = await lookAtAll(engine, pass, { stage, access, awaited: known.awaited }, signal);
    return { kind: "health", readiness: verdict(looked, expressions) };
  } catch (error) {
    // A full pass says what is wrong.
    if (error instanceof KubeError || error instanceof IdentityError) return { kind: "health", readiness: undefined };
    throw error;
  }
}

function withoutBody(awaited: Awaited): Awaited {
  const { group, kind, namespace, name } = awaited.id;
  return { ...awaited, id: { group, kind, namespace, name } };
}

async function lookAtAll(
  engine: Engine,
  pass: Pass,
  { stage, access, awaited }: { readonly stage: Stage; readonly access: Access; readonly awaited: readonly Awaited[] },
  signal: AbortSignal,
): Promise<{ readonly looked: readonly Judged[]; readonly expressions: Parameters<typeof verdict>[1] }> {
  const looked = await Promise.all(
    awaited.map(async (each) => ({ each, seen: await look(engine, pass, { access, awaited: each }, signal) })),
  );
  const rules = stage.readyChecks?.exprs ?? [];
  const expressions = await judgeExpressions(engine.cel, {
    rules,
    objects: looked.flatMap(({ each, seen }) => (each.expressed && seen.object !== undefined ? [seen.object] : [])),
    queue: pass.key.namespace,
    signal,
  });
  return { looked, expressions };
}

const unexplained: Causes = new Map();

function verdict(
  looked: readonly Judged[],
  expressions: { readonly failed: string | undefined; readonly waiting: readonly Waiting[]; readonly stuck: boolean },
  causes = unexplained,
): ReadinessFact {
  const counted = looked.filter(({ each }) => each.waitFor);
  const failed = counted.find(({ seen }) => seen.readiness.status === "Failed");
  if (failed !== undefined)
    return {
      kind: "failed",
      cause: `${describeObject(failed.each.id)} is Failed: ${withCause({ message: failed.seen.readiness.message, cause: causes.get(failed.each) })}`,
      authorization: false,
    };
  if (expressions.failed !== undefined) return { kind: "failed", cause: expressions.failed, authorization: false };
  const objects = counted
    .filter(({ seen }) => seen.readiness.status !== "Current")
    .map(({ each, seen }) => ({
      kind: each.id.kind,
      namespace: each.id.namespace,
      name: each.id.name,
      status: seen.readiness.status,
      message: seen.readiness.message,
      cause: causes.get(each),
    }));
  const waiting = [...objects, ...expressions.waiting];
  return waiting.length === 0 ? { kind: "ready" } : { kind: "waiting", objects: waiting, stuck: expressions.stuck };
}

/** Applied and kept objects, `checks`, and whatever expressions are about. */
async function awaitedOf(
  engine: Engine,
  pass: Pass,
  { stage, key, access }: { readonly stage: Stage; readonly key: ReadinessKey; readonly access: Access },
  signal: AbortSignal,
): Promise<readonly Awaited[]> {
  const kinds = expressedKinds(stage);
  const expressed = (id: ObjectId): boolean => kinds.has(`${id.group}/${id.kind}`);
  const render = renderOf(pass, key);
  // By id: an object that is applied and checked is read once.
  const awaited = new Map<string, Awaited>();
  for (const object of render) {
    if (object.controls.reconcile === "disabled") continue;
    const waitFor = stage.readyChecks?.disableWait !== true;
    if (!waitFor && !expressed(object)) continue;
    const { version, expires = false } = object;
    const known = { version, waitFor, rendered: true, expressed: expressed(object), expires };
    awaited.set(renderObjectId(object), { id: object, ...known });
  }
  for (const check of stage.readyChecks?.checks ?? []) {
    const id = await checkId(engine, pass, { check, access }, signal);
    const unsaid = { rendered: false, expressed: expressed(id.id), expires: false };
    const applied = awaited.get(renderObjectId(id.id));
    awaited.set(renderObjectId(id.id), { ...(applied ?? { ...id, ...unsaid }), waitFor: true });
  }
  return [...awaited.values()];
}

/** Kinds that expressions of the stage are about, as `<group>/<kind>`. */
export function expressedKinds(stage: Stage): ReadonlySet<string> {
  const rules = stage.readyChecks?.exprs ?? [];
  return new Set(rules.map((rule) => `${splitApiVersion(rule.apiVersion).group}/${rule.kind}`));
}

function renderOf(pass: Pass, key: ReadinessKey): readonly (ObjectId & RenderedFields)[] {
  const name = ` ${key.stage} ${key.identity.revision} ${key.identity.digest ?? ""}`;
  const fact = pass.facts.get(`render stage${name}`) ?? pass.facts.get(`render preflight${name}`);
  return fact?.kind === "render" && fact.render.kind === "rendered" ? fact.render.objects : [];
}
type RenderedFields = {
  readonly version: string;
  readonly expires?: boolean;
  readonly controls: { readonly reconcile: "enabled" | "disabled" };
};

/** A check's object: namespace defaulted, scope and group from the target (spec 10 §3, KindRef). */
async function checkId(
  _engine: Engine,
  pass: Pass,
  {
    check,
    access,
  }: {
    readonly check: {
      readonly apiVersion?: string;
      readonly kind: string;
      readonly name: string;
      readonly namespace?: string;
    };
    readonly access: Access;
  },
  signal: AbortSignal,
): Promise<{ readonly id: ObjectId; readonly version: string | undefined }> {
  const named =
    check.apiVersion !== undefined && check.apiVersion !== "" ? splitApiVersion(check.apiVersion) : undefined;
  const resource =
    named === undefined
      ? (await access.discovery.preferredFor(check.kind, { signal }))[0]
      : await access.discovery.find({ ...named, kind: check.kind }, { signal });
  const namespace = resource?.namespaced === false ? "" : check.namespace || pass.key.namespace;
  const group = resource?.group ?? named?.group ?? "";
  return { id: { group, kind: check.kind, namespace, name: check.name }, version: resource?.version ?? named?.version };
}

interface Seen {
  readonly readiness: Readiness;
  readonly object: KubeObject | undefined;
}

/** What is known of the object if a watch vouches for it or it was just read; else a read under the stage's identity. */
async function look(
  engine: Engine,
  pass: Pass,
  { access, awaited }: { readonly access: Access; readonly awaited: Awaited },
  signal: AbortSignal,
): Promise<Seen> {
  const { id } = awaited;
  const known = engine.observer.get(pass.key, access, id);
  if (known !== undefined && (!awaited.expressed || known.object !== undefined)) {
    const age = engine.clock.monotonic() - known.seenAt;
    // A claim that waits for its first consumer is as ready as it can be, which only its StorageClass tells.
    const claim = id.kind === "PersistentVolumeClaim" && known.readiness.status === "InProgress";
    if (claim) return readObject(engine, pass, { access, awaited }, signal);
    if (age < freshMs || engine.observer.isLive(pass.key, access, id))
      return { readiness: known.readiness, object: known.object };
    // What is Current stays so until a watch or the next steady pass says otherwise.
    if (known.readiness.status === "Current" && !awaited.expressed && awaited.rendered)
      return { readiness: known.readiness, object: known.object };
  }
  return readObject(engine, pass, { access, awaited }, signal);
}

async function readObject(
  engine: Engine,
  pass: Pass,
  { access, awaited }: { readonly access: Access; readonly awaited: Awaited },
  signal: AbortSignal,
): Promise<Seen> {
  const { id, version } = awaited;
  let resource: ApiResource | undefined;
  const since = engine.clock.monotonic();
  try {
    resource = await access.discovery.find({ group: id.group, kind: id.kind, version }, { signal });
    if (resource === undefined) return unknown(`kind ${id.kind} of group "${id.group}" is not served`, "NotFound");
    const request = getRequest(resource, { namespace: resource.namespaced ? id.namespace : undefined, name: id.name });
    const object = asKubeObject(await access.client.send(request, { signal }));
    engine.observer.note(pass.key, access, { id, object, keep: awaited.expressed, since });
    const readiness =
      engine.observer.get(pass.key, access, id)?.readiness ?? unknown("was not read", "Unknown").readiness;
    if (readiness.status === "InProgress" && (await waitsForFirstConsumer(access, object, signal)))
      return { readiness: { status: "Current", message: "waits for its first consumer" }, object };
    return { readiness, object };
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    if (error.reason === "NotFound") {
      engine.observer.note(pass.key, access, { id, object: undefined, keep: awaited.expressed, since });
      if (awaited.expires) return { readiness: expired, object: undefined };
      const readiness = engine.observer.get(pass.key, access, id)?.readiness;
      return readiness === undefined ? unknown("does not exist", "NotFound") : { readiness, object: undefined };
    }
    const missing = isAuthorizationRefusal(error) ? `verb "get" is missing: ${error.message}` : error.message;
    return unknown(`cannot be read: ${missing}`, "Unknown");
  }
}

function unknown(message: string, status: "NotFound" | "Unknown"): Seen {
  return { readiness: { status, message }, object: undefined };
}

/** What the observer follows while the stage waits; `poll` when some of it cannot be watched. */
export async function followedOf(
  engine: Engine,
  waiting: { readonly key: Pass["key"]; readonly awaited: readonly Awaited[]; readonly access: Access },
  signal: AbortSignal,
): Promise<{ readonly followed: readonly Followed[]; readonly poll: boolean }> {
  const followed: Followed[] = [];
  let poll = false;
  for (const awaited of waiting.awaited) {
    const { id, version } = awaited;
    const known = engine.observer.get(waiting.key, waiting.access, id);
    const settled = known?.readiness.status === "Current" && isAlwaysCurrent(id);
    if (settled && !awaited.expressed) continue;
    const resource = await waiting.access.discovery.find({ group: id.group, kind: id.kind, version }, { signal });
    if (resource === undefined) poll = true;
    else followed.push({ id, resource, labelled: awaited.rendered, anyChange: awaited.expressed });
  }
  return { followed, poll };
}

/** The kind's status says nothing about readiness. */
export function isAlwaysCurrent(id: Pick<ObjectId, "group" | "kind">): boolean {
  return alwaysCurrent.has(`${id.group}/${id.kind}`);
}

/** Kinds whose status says nothing about readiness (spec 20 §9.3). */
const alwaysCurrent = new Set([
  "/ConfigMap",
  "/Secret",
  "batch/CronJob",
  "policy/PodDisruptionBudget",
  "/ServiceAccount",
  "rbac.authorization.k8s.io/Role",
  "rbac.authorization.k8s.io/RoleBinding",
  "rbac.authorization.k8s.io/ClusterRole",
  "rbac.authorization.k8s.io/ClusterRoleBinding",
]);
