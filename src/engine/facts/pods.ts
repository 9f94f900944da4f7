import { failure } from "../../domain/failure.ts";
import { selectorText } from "../../domain/formats/label-selector.ts";
import { stageIdentity } from "../../domain/pass/plan.ts";
import type { Fact, FactKey, Identity } from "../../domain/pass/state.ts";
import type { PodRestarts } from "../../domain/promotion/pod-checks.ts";
import type { Promotion } from "../../domain/promotion/soak.ts";
import type { Access } from "../../identity/access.ts";
import { IdentityError, isDenied } from "../../identity/identity-error.ts";
import { KubeError } from "../../kube/error.ts";
import { createPageFollower } from "../../kube/pages.ts";
import { isAuthorizationRefusal } from "../../kube/refusal.ts";
import { listRequest, type ApiResource } from "../../kube/request.ts";
import { asArray, asNumber, asText, at } from "../../lib/json.ts";
import type { Engine } from "../engine.ts";
import type { Pass } from "../pass.ts";
import { inPhase } from "../phase.ts";
import { coreEvents, pods } from "../resources.ts";
import { accessOf } from "./connection.ts";

type PodsKey = Extract<FactKey, { kind: "pods" }>;

/** Pods and Events are listed in pages of this size (spec 40 §5). */
const pageSize = 500;

/**
 * Counts the restarts and Warning Events of the pods that a gate's checks select, in the StageSet's namespace, as the
 * stage. A refusal for want of rights becomes a `failed` fact; any other trouble is for a later look.
 */
export async function readPods(engine: Engine, pass: Pass, key: PodsKey, signal: AbortSignal): Promise<Fact> {
  const stage = pass.snapshot.spec?.stages.find((candidate) => candidate.name === key.stage);
  if (pass.snapshot.spec === undefined || stage?.promotion === undefined)
    throw new RangeError(`no gate of stage "${key.stage}" to look at`);
  const { promotion } = stage;
  const as = stageIdentity(pass.snapshot.spec, stage, engine.options.defaultServiceAccount);
  return inPhase(engine, pass, { span: "stage.gatePods", attributes: { stage: stage.name } }, async (span) => {
    const listing: Listing = { engine, pass, as, signal };
    try {
      const access = await accessOf(engine, pass, as, signal);
      const readings = await readChecks({ ...listing, access }, promotion, key.since);
      return { kind: "pods", readings } as const;
    } catch (error) {
      const denied = denialOf(listing, stage.name, error);
      if (denied === undefined && !(error instanceof KubeError) && !(error instanceof IdentityError)) throw error;
      const message = error instanceof Error ? error.message : String(error);
      span.fail(message);
      if (denied !== undefined) return { kind: "failed", failure: denied } as const;
      pass.logger.warn("cannot read the pods of a promotion gate; looking again soon", { stage: stage.name, error });
      return { kind: "pods", readings: undefined } as const;
    }
  });
}

interface Listing {
  readonly engine: Engine;
  readonly pass: Pass;
  readonly as: Identity;
  readonly signal: AbortSignal;
}

type ReadableListing = Listing & { readonly access: Access };

async function readChecks(listing: ReadableListing, promotion: Promotion, since: string | undefined) {
  // Checks of one selector share its list.
  const selected = new Map<string, Promise<readonly SelectedPod[]>>();
  const podsOf = (selector: Parameters<typeof selectorText>[0]): Promise<readonly SelectedPod[]> => {
    const text = selectorText(selector);
    const known = selected.get(text) ?? readSelected(listing, text);
    selected.set(text, known);
    return known;
  };
  const restarts = new Map<string, readonly PodRestarts[]>();
  for (const { name, selector } of promotion.restartGate?.checks ?? [])
    restarts.set(
      name,
      (await podsOf(selector)).filter((pod) => pod.restarts > 0),
    );
  const events = new Map<string, number>();
  const checks = promotion.eventGate?.checks ?? [];
  const counted: {
    readonly name: string;
    readonly uids: ReadonlySet<string>;
    readonly reasons: ReadonlySet<string>;
  }[] = [];
  for (const { name, selector, reasons } of checks) {
    events.set(name, 0);
    const uids = new Set((await podsOf(selector)).map((pod) => pod.uid));
    if (uids.size > 0) counted.push({ name, uids, reasons: new Set(reasons) });
  }
  if (counted.length === 0) return { restarts, events };
  const sinceMs = since === undefined ? -Infinity : Date.parse(since);
  const fieldSelector = "type=Warning,involvedObject.kind=Pod";
  for await (const event of listAll(listing, coreEvents, { fieldSelector })) {
    const uid = asText(at(event, "involvedObject", "uid")) ?? "";
    const reason = asText(at(event, "reason")) ?? "";
    for (const { name, uids, reasons } of counted)
      if (reasons.has(reason) && uids.has(uid)) events.set(name, (events.get(name) ?? 0) + occurrences(event, sinceMs));
  }
  return { restarts, events };
}

type SelectedPod = PodRestarts;

async function readSelected(listing: ReadableListing, labelSelector: string): Promise<readonly SelectedPod[]> {
  const found: SelectedPod[] = [];
  for await (const pod of listAll(listing, pods, { labelSelector })) {
    const uid = asText(at(pod, "metadata", "uid"));
    if (uid === undefined || at(pod, "metadata", "deletionTimestamp") !== undefined) continue;
    const createdAt = instantOf(at(pod, "metadata", "creationTimestamp")) ?? 0;
    found.push({ uid, restarts: restartsOf(pod), createdAt });
  }
  return found;
}

/** Restartable init containers are among the init containers. */
function restartsOf(pod: unknown): number {
  return ["initContainerStatuses", "containerStatuses"]
    .flatMap((list) => asArray(at(pod, "status", list)))
    .reduce<number>((sum, status) => sum + Math.max(0, asNumber(at(status, "restartCount")) ?? 0), 0);
}

/** How often the event was seen from `sinceMs` on, as far as it tells: of a series that began before, once. */
function occurrences(event: unknown, sinceMs: number): number {
  const created = instantOf(at(event, "metadata", "creationTimestamp"));
  const first = instantOf(at(event, "firstTimestamp")) ?? instantOf(at(event, "eventTime")) ?? created ?? 0;
  const lasts = [at(event, "series", "lastObservedTime"), at(event, "lastTimestamp"), at(event, "eventTime")];
  const last = Math.max(...lasts.map((each) => instantOf(each) ?? 0));
  if ((last === 0 ? (created ?? 0) : last) < sinceMs) return 0;
  if (first < sinceMs) return 1;
  return Math.max(1, asNumber(at(event, "series", "count")) ?? 0, asNumber(at(event, "count")) ?? 0);
}

function instantOf(value: unknown): number | undefined {
  const ms = Date.parse(asText(value) ?? "");
  return Number.isNaN(ms) ? undefined : ms;
}

async function* listAll(
  { pass, access, signal }: ReadableListing,
  resource: ApiResource,
  selector: { readonly labelSelector?: string; readonly fieldSelector?: string },
): AsyncGenerator {
  const follow = createPageFollower(resource.plural);
  let next: string | undefined;
  do {
    const page = await access.client.send(
      listRequest(resource, { namespace: pass.key.namespace, limit: pageSize, continue: next, ...selector }),
      { signal },
    );
    yield* asArray(at(page, "items"));
    next = follow(page);
  } while (next !== undefined);
}

/** The failure of a gate that may not read what it is to judge: it names verb, resource and identity. */
function denialOf({ pass, as }: Listing, stage: string, error: unknown): ReturnType<typeof failure> | undefined {
  const refused =
    isAuthorizationRefusal(error) ||
    (error instanceof KubeError && error.reason === "NotServed") ||
    (error instanceof IdentityError && isDenied(error));
  if (!refused || !(error instanceof Error)) return undefined;
  const who = as.kind === "controller" ? "the controller" : `ServiceAccount "${pass.key.namespace}/${as.name}"`;
  return failure(
    "RBACDenied",
    `stage "${stage}" promotion gate: ${who} must be able to list pods and events in namespace ` +
      `"${pass.key.namespace}": ${error.message}`,
  );
}
