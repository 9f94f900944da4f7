import { asArray, asNumber, asText, at } from "../../lib/json.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { fieldManager } from "../../api/keys.ts";
import { dependencyProblem, dependencyView } from "../dependencies.ts";
import { pinOf, type SourceTarget } from "../pins.ts";
import { stageSource } from "../stage-readiness.ts";
import { timestamp } from "../status.ts";
import { causeOf, readyOf, type Cause, type ConditionView, type JudgedCause, type Why } from "./cause.ts";
import { describeCommand, getCommand, resumeCommand, type StageSetName } from "./commands.ts";
import { approvalCause, budgetCause, readyCause, whoClears, windowCause } from "./ready-cause.ts";
import {
  awaitedObjects,
  failedStageCause,
  promotionCause,
  stagesOf,
  workingStageCause,
  type StageView,
} from "./stage-cause.ts";

/** What is told of another object: itself, that there is none, or that the caller may not know. */
export type Lookup = KubeObject | "absent" | "unknown";

export interface WhyInput {
  readonly stageSet: KubeObject;
  /** Epoch ms. */
  readonly now: number;
  /** Since when the generation is what it is, epoch ms; undefined: not known. */
  readonly changedAt?: number | undefined;
  /** When the controller's lease was last renewed, epoch ms; undefined: not known, or nobody holds one. */
  readonly leaseRenewedAt?: number | undefined;
  readonly stageSetOf?: ((namespace: string, name: string) => Lookup) | undefined;
  readonly sourceOf?: ((target: SourceTarget) => Lookup) | undefined;
}

/** A controller that did not renew its lease, or look at a spec, for so long is not at work (spec 70 §9.2). */
export const controllerSilentMs = 60_000;

/**
 * Why a StageSet does not move, from what is on record: the first blocking cause in the controller's own order, then what
 * is queued behind it. The one judgement for command line, web UI and agents; whatever cannot be read is left out.
 */
export function explainWhy(input: WhyInput): Why {
  const { stageSet } = input;
  const of: StageSetName = { namespace: stageSet.metadata.namespace ?? "", name: stageSet.metadata.name };
  const stages = stagesOf(stageSet);
  const [first, ...queued] = judgedCauses(input, { of, stages });
  const others = new Map<string, Cause>();
  for (const { cause } of queued) if (!others.has(keyOf(cause))) others.set(keyOf(cause), cause);
  if (first !== undefined) others.delete(keyOf(first.cause));
  return {
    ...of,
    state: first?.state ?? "ok",
    ...(first === undefined ? {} : { cause: first.cause }),
    others: [...others.values()],
    objects: stages.flatMap(awaitedObjects),
  };
}

function keyOf({ kind, stage = "", object = "" }: Cause): string {
  return kind === "dependency" || kind === "source" ? `${kind} ${object}` : `${kind} ${stage}`;
}

interface Subject {
  readonly of: StageSetName;
  readonly stages: readonly StageView[];
}

function judgedCauses(input: WhyInput, subject: Subject): readonly JudgedCause[] {
  const { of, stages } = subject;
  const status = at(input.stageSet, "status");
  const ready = readyOf(status);
  const blocking = [
    silentController(input),
    deleting(input, stages),
    suspended(input),
    unobserved(input),
    ready === undefined ? undefined : recordedCause(input, { ...subject, ready }),
  ].filter((each) => each !== undefined);
  // A teardown asks about nothing else, and leaves Ready as it was before.
  if (input.stageSet.metadata.deletionTimestamp !== undefined)
    return blocking.filter(({ cause: { kind } }) => kind === "controller" || kind === "deleting");
  // What is deployed and held by nothing is held by nothing else either.
  if (blocking.length === 0) return [];
  const waiting = (cause: Cause | undefined): readonly JudgedCause[] =>
    cause === undefined ? [] : [{ state: "waiting", cause }];
  return [
    ...blocking,
    ...unmetDependencies(input).flatMap(waiting),
    ...unusableSources(input).flatMap(waiting),
    ...waiting(rollingBack(status)),
    ...waiting(windowCause(of, status)),
    ...waiting(budgetCause(of, at(status, "budgetFreeze"), undefined)),
    ...waiting(approvalCause(of, status)),
    ...stages.flatMap((stage) => [
      ...waiting(budgetCause(of, at(stage.entry, "budgetFreeze"), stage.name)),
      ...(stage.phase === "Failed" ? [failedStageCause(of, stage, ready?.reason ?? "StageFailed")] : []),
      ...(promotionCause(of, stage) === undefined ? [] : [promotionCause(of, stage)]),
    ]),
  ].filter((each) => each !== undefined);
}

function silentController({ stageSet, leaseRenewedAt, now }: WhyInput): JudgedCause | undefined {
  if (leaseRenewedAt === undefined || now - leaseRenewedAt < controllerSilentMs) return undefined;
  // Left behind: who held it may write for seconds after its last renewal, whoever still writes needs none.
  if (statusWrittenAt(stageSet) - leaseRenewedAt >= controllerSilentMs) return undefined;
  return {
    state: "stale",
    cause: causeOf({
      kind: "controller",
      reason: "LeaseNotRenewed",
      message: "no controller is at work: nobody renews its lease",
      since: timestamp(leaseRenewedAt),
      clearedBy: "a controller that runs",
      command: "kubectl get pods -A -l app.kubernetes.io/name=stageset-controller",
    }),
  };
}

/** When a controller last changed the status, as the API server has noted it, epoch ms; -Infinity: not known. */
function statusWrittenAt({ metadata }: KubeObject): number {
  const times = (metadata.managedFields ?? [])
    .filter((entry) => at(entry, "subresource") === "status" && at(entry, "manager") === fieldManager)
    .map(({ time }) => Date.parse(time ?? ""));
  return Math.max(-Infinity, ...times.filter((time) => Number.isFinite(time)));
}

/** The controller has not looked at the spec as it is now. */
function unobserved({ stageSet, now, changedAt }: WhyInput): JudgedCause | undefined {
  const { generation, deletionTimestamp } = stageSet.metadata;
  const observed = asNumber(at(stageSet, "status", "observedGeneration"));
  if (generation === undefined || observed === generation || deletionTimestamp !== undefined) return undefined;
  const silent = changedAt !== undefined && now - changedAt >= controllerSilentMs;
  return {
    state: silent ? "stale" : "waiting",
    cause: causeOf({
      kind: "controller",
      reason: "SpecPending",
      message: `the controller has not looked at generation ${generation} yet${observed === undefined ? "" : `, only at ${observed}`}`,
      since: changedAt === undefined ? undefined : timestamp(changedAt),
      clearedBy: silent ? "a controller that runs and watches this namespace" : "the controller",
      command: silent ? "kubectl get pods -A -l app.kubernetes.io/name=stageset-controller" : undefined,
    }),
  };
}

function deleting({ stageSet }: WhyInput, stages: readonly StageView[]): JudgedCause | undefined {
  const { deletionTimestamp: since, namespace = "", name } = stageSet.metadata;
  if (since === undefined) return undefined;
  // Last first: the first of those marked is the one it has come to.
  const current = stages.find(({ phase }) => phase === "Pruning");
  const where = current === undefined ? "" : `; stage "${current.name}" is being torn down`;
  return {
    state: "waiting",
    cause: causeOf({
      kind: "deleting",
      reason: "Deleting",
      message: `is being deleted, with what its policy deletes${where}`,
      since,
      clearedBy: "the controller, once all of it is gone",
      command: describeCommand({ namespace, name }),
    }),
  };
}

function suspended({ stageSet }: WhyInput): JudgedCause | undefined {
  if (at(stageSet, "spec", "suspend") !== true) return undefined;
  const { namespace = "", name } = stageSet.metadata;
  return {
    state: "waiting",
    cause: causeOf({
      kind: "suspended",
      reason: "Suspended",
      message: "is suspended by spec.suspend",
      clearedBy: "whoever sets spec.suspend to false",
      command: resumeCommand({ namespace, name }),
    }),
  };
}

/** What Ready says, with the stage it is about. */
function recordedCause(
  { stageSet, now }: WhyInput,
  { of, stages, ready }: Subject & { readonly ready: ConditionView },
): JudgedCause | undefined {
  if (ready.status !== "True") {
    const failed = stages.find(({ phase }) => phase === "Failed");
    switch (ready.reason) {
      case "Suspended":
        // Once it was; the spec says whether it is.
        return undefined;
      case "StageFailed":
      case "RBACDenied":
      case "ImageUnverified":
      case "MigrationFailed":
        if (failed === undefined) break;
        return failedStageCause(of, failed, ready.reason);
      case "Progressing":
      case "StageProgressing": {
        const working = atWork(stages);
        if (working === undefined) break;
        const context = { ...ready, spec: at(stageSet, "spec"), now };
        return { state: "waiting", cause: workingStageCause(of, working, context) };
      }
      case "Soaking":
      case "AwaitingPromotion":
      case "PromotionBlocked": {
        const gate = stages.flatMap((stage) => promotionCause(of, stage) ?? [])[0];
        if (gate === undefined) break;
        return gate;
      }
    }
  }
  return readyCause(of, at(stageSet, "status"), ready);
}

/** The stage that is worked at; the first that is not there yet, where none is. */
function atWork(stages: readonly StageView[]): StageView | undefined {
  const busy = ["Applying", "Pruning", "Verifying", "Failed"];
  return stages.find(({ phase }) => busy.includes(phase)) ?? stages.find(({ phase }) => phase !== "Ready");
}

function rollingBack(status: unknown): Cause | undefined {
  if (at(status, "rollback", "phase") !== "InProgress") return undefined;
  const to = asText(at(status, "rollback", "toVersion"));
  return causeOf({
    kind: "rollback",
    reason: "RollingBack",
    message: to === undefined ? "is led back to what ran before" : `is led back to version ${to}`,
    since: asText(at(status, "rollback", "time")),
    clearedBy: "the rollback, once it is done",
  });
}

function unmetDependencies({ stageSet, stageSetOf }: WhyInput): readonly Cause[] {
  const own = stageSet.metadata.namespace ?? "";
  return asArray(at(stageSet, "spec", "dependsOn")).flatMap((dependency) => {
    const name = asText(at(dependency, "name"));
    const namespace = asText(at(dependency, "namespace")) ?? own;
    const found = name === undefined ? undefined : stageSetOf?.(namespace, name);
    if (name === undefined || found === undefined || found === "unknown") return [];
    const view = found === "absent" ? undefined : dependencyView(found);
    const problem = dependencyProblem(view, asText(at(dependency, "minVersion")));
    if (problem === undefined) return [];
    return causeOf({
      kind: "dependency",
      object: `StageSet/${namespace === own ? "" : `${namespace}/`}${name}`,
      reason: "DependencyNotReady",
      message: `dependency "${namespace}/${name}" ${problem}`,
      clearedBy: whoClears("dependency"),
      command: describeCommand({ namespace, name }),
    });
  });
}

function unusableSources({ stageSet, sourceOf }: WhyInput): readonly Cause[] {
  if (sourceOf === undefined) return [];
  const own = stageSet.metadata.namespace ?? "";
  return stagesOf(stageSet).flatMap(({ name: stage, entry }) => {
    const target = stageSource(stageSet, stage);
    const found = target === undefined ? "unknown" : sourceOf(target);
    if (target === undefined || found === "unknown") return [];
    const { kind, namespace, name } = target;
    const applied = asText(at(entry, "appliedRevision"));
    const problem =
      found === "absent"
        ? { reason: "ArtifactNotFound", message: `${kind} "${namespace}/${name}" offers no artifact` }
        : sourceProblem(found, { ownNamespace: own, target, applied, digest: asText(at(entry, "appliedDigest")) });
    if (problem === undefined) return [];
    return causeOf({
      kind: "source",
      stage,
      object: `${kind}/${namespace === own ? "" : `${namespace}/`}${name}`,
      ...problem,
      clearedBy: whoClears("source"),
      command: getCommand(kind, { namespace, name }),
    });
  });
}

function sourceProblem(
  source: KubeObject,
  o: {
    readonly ownNamespace: string;
    readonly target: SourceTarget;
    readonly applied: string | undefined;
    readonly digest: string | undefined;
  },
): { readonly reason: string; readonly message: string } | undefined {
  const lastApplied = o.applied === undefined ? undefined : { revision: o.applied, digest: o.digest };
  const pin = pinOf(source, { ownNamespace: o.ownNamespace, target: o.target, lastApplied });
  return "reason" in pin ? { reason: pin.reason, message: pin.message } : undefined;
}
