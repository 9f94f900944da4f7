import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { apiGroup, apiVersion } from "../api/group.ts";
import { revisionAnnotation, stageSetReporter } from "../api/keys.ts";
import { isReadyReason, reasonInfo, type ReadyReason } from "../api/reasons.ts";
import type { PassReports, PassScope } from "../controller/stage-set-controller.ts";
import { gatesOf } from "../domain/promotion/gates-of.ts";
import { stageNames } from "../domain/stage-readiness.ts";
import { readyCondition } from "../domain/status.ts";
import type { PassEnd } from "../engine/drive.ts";
import type { Reports } from "../engine/engine.ts";
import { statusOf, type StageSetKey } from "../engine/journal.ts";
import type { EventRecorder, RecordedEvent } from "../kube/events.ts";
import type { Clock } from "../lib/clock.ts";
import { formatDuration } from "../lib/duration.ts";
import { at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Logger, Span } from "../lib/telemetry.ts";
import { dropReasons, type Metrics } from "../observe/metrics.ts";
import { showBudgets } from "./budget-series.ts";
import { createStageWaits } from "./stage-waits.ts";

const controller = "stageset";
const reconciler = { controller, controllerGroup: apiGroup, controllerKind: "StageSet" };

/** Reasons the alert on failures counts, as far as this build can end a pass with them; their counters start at 0. */
const countedFromStart = [
  "Succeeded",
  "StageFailed",
  "InvalidSpec",
  "ResolveFailed",
  "RBACDenied",
  "Stalled",
  "ActionDirty",
] as const;

export interface ReportOptions {
  readonly events: EventRecorder;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly clock: Clock;
  /** The root span of a pass. */
  readonly trace: (name: string, attributes: Parameters<Span["set"]>[0]) => Span;
}

export interface ProcessReports extends Reports, PassReports, Disposable {
  /**
   * From now on this replica says how StageSets are: until then it exports none of their series (spec 60 §6 d).
   * `known` are set from their status at once, so that a change of leaders leaves no gap (e).
   */
  lead(known: readonly KubeObject[]): void;
}

/** Turns what passes report into Events, metrics, spans and log records. */
export function createReports(options: ReportOptions): ProcessReports {
  const { events, metrics, logger, clock } = options;
  let leading = false;
  const about = (key: StageSetKey): Logger => logger.with({ ...reconciler, ...key });
  const waits = createStageWaits({
    clock,
    logger: about,
    ended: (seconds) => metrics.phaseSeconds.observe({ phase: "wait" }, seconds),
  });
  const seen = (stageSet: KubeObject, before: KubeObject | undefined): void => {
    if (!leading) return;
    const key = { namespace: stageSet.metadata.namespace ?? "", name: stageSet.metadata.name };
    showReady(metrics, key, stageSet);
    showGates(metrics, key, { stageSet, before });
    showBudgets(metrics, key, stageSet);
    startCounters(metrics, key, { stageSet, before });
    const stages = new Set(stageNames(stageSet));
    for (const stage of before === undefined ? [] : stageNames(before))
      if (!stages.has(stage)) metrics.forgetStage(key.namespace, key.name, stage);
  };
  return {
    event(key, uid, { type, reason, note, revision }) {
      const annotations = revision === undefined ? undefined : { [revisionAnnotation]: revision };
      events.record({ regarding: { apiVersion, kind: "StageSet", ...key, uid }, type, reason, note, annotations });
    },
    ledgerEvent: (key, uid, { type, reason, note }) =>
      events.record({ regarding: { apiVersion, kind: "StageLedger", ...key, uid }, type, reason, note }),
    ledgerAdopted: (key) => metrics.ledgerAdoptions.add({ ...key }),
    anchorUnreadable: (key) => metrics.anchorErrors.add({ ...key }),
    stageApplied: (key, stage) => metrics.stagesApplied.add({ ...key, stage }),
    driftCorrected: (key, stage, objects) => metrics.driftCorrected.add({ ...key, stage }, objects),
    updateDeferred: (key) => metrics.updateDeferred.add({ ...key }),
    actionRan: (key, scope) => metrics.actionRuns.add({ ...key, scope }),
    budgetRead: (key, remaining) => metrics.budgetRemaining.set({ ...key }, remaining),
    metricSourceFailed: (key) => metrics.metricSourceErrors.add({ ...key }),
    teardownForced(key, drop) {
      metrics.teardownForced.add({ ...key, reason: drop.reason });
      const elapsed = `${Math.round(drop.elapsedMs / 1_000)}s`;
      const left = drop.remaining.length === 0 ? "none" : drop.remaining.join(", ");
      about(key).error("force-dropped finalizer", {
        reason: drop.reason,
        elapsed,
        op: "delete",
        error: drop.lastError,
      });
      events.record({
        regarding: { apiVersion, kind: "StageSet", ...key },
        type: "Warning",
        reason: "TeardownForced",
        note: `Dropped the finalizer after ${elapsed} (${drop.reason}); last error: ${drop.lastError}; remaining: ${left}`,
      });
    },
    recorded: (key, status, spec) => waits.recorded(key, status, spec),
    phase: (phase, seconds) => metrics.phaseSeconds.observe({ phase }, seconds),
    passStarted: (key, object) => beginPass(options, key, object),
    gone(key) {
      waits.forget(key);
      metrics.forget(key.namespace, key.name);
    },
    seen,
    lead(known) {
      leading = true;
      for (const stageSet of known) seen(stageSet, undefined);
    },
    [Symbol.dispose]: () => waits[Symbol.dispose](),
  };
}

export const reportingController = stageSetReporter;

/** An Event in the shape Flux' notifications have (spec 60 §7). */
export function fluxEvent(event: RecordedEvent, clock: Clock): unknown {
  const revision = event.annotations?.[revisionAnnotation];
  return {
    involvedObject: event.regarding,
    severity: event.type === "Normal" ? "info" : "error",
    timestamp: new Date(clock.now()).toISOString(),
    message: event.note,
    reason: event.reason,
    metadata: revision === undefined ? {} : { [revisionAnnotation]: revision },
    reportingController,
    reportingInstance: hostname(),
  };
}

function beginPass(options: ReportOptions, key: StageSetKey, object: KubeObject | undefined): PassScope {
  const generation = object?.metadata.generation ?? 0;
  const span = options.trace("StageSet.Reconcile", {
    "stageset.namespace": key.namespace,
    "stageset.name": key.name,
    "stageset.generation": generation,
  });
  const traced = span.traceId === undefined ? {} : { traceID: span.traceId };
  const logger = options.logger.with({ ...reconciler, ...key, reconcileID: randomUUID(), ...traced });
  logger.debug("reconciling StageSet", {
    generation,
    observedGeneration: object === undefined ? 0 : (statusOf(object).observedGeneration ?? 0),
    deleting: object?.metadata.deletionTimestamp !== undefined,
    suspended: at(object, "spec", "suspend") === true,
  });
  return {
    logger,
    span,
    ended({ end, seconds }) {
      if (end !== "cut") {
        countPass(options.metrics, key, { end, seconds });
        sayEnd(logger, end);
      }
      const failed = failureOf(end);
      if (failed !== undefined) span.fail(failed.message);
      const reason = typeof end === "string" || end.kind !== "ended" ? undefined : end.outcome.ready?.reason;
      if (reason !== undefined) span.set({ "stageset.reason": reason });
      span.end();
    },
  };
}

type End = PassEnd | { readonly kind: "error" | "bug"; readonly error: unknown };

function failureOf(end: End | "cut"): { readonly message: string } | undefined {
  if (end === "cut") return undefined;
  if (end.kind === "ended") return end.outcome.failure;
  if (end.kind !== "error" && end.kind !== "bug") return undefined;
  return { message: end.error instanceof Error ? end.error.message : String(end.error) };
}

function countPass(
  metrics: Metrics,
  key: StageSetKey,
  { end, seconds }: { readonly end: End; readonly seconds: number },
): void {
  const { passes } = metrics;
  passes.seconds.observe({ controller }, seconds);
  const total = (result: string): void => passes.total.add({ controller, result });
  switch (end.kind) {
    case "gone":
      total("success");
      return;
    case "parked":
      total("requeue_after");
      return;
    case "bug":
    case "error":
      if (end.kind === "bug") passes.panics.add({ controller });
      passes.errors.add({ controller });
      metrics.queue.retried();
      total("error");
      return;
    case "ended": {
      const { failure, ready, next } = end.outcome;
      if (ready !== undefined && ready.reason !== "Progressing")
        metrics.reconciles.add({ ...key, reason: ready.reason });
      if (failure === undefined || !isFailure(failure.reason)) {
        total(next === undefined ? "success" : "requeue_after");
        return;
      }
      passes.errors.add({ controller });
      if (failure.terminal) passes.terminalErrors.add({ controller });
      if (failure.next === "backoff") metrics.queue.retried();
      total("error");
    }
  }
}

/** One record per pass that came to an end, with the stable messages of spec 60 §8. */
function sayEnd(logger: Logger, end: End): void {
  if (end.kind === "error") logger.error("pass failed", { error: end.error });
  if (end.kind === "bug")
    logger.error("pass failed for an unexpected reason", {
      error: end.error,
      ...(end.error instanceof Error ? { stack: end.error.stack } : {}),
    });
  if (end.kind !== "ended") return;
  const { failure, ready, next, verified, held } = end.outcome;
  const requeueAfter = next === undefined ? "never" : formatDuration(Math.round(next.afterMs));
  if (failure === undefined) {
    if (held === "UpdateDeferred") logger.info("rollout deferred while update windows are closed", { requeueAfter });
    else if (held === "BudgetExhausted") logger.info("rollout frozen by error budget", { requeueAfter });
    else if (ready?.status === "True")
      logger.info("StageSet synced", { stages: verified.length, ready: true, requeueAfter });
    else logger.info("StageSet is not synced", { reason: ready?.reason, message: ready?.message, requeueAfter });
    return;
  }
  const { reason, terminal, stage } = failure;
  if (reason === "StageProgressing")
    logger.info("stage still becoming ready past its verify timeout; holding", { stage: stage?.name, requeueAfter });
  else if (stage !== undefined)
    logger.error("stage failed", { stage: stage.name, op: stage.operation, terminal, reason, error: failure.message });
  else if (isFailure(reason)) logger.error("StageSet failed", { reason, terminal, error: failure.message });
  else logger.info("StageSet waits", { reason, error: failure.message, requeueAfter });
}

function isFailure(reason: ReadyReason): boolean {
  return reasonInfo(reason).class === "failure";
}

/** Exactly one series of `stageset_ready` per StageSet. */
function showReady(metrics: Metrics, key: StageSetKey, stageSet: KubeObject): void {
  const ready = readyCondition(statusOf(stageSet));
  metrics.ready.remove({ ...key });
  if (ready !== undefined && isReadyReason(ready.reason))
    metrics.ready.set({ ...key, reason: ready.reason }, ready.status === "True" ? 1 : 0);
}

/** Two series per stage with a promotion gate; they go with the gate. */
function showGates(
  metrics: Metrics,
  { namespace, name }: StageSetKey,
  { stageSet, before }: { readonly stageSet: KubeObject; readonly before: KubeObject | undefined },
): void {
  const gates = gatesOf(stageSet);
  const series = (stage: string) => ({ namespace, stageset: name, stage });
  for (const [stage, gate] of gates) {
    metrics.promotionPending.set(series(stage), gate === "open" ? 0 : 1);
    metrics.promotionBlocked.set(series(stage), gate === "blocked" ? 1 : 0);
  }
  if (before === undefined) return;
  for (const stage of gatesOf(before).keys()) {
    if (gates.has(stage)) continue;
    metrics.promotionPending.remove(series(stage));
    metrics.promotionBlocked.remove(series(stage));
  }
}

/** Counters that alerts use start at 0, so that the first event is seen as an increase (spec 60 §6 b). */
function startCounters(
  metrics: Metrics,
  key: StageSetKey,
  { stageSet, before }: { readonly stageSet: KubeObject; readonly before: KubeObject | undefined },
): void {
  if (before === undefined) {
    for (const reason of countedFromStart) metrics.reconciles.add({ ...key, reason }, 0);
    for (const reason of dropReasons) metrics.teardownForced.add({ ...key, reason }, 0);
    metrics.updateDeferred.add({ ...key }, 0);
    metrics.anchorErrors.add({ ...key }, 0);
    metrics.metricSourceErrors.add({ ...key }, 0);
  }
  const known = new Set(before === undefined ? [] : stageNames(before));
  for (const stage of stageNames(stageSet)) {
    if (known.has(stage)) continue;
    metrics.driftCorrected.add({ ...key, stage }, 0);
    metrics.stagesApplied.add({ ...key, stage }, 0);
    metrics.inventorySkipped.add({ namespace: key.namespace, stageset: key.name, stage }, 0);
  }
}
