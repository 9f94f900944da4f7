import { readyReasons, type ReasonClass } from "../../src/api/reasons.ts";
import { reasonsOf } from "./rules.ts";

/** One panel; `$selector`, `$namespace`, `$stageset` and the objectives are the dashboard's variables. */
export interface Panel {
  readonly title: string;
  readonly kind: "stat" | "series" | "table";
  readonly unit: "percentunit" | "s" | "short" | "bytes" | "reqps" | "ops" | "dateTimeAsIso";
  /** Legend by query. */
  readonly queries: readonly { readonly expr: string; readonly legend: string }[];
  /** Colours from a value on; the first is for anything below. */
  readonly steps?: readonly { readonly from: number | null; readonly color: string }[];
  readonly stacked?: boolean;
}

export interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

const mine = '$selector,namespace=~"$namespace",name=~"$stageset"';
const staged = '$selector,namespace=~"$namespace",stageset=~"$stageset"';
const own = "$selector";
const failures = reasonsOf("failure");
const good = `sum(increase(stageset_reconcile_total{${mine},reason="Succeeded"}[$window]))`;
const counted = `sum(increase(stageset_reconcile_total{${mine},reason=~"Succeeded|${failures}"}[$window]))`;
const passBuckets = `sum by (le) (rate(controller_runtime_reconcile_time_seconds_bucket{${own},controller="stageset"}[$__rate_interval]))`;
/** More than one replica may export it: the highest counts (spec 60 §6 d). */
const ofStages = (family: string): string => `max by (namespace, stageset, stage) (${family}{${staged}})`;
const stageReady = ofStages("stageset_stage_ready");
const quantiles = (buckets: string): Panel["queries"] =>
  ["0.5", "0.95", "0.99"].map((q) => ({ expr: `histogram_quantile(${q}, ${buckets})`, legend: `p${Number(q) * 100}` }));
const rate = (family: string, by: string, matchers: string): string =>
  `sum by (${by}) (rate(${family}{${matchers}}[$__rate_interval]))`;

const classes = Object.keys({ healthy: 0, running: 0, hold: 0, waiting: 0, failure: 0 } satisfies Record<
  ReasonClass,
  0
>);
const ofClass = (wanted: string): string =>
  Object.entries(readyReasons)
    .filter(([, info]) => info.class === wanted)
    .map(([reason]) => reason)
    .join("|");

/** Everything this build measures, in the rows of spec 60 §11. */
export const rows: readonly Row[] = [
  {
    title: "SLO",
    panels: [
      {
        title: "Availability",
        kind: "stat",
        unit: "percentunit",
        queries: [{ expr: `${good} / ${counted}`, legend: "availability" }],
        steps: [
          { from: null, color: "red" },
          { from: 0.99, color: "green" },
        ],
      },
      {
        title: "Error budget remaining",
        kind: "stat",
        unit: "percentunit",
        queries: [
          { expr: `(${good} / ${counted} - $availabilityTarget) / (1 - $availabilityTarget)`, legend: "remaining" },
        ],
        steps: [
          { from: null, color: "red" },
          { from: 0, color: "orange" },
          { from: 0.25, color: "green" },
        ],
      },
      {
        title: "Pass time p95",
        kind: "stat",
        unit: "s",
        queries: [{ expr: `histogram_quantile(0.95, ${passBuckets})`, legend: "p95" }],
        steps: [
          { from: null, color: "green" },
          { from: 30, color: "red" },
        ],
      },
      {
        title: "Availability and its objective",
        kind: "series",
        unit: "percentunit",
        queries: [
          {
            expr: `sum(rate(stageset_reconcile_total{${mine},reason="Succeeded"}[1h])) / sum(rate(stageset_reconcile_total{${mine},reason=~"Succeeded|${failures}"}[1h]))`,
            legend: "availability",
          },
          { expr: "vector($availabilityTarget)", legend: "objective" },
        ],
      },
    ],
  },
  {
    title: "Fleet state",
    panels: [
      {
        title: "StageSets by class of their reason",
        kind: "series",
        unit: "short",
        stacked: true,
        queries: classes.map((name) => ({
          expr: `count(max by (namespace, name) (stageset_ready{${mine},reason=~"${ofClass(name)}"})) or vector(0)`,
          legend: name,
        })),
      },
      {
        title: "StageSets that are not Ready",
        kind: "table",
        unit: "short",
        queries: [{ expr: `max by (namespace, name, reason) (stageset_ready{${mine}}) == 0`, legend: "" }],
      },
      {
        title: "Stages ready of all",
        kind: "series",
        unit: "short",
        queries: [
          { expr: `sum(${stageReady})`, legend: "ready" },
          { expr: `count(${stageReady})`, legend: "all" },
        ],
      },
      {
        title: "Held promotions",
        kind: "series",
        unit: "short",
        queries: [
          { expr: `count(${ofStages("stageset_stage_promotion_pending")} == 1)`, legend: "held" },
          { expr: `count(${ofStages("stageset_stage_promotion_blocked")} == 1)`, legend: "of them blocked" },
        ],
      },
      {
        title: "Error budgets left",
        kind: "series",
        unit: "short",
        queries: [
          { expr: `min by (namespace, name) (stageset_budget_remaining{${mine}})`, legend: "{{namespace}}/{{name}}" },
        ],
      },
      {
        title: "Frozen by error budgets",
        kind: "series",
        unit: "short",
        queries: [
          { expr: `max by (namespace, name) (stageset_budget_frozen{${mine}}) == 1`, legend: "{{namespace}}/{{name}}" },
          {
            expr: `${ofStages("stageset_stage_budget_frozen")} == 1`,
            legend: "{{namespace}}/{{stageset}} {{stage}}",
          },
        ],
      },
    ],
  },
  {
    title: "Work",
    panels: [
      {
        title: "Passes by reason",
        kind: "series",
        unit: "ops",
        stacked: true,
        queries: [{ expr: rate("stageset_reconcile_total", "reason", mine), legend: "{{reason}}" }],
      },
      {
        title: "Pass time",
        kind: "series",
        unit: "s",
        queries: [...quantiles(passBuckets), { expr: "vector($latencyTarget)", legend: "objective" }],
      },
      {
        title: "Time by phase",
        kind: "series",
        unit: "s",
        stacked: true,
        queries: [{ expr: rate("stageset_stage_phase_seconds_sum", "phase", own), legend: "{{phase}}" }],
      },
      {
        title: "Stages applied",
        kind: "series",
        unit: "ops",
        queries: [{ expr: rate("stageset_stage_applied_total", "namespace", mine), legend: "{{namespace}}" }],
      },
      {
        title: "Actions run",
        kind: "series",
        unit: "ops",
        queries: [
          { expr: rate("stageset_action_runs_total", "scope", mine), legend: "{{scope}}" },
          {
            expr: rate("stageset_ledger_anchor_errors_total", "namespace", mine),
            legend: "unreadable anchor, {{namespace}}",
          },
        ],
      },
      {
        title: "Drift corrected",
        kind: "series",
        unit: "ops",
        queries: [{ expr: rate("stageset_drift_corrected_total", "namespace", mine), legend: "{{namespace}}" }],
      },
      {
        title: "Updates deferred",
        kind: "series",
        unit: "ops",
        queries: [{ expr: rate("stageset_update_deferred_total", "namespace", mine), legend: "{{namespace}}" }],
      },
      {
        title: "Gate answers",
        kind: "series",
        unit: "reqps",
        queries: [{ expr: rate("stageset_gate_requests_total", "code, reason", own), legend: "{{code}} {{reason}}" }],
      },
    ],
  },
  {
    title: "Controller",
    panels: [
      {
        title: "Work queue depth",
        kind: "series",
        unit: "short",
        queries: [{ expr: `sum by (controller) (workqueue_depth{${own}})`, legend: "{{controller}}" }],
      },
      {
        title: "Wait for a worker",
        kind: "series",
        unit: "s",
        queries: quantiles(rate("workqueue_queue_duration_seconds_bucket", "le", own)),
      },
      {
        title: "Longest running pass",
        kind: "series",
        unit: "s",
        queries: [{ expr: `max(workqueue_longest_running_processor_seconds{${own}})`, legend: "longest" }],
      },
      {
        title: "Workers",
        kind: "series",
        unit: "short",
        queries: [
          { expr: `sum(controller_runtime_active_workers{${own}})`, legend: "active" },
          { expr: `max(controller_runtime_max_concurrent_reconciles{${own}})`, legend: "most" },
        ],
      },
      {
        title: "Requests to API servers",
        kind: "series",
        unit: "reqps",
        stacked: true,
        queries: [{ expr: rate("rest_client_requests_total", "code", own), legend: "{{code}}" }],
      },
      {
        title: "Leader",
        kind: "series",
        unit: "short",
        queries: [
          { expr: `max by (pod, instance) (leader_election_master_status{${own}})`, legend: "{{pod}} {{instance}}" },
        ],
      },
      {
        title: "CPU",
        kind: "series",
        unit: "short",
        queries: [{ expr: rate("process_cpu_seconds_total", "pod, instance", own), legend: "{{pod}} {{instance}}" }],
      },
      {
        title: "Memory",
        kind: "series",
        unit: "bytes",
        queries: [
          { expr: `max by (pod, instance) (process_resident_memory_bytes{${own}})`, legend: "{{pod}} {{instance}}" },
        ],
      },
      {
        title: "Memory pressure (1: caches dropped, 2: passes wait)",
        kind: "series",
        unit: "short",
        queries: [
          { expr: `max by (pod, instance) (stageset_memory_pressure{${own}})`, legend: "{{pod}} {{instance}}" },
        ],
      },
      {
        title: "Restarts",
        kind: "series",
        unit: "short",
        queries: [{ expr: `sum(changes(process_start_time_seconds{${own}}[1h]))`, legend: "within an hour" }],
      },
    ],
  },
  {
    title: "Failures",
    panels: [
      {
        title: "Watches that fail",
        kind: "series",
        unit: "ops",
        queries: [{ expr: rate("stageset_watch_engagement_failures_total", "gvk", own), legend: "{{gvk}}" }],
      },
      {
        title: "Inventory entries skipped",
        kind: "series",
        unit: "ops",
        queries: [
          {
            expr: rate("stageset_inventory_skipped_entries_total", "namespace, stageset", staged),
            legend: "{{namespace}}/{{stageset}}",
          },
        ],
      },
      {
        title: "Finalizers dropped",
        kind: "series",
        unit: "ops",
        queries: [{ expr: rate("stageset_teardown_force_drop_total", "reason", mine), legend: "{{reason}}" }],
      },
      {
        title: "Errors of passes",
        kind: "series",
        unit: "ops",
        queries: [
          { expr: rate("controller_runtime_reconcile_errors_total", "controller", own), legend: "{{controller}}" },
        ],
      },
      {
        title: "Admission time",
        kind: "series",
        unit: "s",
        queries: quantiles(rate("controller_runtime_webhook_latency_seconds_bucket", "le", own)),
      },
      {
        title: "Admission answers",
        kind: "series",
        unit: "reqps",
        queries: [{ expr: rate("controller_runtime_webhook_requests_total", "code", own), legend: "{{code}}" }],
      },
      {
        title: "Certificate renewals that failed",
        kind: "series",
        unit: "ops",
        queries: [
          {
            expr: rate("stageset_webhook_cert_renewal_failures_total", "pod, instance", own),
            legend: "{{pod}} {{instance}}",
          },
        ],
      },
      {
        title: "Certificate expires",
        kind: "stat",
        unit: "dateTimeAsIso",
        queries: [{ expr: `1000 * min(stageset_webhook_cert_not_after_seconds{${own}})`, legend: "" }],
      },
    ],
  },
];

const datasource = { type: "prometheus", uid: "${datasource}" };
const panelHeight = 8;
const perLine = 3;

/** The dashboard as Grafana imports it. */
export function renderDashboard(): string {
  const panels: unknown[] = [];
  let y = 0;
  let id = 1;
  for (const { title, panels: members } of rows) {
    panels.push({ id: id++, type: "row", title, collapsed: false, gridPos: { x: 0, y, w: 24, h: 1 }, panels: [] });
    y++;
    const width = Math.floor(24 / perLine);
    members.forEach((panel, index) => {
      const gridPos = {
        x: (index % perLine) * width,
        y: y + Math.floor(index / perLine) * panelHeight,
        w: width,
        h: panelHeight,
      };
      panels.push(grafanaPanel(panel, { id: id++, gridPos }));
    });
    y += Math.ceil(members.length / perLine) * panelHeight;
  }
  const dashboard = {
    uid: "stageset-controller",
    title: "StageSet controller",
    tags: ["stageset", "controller", "slo"],
    schemaVersion: 39,
    version: 1,
    editable: true,
    refresh: "30s",
    time: { from: "now-6h", to: "now" },
    timezone: "",
    templating: { list: variables() },
    annotations: { list: [] },
    links: [],
    panels,
  };
  return `${JSON.stringify(dashboard, undefined, 2)}\n`;
}

function grafanaPanel(panel: Panel, place: { readonly id: number; readonly gridPos: unknown }): unknown {
  const type = { stat: "stat", series: "timeseries", table: "table" }[panel.kind];
  return {
    ...place,
    type,
    title: panel.title,
    datasource,
    targets: panel.queries.map(({ expr, legend }, index) => ({
      refId: String.fromCharCode(65 + index),
      datasource,
      expr,
      legendFormat: legend,
      ...(panel.kind === "series" ? { range: true } : { instant: true, range: false }),
      ...(panel.kind === "table" ? { format: "table" } : {}),
    })),
    fieldConfig: {
      defaults: {
        unit: panel.unit,
        ...(panel.steps === undefined
          ? {}
          : {
              color: { mode: "thresholds" },
              thresholds: { mode: "absolute", steps: panel.steps.map(({ from, color }) => ({ value: from, color })) },
            }),
        ...(panel.stacked === true ? { custom: { stacking: { mode: "normal", group: "A" }, fillOpacity: 30 } } : {}),
      },
      overrides: [],
    },
    ...(panel.kind === "stat" ? { options: statOptions } : {}),
    ...(panel.kind === "table"
      ? { transformations: [{ id: "organize", options: { excludeByName: { Value: true } } }] }
      : {}),
  };
}

/** Grafana's defaults, which its schema wants to be said. */
const statOptions = {
  reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false },
  graphMode: "area",
  colorMode: "value",
  justifyMode: "auto",
  textMode: "auto",
  wideLayout: true,
  showPercentChange: false,
  percentChangeColorMode: "standard",
  orientation: "auto",
};

function variables(): readonly unknown[] {
  const query = (name: string, label: string, of: string): unknown => ({
    name,
    label,
    type: "query",
    datasource,
    query: { query: of, refId: name },
    definition: of,
    refresh: 2,
    includeAll: true,
    allValue: ".*",
    multi: true,
    current: { selected: true, text: ["All"], value: ["$__all"] },
    sort: 1,
  });
  const text = (name: string, label: string, value: string): unknown => ({
    name,
    label,
    type: "textbox",
    query: value,
    current: { text: value, value },
    options: [{ text: value, value, selected: true }],
  });
  return [
    {
      name: "datasource",
      label: "Data source",
      type: "datasource",
      query: "prometheus",
      current: { selected: false, text: "default", value: "default" },
      refresh: 1,
    },
    text("selector", "Matchers of the installation, such as cluster or job", 'job=~".+"'),
    query("namespace", "Namespace", "label_values(stageset_stage_ready{$selector}, namespace)"),
    query("stageset", "StageSet", 'label_values(stageset_stage_ready{$selector,namespace=~"$namespace"}, stageset)'),
    text("window", "Window of the objectives", "28d"),
    text("availabilityTarget", "Objective of availability", "0.99"),
    text("latencyTarget", "Objective of pass time, seconds", "30"),
  ];
}
