import { readyReasons, type ReadyReason, type ReasonClass } from "../../src/api/reasons.ts";
import type { SignalRunbook } from "../../src/api/runbook.ts";

/** Numbers and times an operator sets: keys of `metrics.prometheusRule.thresholds`, with their defaults (spec 60 §10). */
export const thresholds = {
  reconcileErrorRate: "0.1",
  reconcileErrorDuration: "10m",
  workqueueDepth: "50",
  workqueueDuration: "15m",
  memoryPressureDuration: "10m",
  reconcileLatencySeconds: "30",
  reconcileLatencyDuration: "15m",
  podDownDuration: "5m",
  webhookCertRenewalFailuresPerHour: "1",
  webhookCertRenewalFailuresDuration: "30m",
  watchEngagementFailuresPerHour: "1",
  watchEngagementFailuresDuration: "30m",
  budgetFrozenDuration: "15m",
  promotionBlockedDuration: "10m",
  promotionPendingDuration: "1h",
  metricSourceErrorsPerHour: "3",
  metricSourceErrorsDuration: "15m",
  waitingDuration: "1h",
  noLeaderDuration: "2m",
} as const;

export type Threshold = keyof typeof thresholds;

/** Where the rules are used: literal values, or expressions of a chart. */
export interface RuleContext {
  /** Label matchers of this installation's series, without braces. */
  readonly selector: string;
  readonly namespace: string;
  readonly deployment: string;
  /** Of the SLO rules; 0 to 1. */
  readonly availabilityTarget: string;
  /** Seconds. */
  readonly latencyTarget: string;
  readonly threshold: (key: Threshold) => string;
}

/** Prometheus' own templates stand in double square brackets here; whoever renders a rule puts in the braces. */
export interface AlertRule {
  readonly alert: string;
  readonly severity: "warning" | "critical";
  readonly expr: string;
  readonly for: string;
  /** Id of a page; `reason`: that of the label `reason`. */
  readonly runbook: SignalRunbook | Lowercase<ReadyReason> | "reason";
  readonly summary: string;
  readonly description: string;
  /** A condition of the installation without which the rule is left out. */
  readonly only?: "leader election" | "webhook";
}

export interface RecordingRule {
  readonly record: string;
  readonly expr: string;
}

export interface RuleGroup {
  readonly name: string;
  readonly rules: readonly AlertRule[];
}

/** A regular expression of the reasons of a class. */
export function reasonsOf(wanted: ReasonClass): string {
  return Object.entries(readyReasons)
    .filter(([, info]) => info.class === wanted)
    .map(([reason]) => reason)
    .join("|");
}

const failures = reasonsOf("failure");
const waiting = reasonsOf("waiting");
const stageSet = "StageSet [[ $labels.namespace ]]/[[ $labels.name ]]";

/** Every alert on something this build measures. */
export function alertGroups(of: RuleContext): readonly RuleGroup[] {
  return [
    { name: "stageset-health", rules: healthRules(of) },
    { name: "stageset-availability", rules: [...workRules(of), ...processRules(of), ...webhookRules(of)] },
    { name: "stageset-rollout-gates", rules: rolloutGateRules(of) },
  ];
}

function healthRules({ selector, threshold }: RuleContext): readonly AlertRule[] {
  return [
    {
      alert: "StageSetReconcileErrorsHigh",
      severity: "warning",
      // Many failures a second, or one that stays: a slowly retried failure pages too.
      expr:
        `sum by (namespace, name, reason) (rate(stageset_reconcile_total{${selector},reason=~"${failures}"}[5m])) > ${threshold("reconcileErrorRate")}\n` +
        `or max by (namespace, name, reason) (stageset_ready{${selector},reason=~"${failures}"}) == 0`,
      for: threshold("reconcileErrorDuration"),
      runbook: "reason",
      summary: `${stageSet} fails: [[ $labels.reason ]]`,
      description: "Its Ready condition says why, and links to what helps.",
    },
    {
      alert: "StageSetWaitingTooLong",
      severity: "warning",
      expr: `max by (namespace, name, reason) (stageset_ready{${selector},reason=~"${waiting}"}) == 0`,
      for: threshold("waitingDuration"),
      runbook: "waiting-too-long",
      summary: `${stageSet} has been waiting for long: [[ $labels.reason ]]`,
      description: "What it waits for should have come by itself: the source, the dependency or the workload is stuck.",
    },
    {
      alert: "StageSetTeardownForced",
      severity: "warning",
      expr: `sum by (namespace, name, reason) (increase(stageset_teardown_force_drop_total{${selector}}[1h])) > 0`,
      for: "0m",
      runbook: "teardown-forced",
      summary: `${stageSet} went while objects of it may remain ([[ $labels.reason ]])`,
      description: "Its Event TeardownForced names what was left and the last error.",
    },
    {
      alert: "StageSetInventoryCorrupt",
      severity: "warning",
      expr: `sum by (namespace, stageset, stage) (increase(stageset_inventory_skipped_entries_total{${selector}}[1h])) > 0`,
      for: "0m",
      runbook: "inventory-corrupt",
      summary:
        "The inventory of stage [[ $labels.stage ]] of [[ $labels.namespace ]]/[[ $labels.stageset ]] has entries that cannot be read",
      description: "What they named is not pruned any more. The log names the entries.",
    },
  ];
}

function rolloutGateRules({ selector, threshold }: RuleContext): readonly AlertRule[] {
  return [
    {
      alert: "StageSetBudgetFrozen",
      severity: "warning",
      expr: `max by (namespace, name) (stageset_budget_frozen{${selector}}) == 1`,
      for: threshold("budgetFrozenDuration"),
      runbook: "budgetexhausted",
      summary: `${stageSet} is frozen by its error budget`,
      description: "A new revision waits until the budget recovers, or an override lets it through.",
    },
    {
      alert: "StageSetStageBudgetFrozen",
      severity: "warning",
      expr: `max by (namespace, stageset, stage) (stageset_stage_budget_frozen{${selector}}) == 1`,
      for: threshold("budgetFrozenDuration"),
      runbook: "budgetexhausted",
      summary:
        "Stage [[ $labels.stage ]] of [[ $labels.namespace ]]/[[ $labels.stageset ]] is frozen by its error budget",
      description: "The stage and those after it wait until the budget recovers, or an override lets them through.",
    },
    {
      alert: "StageSetPromotionBlocked",
      severity: "warning",
      expr: `max by (namespace, stageset, stage) (stageset_stage_promotion_blocked{${selector}}) == 1`,
      for: threshold("promotionBlockedDuration"),
      runbook: "promotionblocked",
      summary:
        "The promotion of stage [[ $labels.stage ]] of [[ $labels.namespace ]]/[[ $labels.stageset ]] is blocked",
      description: "Metrics, restarts or Warning Events are out of bounds; the stages after it keep what they run.",
    },
    {
      alert: "StageSetPromotionStuck",
      severity: "warning",
      expr: `max by (namespace, stageset, stage) (stageset_stage_promotion_pending{${selector}}) == 1`,
      for: threshold("promotionPendingDuration"),
      runbook: "awaitingpromotion",
      summary:
        "Stage [[ $labels.stage ]] of [[ $labels.namespace ]]/[[ $labels.stageset ]] has not been promoted for long",
      description: "It soaks, is analyzed, waits for somebody to promote it, or is blocked.",
    },
    {
      alert: "StageSetMetricSourceUnavailable",
      severity: "warning",
      expr: `sum by (namespace, name) (increase(stageset_metric_source_errors_total{${selector}}[1h])) > ${threshold("metricSourceErrorsPerHour")}`,
      for: threshold("metricSourceErrorsDuration"),
      runbook: "budgetsourceunavailable",
      summary: `A metric source of ${stageSet} gives no number`,
      description: "Depending on onSourceError its releases go on unguarded, or wait.",
    },
  ];
}

function workRules({ selector, threshold }: RuleContext): readonly AlertRule[] {
  return [
    {
      alert: "StageSetControllerWorkqueueDepthHigh",
      severity: "warning",
      expr: `sum(workqueue_depth{${selector},controller="stageset"}) > ${threshold("workqueueDepth")}`,
      for: threshold("workqueueDuration"),
      runbook: "workqueue-saturation",
      summary: "[[ $value ]] StageSets wait for a worker",
      description: "More work comes in than the workers can do.",
    },
    {
      alert: "StageSetControllerMemoryShort",
      severity: "warning",
      expr: `max(stageset_memory_pressure{${selector}}) == 2`,
      for: threshold("memoryPressureDuration"),
      runbook: "memory-pressure",
      summary: "Passes wait because the controller's memory is nearly full",
      description: "Releases go on one at a time until there is room.",
    },
    {
      alert: "StageSetReconcileLatencyHigh",
      severity: "warning",
      expr: `histogram_quantile(0.99, sum by (le) (rate(controller_runtime_reconcile_time_seconds_bucket{${selector},controller="stageset"}[10m]))) > ${threshold("reconcileLatencySeconds")}`,
      for: threshold("reconcileLatencyDuration"),
      runbook: "reconcile-latency",
      summary: "One pass in a hundred takes longer than [[ $value | humanizeDuration ]]",
      description: "Waiting does not count, so fetching, building or the API server is slow.",
    },
    {
      alert: "StageSetWatchEngagementFailing",
      severity: "warning",
      expr: `sum by (gvk) (increase(stageset_watch_engagement_failures_total{${selector}}[1h])) > ${threshold("watchEngagementFailuresPerHour")}`,
      for: threshold("watchEngagementFailuresDuration"),
      runbook: "watch-engagement",
      summary: "Changes of [[ $labels.gvk ]] go unnoticed",
      description:
        "The controller cannot list or watch the kind; StageSets learn of changes at their next interval only.",
    },
  ];
}

function processRules({ selector, threshold, namespace, deployment }: RuleContext): readonly AlertRule[] {
  const available = `kube_deployment_status_replicas_available{namespace="${namespace}",deployment="${deployment}"}`;
  const wanted = `kube_deployment_spec_replicas{namespace="${namespace}",deployment="${deployment}"}`;
  return [
    {
      alert: "StageSetControllerPodDown",
      severity: "critical",
      expr: `${available} < ${wanted}\nor ${available} == 0\nor absent(${available})`,
      for: threshold("podDownDuration"),
      runbook: "controller-pod-down",
      summary: "Fewer controller pods are available than wanted",
      description: "Without any, nothing is reconciled, gates answer nothing and writes of StageSets may be refused.",
    },
    {
      alert: "StageSetNoLeader",
      severity: "critical",
      expr: `max(leader_election_master_status{${selector}}) == 0\nor absent(leader_election_master_status{${selector}})`,
      for: threshold("noLeaderDuration"),
      runbook: "no-leader",
      summary: "No replica leads",
      description: "Nothing is reconciled until one of them gets the lease.",
      only: "leader election",
    },
  ];
}

function webhookRules({ selector, threshold }: RuleContext): readonly AlertRule[] {
  const renewals = `stageset_webhook_cert_renewal_failures_total{${selector}}`;
  return [
    {
      alert: "StageSetWebhookCertRenewalFailing",
      severity: "critical",
      // Renewal begins when a third of the validity is left: a failed one that none followed is that late.
      expr:
        `sum(increase(${renewals}[1h])) > ${threshold("webhookCertRenewalFailuresPerHour")}\n` +
        `or (sum(increase(${renewals}[1d])) > 0 unless sum(changes(stageset_webhook_cert_not_after_seconds{${selector}}[1d])) > 0)`,
      for: threshold("webhookCertRenewalFailuresDuration"),
      runbook: "webhook-cert-renewal",
      summary: "The certificate of the admission webhook cannot be renewed",
      description: "When it expires, writes of StageSets are refused.",
      only: "webhook",
    },
    {
      alert: "StageSetWebhookDown",
      severity: "critical",
      expr:
        `sum(rate(controller_runtime_webhook_requests_total{${selector},code=~"5.."}[5m])) > 0\n` +
        `or histogram_quantile(0.99, sum by (le) (rate(controller_runtime_webhook_latency_seconds_bucket{${selector}}[5m]))) > 5`,
      for: "5m",
      runbook: "webhook-down",
      summary: "The admission webhook fails or takes longer than 5 s",
      description: "Writes of StageSets are refused or late.",
      only: "webhook",
    },
  ];
}

const windows = ["5m", "30m", "1h", "6h", "28d"] as const;

/** What the objectives are measured by. */
export function recordingRules({ selector }: RuleContext): readonly RecordingRule[] {
  const passes = (reasons: string, window: string): string =>
    `sum(increase(stageset_reconcile_total{${selector},reason=~"${reasons}"}[${window}]))`;
  const admitted = (code: string, window: string): string =>
    `sum(increase(controller_runtime_webhook_requests_total{${selector}${code}}[${window}]))`;
  return [
    ...windows.map((window) => ({
      record: `stageset:availability:ratio_${window}`,
      expr: `${passes("Succeeded", window)}\n/ ${passes(`Succeeded|${failures}`, window)}`,
    })),
    ...windows.slice(0, -1).map((window) => ({
      record: `stageset:reconcile_seconds:p95_${window}`,
      expr: `histogram_quantile(0.95, sum by (le) (rate(controller_runtime_reconcile_time_seconds_bucket{${selector},controller="stageset"}[${window}])))`,
    })),
    ...windows.map((window) => ({
      record: `stageset:admission:ratio_${window}`,
      expr: `1 - (${admitted(',code=~"5.."', window)} or vector(0))\n/ ${admitted("", window)}`,
    })),
  ];
}

/** Budgets that burn too fast: 14.4 × over an hour, 6 × over six, each confirmed by a short window. */
export function burnRules({ selector, availabilityTarget, latencyTarget }: RuleContext): readonly AlertRule[] {
  const burn = (series: string, target: string, o: { long: string; short: string; factor: number }): string =>
    `(1 - stageset:${series}:ratio_${o.long}{${selector}}) > ${o.factor} * (1 - ${target})\n` +
    `and (1 - stageset:${series}:ratio_${o.short}{${selector}}) > ${o.factor} * (1 - ${target})`;
  const fast = { long: "1h", short: "5m", factor: 14.4 };
  const slow = { long: "6h", short: "30m", factor: 6 };
  const rule = (
    alert: string,
    severity: AlertRule["severity"],
    o: { readonly expr: string; readonly runbook: AlertRule["runbook"]; readonly summary: string },
  ): AlertRule => ({
    alert,
    severity,
    for: "2m",
    description: "At this pace the error budget of 28 days is used up early.",
    ...o,
  });
  return [
    rule("StageSetAvailabilityBurnFast", "critical", {
      expr: burn("availability", availabilityTarget, fast),
      runbook: "stagefailed",
      summary: "Passes fail 14.4 times faster than the objective allows",
    }),
    rule("StageSetAvailabilityBurnSlow", "warning", {
      expr: burn("availability", availabilityTarget, slow),
      runbook: "stagefailed",
      summary: "Passes fail 6 times faster than the objective allows",
    }),
    rule("StageSetLatencyObjectiveMissed", "warning", {
      expr: `stageset:reconcile_seconds:p95_1h{${selector}} > ${latencyTarget}\nand stageset:reconcile_seconds:p95_5m{${selector}} > ${latencyTarget}`,
      runbook: "reconcile-latency",
      summary: "One pass in twenty takes longer than the objective allows",
    }),
    rule("StageSetAdmissionBurnFast", "critical", {
      expr: burn("admission", "0.999", fast),
      runbook: "webhook-down",
      summary: "Admission fails 14.4 times faster than the objective allows",
    }),
    rule("StageSetAdmissionBurnSlow", "warning", {
      expr: burn("admission", "0.999", slow),
      runbook: "webhook-down",
      summary: "Admission fails 6 times faster than the objective allows",
    }),
  ];
}
