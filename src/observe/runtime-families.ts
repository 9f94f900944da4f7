import type { Registry as PromRegistry, RegistryContentType } from "prom-client";
import type { Counter, Histogram } from "../lib/telemetry.ts";
import { counter, histogram, scrapedGauge } from "./series.ts";

type Registry = PromRegistry<RegistryContentType>;

/** Families every controller built on controller-runtime exports; dashboards and alerts know their names. */
export interface PassMetrics {
  readonly total: Counter;
  readonly errors: Counter;
  readonly terminalErrors: Counter;
  readonly panics: Counter;
  readonly seconds: Histogram;
}

const passBuckets = [
  ...[0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
  ...[1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60, 120, 300, 600, 900],
];
/** 10⁻⁸…10³ by ×10. */
const queueBuckets = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1_000];

export function passFamilies(registry: Registry): PassMetrics {
  const family = (name: string, help: string, labels: readonly string[] = ["controller"]): Counter =>
    counter(registry, { name: `controller_runtime_${name}`, help, labels });
  return {
    total: family("reconcile_total", "Passes by result", ["controller", "result"]),
    errors: family("reconcile_errors_total", "Passes that ended in an error"),
    terminalErrors: family("terminal_reconcile_errors_total", "Passes that ended in an error retrying cannot mend"),
    panics: family("reconcile_panics_total", "Passes that ended in a bug"),
    seconds: histogram(registry, {
      name: "controller_runtime_reconcile_time_seconds",
      help: "Duration of a pass; waits do not belong to one",
      labels: ["controller"],
      buckets: passBuckets,
    }),
  };
}

export interface QueueState {
  readonly depth: number;
  readonly running: number;
  /** Milliseconds for which each pass under way has been running. */
  readonly runningMs: () => readonly number[];
}

/** What the work queue does. The methods are called by the queue, {@link QueueMetrics.read} at scrape time. */
export interface QueueMetrics {
  added(): void;
  started(waitedMs: number): void;
  ended(ranMs: number): void;
  /** A key runs again because its pass could not end well. */
  retried(): void;
  read(state: () => QueueState): void;
}

export function queueFamilies(registry: Registry): QueueMetrics {
  const labels = { name: "stageset", controller: "stageset" };
  const names = Object.keys(labels);
  const adds = counter(registry, { name: "workqueue_adds_total", help: "Keys that became due", labels: names });
  const retries = counter(registry, {
    name: "workqueue_retries_total",
    help: "Keys that run again after an error",
    labels: names,
  });
  const waited = histogram(registry, {
    name: "workqueue_queue_duration_seconds",
    help: "How long a due key waited for a place",
    labels: names,
    buckets: queueBuckets,
  });
  const worked = histogram(registry, {
    name: "workqueue_work_duration_seconds",
    help: "How long a place was held",
    labels: names,
    buckets: queueBuckets,
  });
  adds.add(labels, 0);
  retries.add(labels, 0);
  return {
    added: () => adds.add(labels),
    started: (waitedMs) => waited.observe(labels, waitedMs / 1_000),
    ended: (ranMs) => worked.observe(labels, ranMs / 1_000),
    retried: () => retries.add(labels),
    read(state) {
      const gauge = (name: string, help: string, value: (state: QueueState) => number): void =>
        scrapedGauge(registry, { name, help, labels: names }, () => [[labels, value(state())]]);
      scrapedGauge(
        registry,
        { name: "workqueue_depth", help: "Passes that wait for a place", labels: [...names, "priority"] },
        () => [[{ ...labels, priority: "" }, state().depth]],
      );
      gauge("workqueue_unfinished_work_seconds", "Time the passes under way have taken together", ({ runningMs }) =>
        runningMs().reduce((sum, ms) => sum + ms / 1_000, 0),
      );
      gauge(
        "workqueue_longest_running_processor_seconds",
        "Time the oldest pass under way has taken",
        ({ runningMs }) => Math.max(0, ...runningMs()) / 1_000,
      );
      scrapedGauge(
        registry,
        { name: "controller_runtime_active_workers", help: "Passes under way", labels: ["controller"] },
        () => [[{ controller: "stageset" }, state().running]],
      );
    },
  };
}
