import type { Stage, StageSetSpec } from "../api/stage-set.ts";
import { durationMs } from "../lib/duration.ts";

/** Bound of a stage's verify phase when nothing sets one (spec 20 §9.2). */
export const defaultVerifyTimeoutMs = 15 * 60_000;
/** M of spec 10 §6. */
export const minuteMs = 60_000;

/** The duration in milliseconds, or undefined when it is absent, unreadable or not positive: all mean "unset". */
export function positiveMs(text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  const ms = durationMs(text);
  return ms !== undefined && ms > 0 ? ms : undefined;
}

/** I: `interval`, else the controller's default. */
export function intervalMs(spec: StageSetSpec, defaultIntervalMs: number): number {
  return positiveMs(spec.interval) ?? defaultIntervalMs;
}

/** R: `retryInterval`, else I. */
export function retryMs(spec: StageSetSpec, defaultIntervalMs: number): number {
  return positiveMs(spec.retryInterval) ?? intervalMs(spec, defaultIntervalMs);
}

/** The look after success: `driftDetectionInterval` where it is shorter than I. */
export function steadyMs(spec: StageSetSpec, defaultIntervalMs: number): number {
  const interval = intervalMs(spec, defaultIntervalMs);
  const drift = positiveMs(spec.driftDetectionInterval);
  return drift !== undefined && drift < interval ? drift : interval;
}

/** How long a stage may take to verify: the first positive of its three sources, else 15 minutes (spec 20 §9.2). */
export function verifyTimeoutMs(spec: StageSetSpec, stage: Stage): number {
  return (
    positiveMs(stage.readyChecks?.timeout) ??
    positiveMs(stage.timeout) ??
    positiveMs(spec.timeout) ??
    defaultVerifyTimeoutMs
  );
}

/** The next look at what could not be told, for the n-th time in a row (n ≥ 1): 5, 10, 20, 40 s, then M (spec 50 §4.4). */
export function soonMs(consecutiveFailures: number): number {
  return Math.min(minuteMs, 5_000 * 2 ** Math.min(10, Math.max(0, consecutiveFailures - 1)));
}

/** B of spec 20 §1 for the n-th consecutive failure (n ≥ 1), before its ±10 % jitter. */
export function backoffMs(retryIntervalMs: number, consecutiveFailures: number): number {
  return Math.min(retryIntervalMs, 1_000 * 2 ** Math.min(30, Math.max(0, consecutiveFailures - 1)));
}
