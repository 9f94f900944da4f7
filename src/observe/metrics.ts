import {
  collectDefaultMetrics,
  Counter as PromCounter,
  Histogram as PromHistogram,
  Registry,
  type RegistryContentType,
} from "prom-client";
import { passFamilies, queueFamilies, type PassMetrics, type QueueMetrics } from "./runtime-families.ts";
import { asArray, asText, at } from "../lib/json.ts";
import type { Counter, Gauge, Histogram, MetricLabels } from "../lib/telemetry.ts";
import { counter, gauge, histogram, scrapedGauge } from "./series.ts";
import { webhookFamilies, type WebhookMetrics } from "./webhook-families.ts";

/** Every family of spec 60 §6 that something in the process changes. */
export interface Metrics {
  readonly reconciles: Counter;
  readonly stagesApplied: Counter;
  readonly driftCorrected: Counter;
  readonly updateDeferred: Counter;
  readonly actionRuns: Counter;
  readonly ledgerAdoptions: Counter;
  readonly anchorErrors: Counter;
  readonly metricSourceErrors: Counter;
  readonly teardownForced: Counter;
  readonly inventorySkipped: Counter;
  readonly watchFailures: Counter;
  readonly gateRequests: Counter;
  readonly requests: Counter;
  readonly ready: Gauge;
  readonly promotionPending: Gauge;
  readonly promotionBlocked: Gauge;
  readonly phaseSeconds: Histogram;
  readonly artifactBytes: Histogram;
  readonly budgetRemaining: Gauge;
  readonly budgetFrozen: Gauge;
  readonly stageBudgetFrozen: Gauge;
  readonly leading: Gauge;
  readonly passes: PassMetrics;
  readonly webhook: WebhookMetrics;
  /** Series of `stageset_stage_ready`, read at scrape time. */
  stageReady(read: () => Iterable<readonly [MetricLabels, number]>): void;
  readonly queue: QueueMetrics;
  /** How short memory is, read at scrape time. */
  memoryPressure(read: () => number): void;
  /** Drops every series of a StageSet that is gone, but for teardowns that were forced (spec 60 §6 a). */
  forget(namespace: string, name: string): void;
  forgetStage(namespace: string, name: string, stage: string): void;
  /** What there is, for the reference. */
  families(): readonly MetricFamily[];
  render(format: "prometheus" | "openmetrics"): Promise<{ readonly contentType: string; readonly body: string }>;
}

export interface MetricFamily {
  readonly name: string;
  readonly type: string;
  readonly labels: readonly string[];
  readonly help: string;
}

const secondsBuckets = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 900];
const byteBuckets = [1e3, 1e4, 1e5, 1e6, 1e7, 6.4e7];

/** Label pairs of families that name StageSets differently for the sake of existing dashboards. */
const stageSetLabels = ["namespace", "stageset", "stage"] as const;

/** Why a finalizer may be dropped: values of `reason`. */
export const dropReasons = ["timed_out", "permanent", "unauthorized"] as const;

function dropKey({ namespace = "", name = "", reason = "" }: MetricLabels): string {
  return `${namespace}/${name}/${reason}`;
}

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
    updateDeferred: counter(registry, {
      name: "stageset_update_deferred_total",
      help: "Roll-outs that began to wait for an update window",
      labels: named,
    }),
    actionRuns: counter(registry, {
      name: "stageset_action_runs_total",
      help: "Pre and post actions that ran and are on record",
      labels: [...named, "scope"],
    }),
    ledgerAdoptions: counter(registry, {
      name: "stageset_ledger_adoptions_total",
      help: "New StageSets that found completed actions in their StageLedger",
      labels: named,
    }),
    anchorErrors: counter(registry, {
      name: "stageset_ledger_anchor_errors_total",
      help: "Reads of completion anchors that failed; the completion is kept",
      labels: named,
    }),
    metricSourceErrors: counter(registry, {
      name: "stageset_metric_source_errors_total",
      help: "Queries of metric sources that gave no usable number",
      labels: named,
    }),
    ready: gauge(registry, {
      name: "stageset_ready",
      help: "Ready status of the StageSet, by its reason",
      labels: [...named, "reason"],
    }),
    budgetRemaining: gauge(registry, {
      name: "stageset_budget_remaining",
      help: "Error budget of the StageSet as it was last read",
      labels: named,
    }),
    budgetFrozen: gauge(registry, {
      name: "stageset_budget_frozen",
      help: "1 while the error budget of the StageSet freezes it (0 in a dry run)",
      labels: named,
    }),
  };
  /** Families that name the StageSet in `stageset`. */
  const stageFamilies = {
    inventorySkipped: counter(registry, {
      name: "stageset_inventory_skipped_entries_total",
      help: "Inventory entries that could not be read",
      labels: stageSetLabels,
    }),
    promotionPending: gauge(registry, {
      name: "stageset_stage_promotion_pending",
      help: "1 while the stage is ready and its promotion gate holds the next one",
      labels: stageSetLabels,
    }),
    promotionBlocked: gauge(registry, {
      name: "stageset_stage_promotion_blocked",
      help: "1 while a check of the promotion gate of the stage fails",
      labels: stageSetLabels,
    }),
    stageBudgetFrozen: gauge(registry, {
      name: "stageset_stage_budget_frozen",
      help: "1 while the error budget of the stage freezes it (0 in a dry run)",
      labels: stageSetLabels,
    }),
  };
  const drops = counter(registry, {
    name: "stageset_teardown_force_drop_total",
    help: "Finalizers dropped although objects may remain",
    labels: [...named, "reason"],
  });
  // Which of them count something: those stay when the StageSet is gone.
  const dropped = new Set<string>();
  const teardownForced: Counter = {
    add(series, by = 1) {
      if (by > 0) dropped.add(dropKey(series));
      drops.add(series, by);
    },
    remove: (part) => drops.remove(part),
  };
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
    ...stageFamilies,
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
    passes: passFamilies(registry),
    webhook: webhookFamilies(registry),
    queue: queueFamilies(registry),
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
    memoryPressure: (read) =>
      scrapedGauge(
        registry,
        {
          name: "stageset_memory_pressure",
          help: "How short memory is: 0 not, 1 caches were dropped, 2 new passes wait",
          labels: [],
        },
        () => [[{}, read()]],
      ),
    forget(namespace, name) {
      for (const family of Object.values(families)) family.remove({ namespace, name });
      for (const family of Object.values(stageFamilies)) family.remove({ namespace, stageset: name });
      for (const reason of dropReasons)
        if (!dropped.has(dropKey({ namespace, name, reason }))) drops.remove({ namespace, name, reason });
    },
    forgetStage(namespace, name, stage) {
      families.stagesApplied.remove({ namespace, name, stage });
      families.driftCorrected.remove({ namespace, name, stage });
      for (const family of Object.values(stageFamilies)) family.remove({ namespace, stageset: name, stage });
    },
    families: () => {
      // The library knows them, its types do not say so.
      const known: readonly unknown[] = registry.getMetricsAsArray();
      return known.map((metric) => ({
        name: asText(at(metric, "name")) ?? "",
        type: asText(at(metric, "type")) ?? kindOf(metric),
        labels: asArray(at(metric, "labelNames")).flatMap((label) => asText(label) ?? []),
        help: asText(at(metric, "help")) ?? "",
      }));
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

function kindOf(metric: unknown): string {
  return metric instanceof PromHistogram ? "histogram" : metric instanceof PromCounter ? "counter" : "gauge";
}
