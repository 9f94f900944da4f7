import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse, parseAllDocuments, stringify } from "yaml";
import { toolPath } from "../../src/dev/tools.ts";
import { asArray, at } from "../../src/lib/json.ts";
import { prometheusPath } from "../../src/dev/debian-package.ts";
import { runbookIds } from "../../src/api/runbook.ts";
import { alertGroups, burnRules, thresholds, type RuleContext } from "../../scripts/monitoring/rules.ts";

const run = promisify(execFile);
const rules = fileURLToPath(new URL("../../config/monitoring/alerts.yaml", import.meta.url));
const selector = 'job="stageset-system/stageset-controller"';

/** Series with their values each minute, in promtool's notation, and which alerts fire after `minutes`. */
interface Row {
  readonly title: string;
  readonly series: Readonly<Record<string, string>>;
  readonly minutes: number;
  readonly fires: Readonly<Record<string, number>>;
}

const of = (family: string, labels = ""): string => `${family}{${selector}${labels === "" ? "" : `,${labels}`}}`;
const app = (family: string, reason: string): string => of(family, `namespace="apps",name="web",reason="${reason}"`);
const passes = (le: string): string =>
  of("controller_runtime_reconcile_time_seconds_bucket", `controller="stageset",le="${le}"`);
const admission = (le: string): string => of("controller_runtime_webhook_latency_seconds_bucket", `le="${le}"`);
const deployment = 'namespace="stageset-system",deployment="stageset-controller"';
const available = `kube_deployment_status_replicas_available{${deployment}}`;
const wanted = `kube_deployment_spec_replicas{${deployment}}`;
const other = (text: string): string => text.replace("stageset-system/", "other/");
/** What a healthy installation exports, so that nothing fires for want of it. */
const healthy = {
  [available]: "2x1600",
  [wanted]: "2x1600",
  [of("leader_election_master_status", 'pod="a"')]: "1x1600",
};

const rows: readonly Row[] = [
  {
    title: "nothing fires for a healthy installation",
    series: {
      ...healthy,
      [app("stageset_ready", "Succeeded")]: "1x1600",
      [of("workqueue_depth", 'controller="stageset"')]: "3x1600",
    },
    minutes: 120,
    fires: {},
  },
  {
    title: "a StageSet that fails once in 16 minutes",
    series: {
      ...healthy,
      [app("stageset_reconcile_total", "StageFailed")]: Array.from({ length: 60 }, (_, minute) =>
        Math.floor(minute / 16),
      ).join(" "),
      [app("stageset_ready", "StageFailed")]: "0x60",
    },
    minutes: 30,
    fires: { StageSetReconcileErrorsHigh: 1 },
  },
  {
    title: "many failures a second, whatever Ready is at the moment",
    series: { ...healthy, [app("stageset_reconcile_total", "RBACDenied")]: "0+12x60" },
    minutes: 30,
    fires: { StageSetReconcileErrorsHigh: 1 },
  },
  {
    title: "holds, waits and a suspended StageSet are no failures",
    series: {
      ...healthy,
      [app("stageset_ready", "UpdateDeferred")]: "0x300",
      [app("stageset_ready", "AwaitingPromotion")]: "0x300",
      [app("stageset_ready", "Suspended")]: "0x300",
      [app("stageset_ready", "Progressing")]: "0x300",
      [app("stageset_reconcile_total", "UpdateDeferred")]: "0+60x300",
      [app("stageset_reconcile_total", "Succeeded")]: "0+60x300",
    },
    minutes: 200,
    fires: {},
  },
  {
    title: "a failure shorter than ten minutes",
    series: { ...healthy, [app("stageset_ready", "StageFailed")]: "0x5 _x60" },
    minutes: 12,
    fires: {},
  },
  {
    title: "a wait of an hour",
    series: { ...healthy, [app("stageset_ready", "SourceNotReady")]: "0x90" },
    minutes: 70,
    fires: { StageSetWaitingTooLong: 1 },
  },
  {
    title: "a wait of half an hour",
    series: { ...healthy, [app("stageset_ready", "SourceNotReady")]: "0x30" },
    minutes: 40,
    fires: {},
  },
  {
    title: "a finalizer that was dropped, counted from 0",
    series: { ...healthy, [app("stageset_teardown_force_drop_total", "timed_out")]: "0x10 1x60" },
    minutes: 12,
    fires: { StageSetTeardownForced: 1 },
  },
  {
    title: "a finalizer that was dropped two hours ago",
    series: { ...healthy, [app("stageset_teardown_force_drop_total", "timed_out")]: "0x10 1x160" },
    minutes: 140,
    fires: {},
  },
  {
    title: "an inventory entry that cannot be read",
    series: {
      ...healthy,
      [of("stageset_inventory_skipped_entries_total", 'namespace="apps",stageset="web",stage="one"')]: "0x5 1x20",
    },
    minutes: 8,
    fires: { StageSetInventoryCorrupt: 1 },
  },
  {
    title: "budgets that freeze for a quarter of an hour",
    series: {
      ...healthy,
      [of("stageset_budget_frozen", 'namespace="apps",name="web"')]: "1x60",
      [of("stageset_stage_budget_frozen", 'namespace="apps",stageset="web",stage="two"')]: "1x60",
    },
    minutes: 20,
    fires: { StageSetBudgetFrozen: 1, StageSetStageBudgetFrozen: 1 },
  },
  {
    title: "budgets that freeze for ten minutes, and one that does not",
    series: {
      ...healthy,
      [of("stageset_budget_frozen", 'namespace="apps",name="web"')]: "1x9 0x60",
      [of("stageset_stage_budget_frozen", 'namespace="apps",stageset="web",stage="two"')]: "0x60",
    },
    minutes: 20,
    fires: {},
  },
  {
    title: "a promotion that is blocked for ten minutes, and one that is held for an hour",
    series: {
      ...healthy,
      [of("stageset_stage_promotion_blocked", 'namespace="apps",stageset="web",stage="two"')]: "1x90",
      [of("stageset_stage_promotion_pending", 'namespace="apps",stageset="web",stage="two"')]: "1x90",
    },
    minutes: 65,
    fires: { StageSetPromotionBlocked: 1, StageSetPromotionStuck: 1 },
  },
  {
    title: "promotions that are blocked and held for less long",
    series: {
      ...healthy,
      [of("stageset_stage_promotion_blocked", 'namespace="apps",stageset="web",stage="two"')]: "1x8 0x60",
      [of("stageset_stage_promotion_pending", 'namespace="apps",stageset="web",stage="two"')]: "1x50 0x60",
    },
    minutes: 65,
    fires: {},
  },
  {
    title: "a metric source that fails every ten minutes",
    series: {
      ...healthy,
      [of("stageset_metric_source_errors_total", 'namespace="apps",name="web"')]: Array.from(
        { length: 200 },
        (_, minute) => Math.floor(minute / 10),
      ).join(" "),
    },
    minutes: 120,
    fires: { StageSetMetricSourceUnavailable: 1 },
  },
  {
    title: "a metric source that failed three times",
    series: { ...healthy, [of("stageset_metric_source_errors_total", 'namespace="apps",name="web"')]: "0x10 3x160" },
    minutes: 60,
    fires: {},
  },
  {
    title: "more StageSets wait than the threshold, on two replicas together",
    series: {
      ...healthy,
      [of("workqueue_depth", 'controller="stageset",pod="a"')]: "30x60",
      [of("workqueue_depth", 'controller="stageset",pod="b"')]: "30x60",
    },
    minutes: 20,
    fires: { StageSetControllerWorkqueueDepthHigh: 1 },
  },
  {
    title: "as many StageSets wait as the threshold allows",
    series: { ...healthy, [of("workqueue_depth", 'controller="stageset"')]: "50x60" },
    minutes: 20,
    fires: {},
  },
  {
    title: "memory that stays short on one replica",
    series: {
      ...healthy,
      [of("stageset_memory_pressure", 'pod="a"')]: "2x60",
      [of("stageset_memory_pressure", 'pod="b"')]: "0x60",
    },
    minutes: 20,
    fires: { StageSetControllerMemoryShort: 1 },
  },
  {
    title: "caches that were dropped, and passes that waited for some minutes",
    series: { ...healthy, [of("stageset_memory_pressure", "")]: "1x10 2x8 1x40" },
    minutes: 50,
    fires: {},
  },
  {
    title: "slow passes",
    series: { ...healthy, [passes("30")]: "0x60", [passes("60")]: "0+10x60", [passes("+Inf")]: "0+10x60" },
    minutes: 30,
    fires: { StageSetReconcileLatencyHigh: 1, StageSetLatencyObjectiveMissed: 1 },
  },
  {
    title: "quick passes",
    series: { ...healthy, [passes("30")]: "0+10x60", [passes("60")]: "0+10x60", [passes("+Inf")]: "0+10x60" },
    minutes: 30,
    fires: {},
  },
  {
    title: "a kind that cannot be watched",
    series: { ...healthy, [of("stageset_watch_engagement_failures_total", 'gvk="g/v1, Kind=K"')]: "0+1x90" },
    minutes: 60,
    fires: { StageSetWatchEngagementFailing: 1 },
  },
  {
    title: "a watch that failed once",
    series: { ...healthy, [of("stageset_watch_engagement_failures_total", 'gvk="g/v1, Kind=K"')]: "0x10 1x90" },
    minutes: 60,
    fires: {},
  },
  {
    title: "one pod of two",
    series: { ...healthy, [available]: "1x60" },
    minutes: 10,
    fires: { StageSetControllerPodDown: 1 },
  },
  {
    title: "no pod and none wanted",
    series: { ...healthy, [available]: "0x60", [wanted]: "0x60" },
    minutes: 10,
    fires: { StageSetControllerPodDown: 1 },
  },
  {
    title: "nobody tells of the Deployment, and nobody leads",
    series: { [of("up")]: "1x60" },
    minutes: 10,
    fires: { StageSetControllerPodDown: 1, StageSetNoLeader: 1 },
  },
  {
    title: "two replicas and no leader",
    series: {
      [available]: "2x60",
      [wanted]: "2x60",
      [of("leader_election_master_status", 'pod="a"')]: "0x60",
      [of("leader_election_master_status", 'pod="b"')]: "0x60",
    },
    minutes: 5,
    fires: { StageSetNoLeader: 1 },
  },
  {
    title: "a change of leaders",
    series: {
      [available]: "2x60",
      [wanted]: "2x60",
      [of("leader_election_master_status", 'pod="a"')]: "1x3 0x60",
      [of("leader_election_master_status", 'pod="b"')]: "0x4 1x60",
    },
    minutes: 6,
    fires: {},
  },
  {
    title: "certificate renewals fail again and again",
    series: { ...healthy, [of("stageset_webhook_cert_renewal_failures_total")]: "0+1x120" },
    minutes: 60,
    fires: { StageSetWebhookCertRenewalFailing: 1 },
  },
  {
    title: "one renewal failed and none followed",
    series: {
      ...healthy,
      [of("stageset_webhook_cert_renewal_failures_total")]: "0x10 1x300",
      [of("stageset_webhook_cert_not_after_seconds")]: "5000x300",
    },
    minutes: 200,
    fires: { StageSetWebhookCertRenewalFailing: 1 },
  },
  {
    title: "one renewal failed and the next succeeded",
    series: {
      ...healthy,
      [of("stageset_webhook_cert_renewal_failures_total")]: "0x10 1x300",
      [of("stageset_webhook_cert_not_after_seconds")]: "5000x20 9000x300",
    },
    minutes: 200,
    fires: {},
  },
  {
    title: "admission answers with errors",
    series: { ...healthy, [of("controller_runtime_webhook_requests_total", 'code="500"')]: "0+1x60" },
    minutes: 15,
    fires: { StageSetWebhookDown: 1, StageSetAdmissionBurnFast: 1, StageSetAdmissionBurnSlow: 1 },
  },
  {
    title: "admission takes long",
    series: { ...healthy, [admission("5")]: "0x60", [admission("10")]: "0+9x60", [admission("+Inf")]: "0+9x60" },
    minutes: 15,
    fires: { StageSetWebhookDown: 1 },
  },
  {
    title: "admission refuses and answers in time",
    series: {
      ...healthy,
      [of("controller_runtime_webhook_requests_total", 'code="200"')]: "0+9x60",
      [admission("5")]: "0+9x60",
      [admission("+Inf")]: "0+9x60",
    },
    minutes: 15,
    fires: {},
  },
  {
    title: "one pass in five fails",
    series: {
      ...healthy,
      [app("stageset_reconcile_total", "Succeeded")]: "0+4x400",
      [app("stageset_reconcile_total", "StageFailed")]: "0+1x400",
    },
    minutes: 390,
    fires: { StageSetAvailabilityBurnFast: 1, StageSetAvailabilityBurnSlow: 1 },
  },
  {
    title: "one pass in a hundred fails",
    series: {
      ...healthy,
      [app("stageset_reconcile_total", "Succeeded")]: "0+99x400",
      [app("stageset_reconcile_total", "StageFailed")]: "0+1x400",
    },
    minutes: 390,
    fires: {},
  },
  {
    title: "one pass in twenty is slower than the objective, for an hour",
    series: { ...healthy, [passes("30")]: "0+90x90", [passes("60")]: "0+100x90", [passes("+Inf")]: "0+100x90" },
    minutes: 9,
    fires: { StageSetLatencyObjectiveMissed: 1 },
  },
  {
    title: "one answer of admission in fifty is an error",
    series: {
      ...healthy,
      [of("controller_runtime_webhook_requests_total", 'code="200"')]: "0+49x400",
      [of("controller_runtime_webhook_requests_total", 'code="500"')]: "0+1x400",
    },
    minutes: 390,
    fires: { StageSetAdmissionBurnFast: 1, StageSetAdmissionBurnSlow: 1, StageSetWebhookDown: 1 },
  },
  {
    title: "another installation is not ours",
    series: {
      ...healthy,
      [other(app("stageset_ready", "StageFailed"))]: "0x90",
      [other(app("stageset_reconcile_total", "StageFailed"))]: "0+60x90",
      [other(of("workqueue_depth", 'controller="stageset"'))]: "500x90",
      [other(of("leader_election_master_status"))]: "0x90",
    },
    minutes: 80,
    fires: {},
  },
];

const context: RuleContext = {
  selector,
  namespace: "n",
  deployment: "d",
  availabilityTarget: "0.99",
  latencyTarget: "30",
  threshold: (key) => thresholds[key],
};
const alerts = [...alertGroups(context).flatMap((group) => group.rules), ...burnRules(context)];

let dir = "";
let promtool = "";
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "alerts-"));
  promtool = join(dirname(await prometheusPath()), "promtool");
}, 240_000);
afterAll(() => rm(dir, { recursive: true, force: true }));

test("[60.17] every alert fires on its failing series, and not on those that hold, wait or are well", async () => {
  for (const { alert } of alerts)
    expect(
      rows.some((row) => alert in row.fires),
      alert,
    ).toBe(true);
  // Long stories are evaluated less often, which is quicker.
  const [long, short] = [rows.filter((row) => row.minutes > 150), rows.filter((row) => row.minutes <= 150)];
  const [first, second] = await Promise.all([verdictOn(short, "1m"), verdictOn(long, "5m")]);
  expect(first).toBe("");
  expect(second).toBe("");
}, 120_000);

async function verdictOn(some: readonly Row[], every: string): Promise<string> {
  const tests = some.map(({ title, series, minutes, fires }) => ({
    name: title,
    interval: "1m",
    input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
    promql_expr_test: [
      {
        expr: 'count by (alertname) (ALERTS{alertstate="firing"})',
        eval_time: `${minutes}m`,
        exp_samples: Object.entries(fires).map(([alert, value]) => ({ labels: `{alertname="${alert}"}`, value })),
      },
    ],
  }));
  return promtoolSays({ rule_files: [rules], evaluation_interval: every, tests });
}

/** What promtool finds wrong; empty when nothing is. */
async function promtoolSays(tests: unknown): Promise<string> {
  const file = join(dir, `${randomUUID()}.yaml`);
  await writeFile(file, stringify(tests));
  const { stdout, stderr } = await run(promtool, ["test", "rules", file]).catch(
    // A run that ends with an exit code other than 0 rejects with what was written.
    (error: unknown) => error as { stdout: string; stderr: string },
  );
  return stdout.includes("SUCCESS") ? "" : `${stdout}\n${stderr}`;
}

test("an alert names the StageSet and links to the page of its reason", async () => {
  const labels = { namespace: "apps", name: "web", reason: "RBACDenied", severity: "warning" };
  const alert = {
    alertname: "StageSetReconcileErrorsHigh",
    eval_time: "30m",
    exp_alerts: [
      {
        exp_labels: labels,
        exp_annotations: {
          summary: "StageSet apps/web fails: RBACDenied",
          description: "Its Ready condition says why, and links to what helps.",
          runbook_url: "docs/runbooks/rbacdenied.md",
        },
      },
    ],
  };
  const series = [{ series: app("stageset_ready", "RBACDenied"), values: "0x60" }];
  const tests = [{ interval: "1m", input_series: series, alert_rule_test: [alert] }];
  expect(await promtoolSays({ rule_files: [rules], tests })).toBe("");
}, 120_000);

test("the chart renders the same rules, under the names and thresholds of its values", async () => {
  const render = async (sets: readonly string[]): Promise<readonly unknown[]> => {
    const chart = fileURLToPath(new URL("../../charts/stageset-controller", import.meta.url));
    const values = ["metrics.prometheusRule.enabled=true", "metrics.prometheusRule.slo.enabled=true", ...sets];
    const args = ["template", "r", chart, "-n", "stageset-system", "-s", "templates/monitoring.yaml"];
    const { stdout } = await run(await toolPath("helm"), [...args, ...values.flatMap((value) => ["--set", value])]);
    const manifests: readonly unknown[] = parseAllDocuments(stdout).map((document) => document.toJSON() as unknown);
    const groups = at(
      manifests.find((each) => at(each, "kind") === "PrometheusRule"),
      "spec",
      "groups",
    );
    return asArray(groups).flatMap((group) => asArray(at(group, "rules")));
  };
  const plain: unknown = parse(await readFile(rules, "utf8"));
  const expected = asArray(at(plain, "groups")).flatMap((group) => asArray(at(group, "rules")));
  expect(await render([])).toEqual(expected);
  const [first] = await render([
    "metrics.prometheusRule.extraAlertLabels.team=apps",
    "metrics.prometheusRule.runbookAnnotationKey=page",
    "metrics.prometheusRule.thresholds.reconcileErrorDuration=7m",
    "controller.runbookBaseURL=https://wiki/x?p={id}",
  ]);
  expect(first).toMatchObject({
    for: "7m",
    labels: { severity: "warning", team: "apps" },
    annotations: { page: "https://wiki/x?p={{ $labels.reason | toLower }}" },
  });
}, 240_000);

test("every alert has a page and says what it means", () => {
  for (const { runbook, summary, description } of alerts) {
    if (runbook !== "reason") expect(runbookIds).toContain(runbook);
    expect(summary).not.toBe("");
    expect(description).not.toBe("");
  }
});
