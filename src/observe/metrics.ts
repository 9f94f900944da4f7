import { collectDefaultMetrics, Registry, type RegistryContentType } from "prom-client";
import type { Counter, Gauge, Histogram, MetricLabels } from "../lib/telemetry.ts";
import { counter, gauge, histogram, scrapedGauge } from "./series.ts";

/** Every family of spec 60 §6 that something in the process changes. */
export interface Metrics {
  readonly reconciles: Counter;
  readonly stagesApplied: Counter;
  readonly driftCorrected: Counter;
  readonly teardownForced: Counter;
  readonly inventorySkipped: Counter;
  readonly watchFailures: Counter;
  readonly gateRequests: Counter;
  readonly requests: Counter;
  readonly ready: Gauge;
  readonly phaseSeconds: Histogram;
  readonly artifactBytes: Histogram;
  readonly leading: Gauge;
  readonly passes: PassMetrics;
  /** Series of `stageset_stage_ready`, read at scrape time. */
  stageReady(read: () => Iterable<readonly [MetricLabels, number]>): void;
  /** `workqueue_depth` and `controller_runtime_active_workers`, read at scrape time. */
  queue(read: () => { readonly depth: number; readonly running: number }): void;
  /** Drops every series of a StageSet that is gone, but for what tells of its end (spec 60 §6 a). */
  forget(namespace: string, name: string): void;
  forgetStage(namespace: string, name: string, stage: string): void;
  render(format: "prometheus" | "openmetrics"): Promise<{ readonly contentType: string; readonly body: string }>;
}

export interface PassMetrics {
  readonly total: Counter;
  readonly errors: Counter;
  readonly terminalErrors: Counter;
  readonly panics: Counter;
  readonly seconds: Histogram;
}

const secondsBuckets = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 900];
const passBuckets = [
  ...[0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
  ...[1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60, 120, 300, 600, 900],
];
const byteBuckets = [1e3, 1e4, 1e5, 1e6, 1e7, 6.4e7];

type Families = Registry<RegistryContentType>;

/** Label pairs of families that name StageSets differently for the sake of existing dashboards. */
const stageSetLabels = ["namespace", "stageset", "stage"] as const;

export function createMetrics(build: {
  readonly version: string;
  readonly commit: string;
  readonly workers: number;
}): Metrics {
  const registry = new Registry<RegistryContentType>();
  let rendering: Promise<unknown> = Promise.resolve();
  collectDefaultMetrics({ register: registry });
  const named = ["namespace", "name"];
  const families = {
    reconciles: counter(registry, {
      name: "stageset_reconcile_total",
      help: "Finished passes by the Ready reason they ended with",
      labels: [...named, "reason"],
    }),
    stagesApplied: counter(registry, {
      name: "stageset_stage_applied_total",
      help: "Passes that applied and verified the stage",
      labels: [...named, "stage"],
    }),
    driftCorrected: counter(registry, {
      name: "stageset_drift_corrected_total",
      help: "Objects created or changed by an apply at an unchanged revision",
      labels: [...named, "stage"],
    }),
    inventorySkipped: counter(registry, {
      name: "stageset_inventory_skipped_entries_total",
      help: "Inventory entries that could not be read",
      labels: stageSetLabels,
    }),
    ready: gauge(registry, {
      name: "stageset_ready",
      help: "Ready status of the StageSet, by its reason",
      labels: [...named, "reason"],
    }),
  };
  const teardownForced = counter(registry, {
    name: "stageset_teardown_force_drop_total",
    help: "Finalizers dropped although objects may remain",
    labels: [...named, "reason"],
  });
  const leading = gauge(registry, {
    name: "leader_election_master_status",
    help: "1 while this replica leads",
    labels: ["name"],
  });
  gauge(registry, {
    name: "stageset_build_info",
    help: "Version of the program",
    labels: ["version", "commit"],
  }).set({ version: build.version, commit: build.commit }, 1);
  gauge(registry, {
    name: "controller_runtime_max_concurrent_reconciles",
    help: "Passes that may run at once",
    labels: ["controller"],
  }).set({ controller: "stageset" }, build.workers);
  return {
    ...families,
    teardownForced,
    leading,
    watchFailures: counter(registry, {
      name: "stageset_watch_engagement_failures_total",
      help: "Failed attempts to list or watch a source or producer kind",
      labels: ["gvk"],
    }),
    gateRequests: counter(registry, {
      name: "stageset_gate_requests_total",
      help: "Answers of the stage gate",
      labels: ["dialect", "code", "reason"],
    }),
    requests: counter(registry, {
      name: "rest_client_requests_total",
      help: "Requests to API servers",
      labels: ["code", "method", "host"],
    }),
    phaseSeconds: histogram(registry, {
      name: "stageset_stage_phase_seconds",
      help: "Time per phase of a stage",
      labels: ["phase"],
      buckets: secondsBuckets,
    }),
    artifactBytes: histogram(registry, {
      name: "stageset_artifact_bytes",
      help: "Compressed size of fetched artifacts",
      labels: [],
      buckets: byteBuckets,
    }),
    passes: passMetrics(registry),
    stageReady: (read) =>
      scrapedGauge(
        registry,
        {
          name: "stageset_stage_ready",
          help: "1 while the stage is Ready at the pinned revision",
          labels: stageSetLabels,
        },
        read,
      ),
    queue: (read) => queueMetrics(registry, read),
    forget(namespace, name) {
      for (const family of Object.values(families)) family.remove({ namespace, name });
      families.inventorySkipped.remove({ namespace, stageset: name });
    },
    forgetStage(namespace, name, stage) {
      families.stagesApplied.remove({ namespace, name, stage });
      families.driftCorrected.remove({ namespace, name, stage });
      families.inventorySkipped.remove({ namespace, stageset: name, stage });
    },
    render(format) {
      // The format is a state of the registry: one page at a time.
      const page = rendering.then(async () => {
        registry.setContentType(
          format === "openmetrics" ? Registry.OPENMETRICS_CONTENT_TYPE : Registry.PROMETHEUS_CONTENT_TYPE,
        );
        return { contentType: registry.contentType, body: await registry.metrics() };
      });
      rendering = page.catch(() => undefined);
      return page;
    },
  };
}

function passMetrics(registry: Families): PassMetrics {
  const family = (name: string, help: string, labels: readonly string[] = ["controller"]): Counter =>
    counter(registry, { name: `controller_runtime_${name}`, help, labels });
  return {
    total: family("reconcile_total", "Passes by result", ["controller", "result"]),
    errors: family("reconcile_errors_total", "Passes that ended in an error"),
    terminalErrors: family("terminal_reconcile_errors_total", "Passes that ended in an error retrying cannot mend"),
    panics: family("reconcile_panics_total", "Passes that ended in a bug"),
    seconds: histogram(registry, {
      name: "controller_runtime_reconcile_time_seconds",
      help: "Duration of a pass",
      labels: ["controller"],
      buckets: passBuckets,
    }),
  };
}

function queueMetrics(registry: Families, read: () => { readonly depth: number; readonly running: number }): void {
  const labels = { name: "stageset", controller: "stageset", priority: "" };
  scrapedGauge(
    registry,
    { name: "workqueue_depth", help: "Passes that wait for a place", labels: ["name", "controller", "priority"] },
    () => [[labels, read().depth]],
  );
  scrapedGauge(
    registry,
    { name: "controller_runtime_active_workers", help: "Passes under way", labels: ["controller"] },
    () => [[{ controller: "stageset" }, read().running]],
  );
}
