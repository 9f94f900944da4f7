import { stageSetReporter } from "../api/keys.ts";
import { apiVersion } from "../api/group.ts";
import type { PassReports } from "../controller/stage-set-controller.ts";
import { readyCondition } from "../domain/status.ts";
import { stageNames } from "../domain/stage-readiness.ts";
import type { PassEnd } from "../engine/drive.ts";
import type { Reports } from "../engine/engine.ts";
import { statusOf, type StageSetKey } from "../engine/journal.ts";
import type { EventRecorder } from "../kube/events.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { Metrics } from "../observe/metrics.ts";

const controller = "stageset";

/** Turns what passes report into Events, metrics and log records. */
export function createReports(options: {
  readonly events: EventRecorder;
  readonly metrics: Metrics;
  readonly logger: Logger;
}): Reports & PassReports {
  const { events, metrics, logger } = options;
  return {
    event(key, uid, { type, reason, note }) {
      events.record({ regarding: { apiVersion, kind: "StageSet", ...key, uid }, type, reason, note });
    },
    stageApplied: (key, stage) => metrics.stagesApplied.add({ ...key, stage }),
    driftCorrected: (key, stage, objects) => metrics.driftCorrected.add({ ...key, stage }, objects),
    teardownForced(key, drop) {
      metrics.teardownForced.add({ ...key, reason: drop.reason });
      const elapsed = `${Math.round(drop.elapsedMs / 1_000)}s`;
      const left = drop.remaining.length === 0 ? "none" : drop.remaining.join(", ");
      logger.error("force-dropped finalizer", {
        ...key,
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
    phase: (phase, seconds) => metrics.phaseSeconds.observe({ phase }, seconds),
    passStarted: () => undefined,
    passEnded: (key, pass) => countPass(options, key, pass),
    gone: (key) => metrics.forget(key.namespace, key.name),
    seen(stageSet, before) {
      const key = { namespace: stageSet.metadata.namespace ?? "", name: stageSet.metadata.name };
      showReady(metrics, key, stageSet);
      if (before === undefined) startCounters(metrics, key, stageSet);
      const stages = new Set(stageNames(stageSet));
      for (const stage of before === undefined ? [] : stageNames(before))
        if (!stages.has(stage)) metrics.forgetStage(key.namespace, key.name, stage);
    },
  };
}

export const reportingController = stageSetReporter;

function countPass(
  { metrics, logger }: { readonly metrics: Metrics; readonly logger: Logger },
  key: StageSetKey,
  { end, seconds }: { readonly end: PassEnd | "error" | "bug"; readonly seconds: number },
): void {
  const { passes } = metrics;
  passes.seconds.observe({ controller }, seconds);
  if (end === "error" || end === "bug") {
    passes.errors.add({ controller });
    if (end === "bug") passes.panics.add({ controller });
    passes.total.add({ controller, result: "error" });
    return;
  }
  if (end.kind !== "ended") {
    passes.total.add({ controller, result: end.kind === "gone" ? "success" : "requeue_after" });
    return;
  }
  const { outcome } = end;
  passes.total.add({ controller, result: outcome.failure === undefined ? "requeue_after" : "error" });
  if (outcome.ready !== undefined) metrics.reconciles.add({ ...key, reason: outcome.ready.reason });
  if (outcome.failure === undefined) {
    if (outcome.ready?.status === "True")
      logger.info("StageSet synced", {
        ...key,
        stages: outcome.verified.length,
        ready: true,
        requeueAfter: `${Math.round((outcome.next?.afterMs ?? 0) / 1_000)}s`,
      });
    return;
  }
  passes.errors.add({ controller });
  if (outcome.failure.terminal) passes.terminalErrors.add({ controller });
  logger.error("stage failed", {
    ...key,
    reason: outcome.failure.reason,
    terminal: outcome.failure.terminal,
    error: outcome.failure.message,
    ...(outcome.failure.stage === undefined
      ? {}
      : { stage: outcome.failure.stage.name, op: outcome.failure.stage.operation }),
  });
}

/** Exactly one series of `stageset_ready` per StageSet. */
function showReady(metrics: Metrics, key: StageSetKey, stageSet: KubeObject): void {
  const ready = readyCondition(statusOf(stageSet));
  metrics.ready.remove({ ...key });
  if (ready !== undefined) metrics.ready.set({ ...key, reason: ready.reason }, ready.status === "True" ? 1 : 0);
}

/** Counters that alerts use start at 0, so that the first event is seen as an increase (spec 60 §6 b). */
function startCounters(metrics: Metrics, key: StageSetKey, stageSet: KubeObject): void {
  metrics.reconciles.add({ ...key, reason: "StageFailed" }, 0);
  for (const stage of stageNames(stageSet)) metrics.driftCorrected.add({ ...key, stage }, 0);
}
