import { runbookBaseUrl } from "../../src/main/build-info.ts";
import { runbookLink } from "../../src/api/runbook.ts";
import {
  alertGroups,
  burnRules,
  recordingRules,
  thresholds,
  type AlertRule,
  type RecordingRule,
  type RuleContext,
} from "./rules.ts";

/** How one use of the rules writes what differs between uses. */
interface Dialect {
  readonly context: RuleContext;
  /** Prometheus' templates in double square brackets become this. */
  readonly braces: (text: string) => string;
  readonly runbook: (id: string) => string;
  readonly runbookKey: string;
  /** Lines after an alert's own labels, indented as they. */
  readonly moreLabels: (indent: string) => readonly string[];
  readonly guard: (
    condition: AlertRule["only"] | "slo",
  ) => readonly [before: readonly string[], after: readonly string[]];
}

const plainContext: RuleContext = {
  selector: 'job="stageset-system/stageset-controller"',
  namespace: "stageset-system",
  deployment: "stageset-controller",
  availabilityTarget: "0.99",
  latencyTarget: "30",
  threshold: (key) => thresholds[key],
};

/** A rule file as Prometheus reads it, with the default thresholds. */
export function renderPlainAlerts(command: string): string {
  return renderRules(command, {
    context: plainContext,
    braces: (text) => text.replaceAll("[[", "{{").replaceAll("]]", "}}"),
    runbook: (id) => runbookLink(runbookBaseUrl, id) ?? "",
    runbookKey: "runbook_url",
    moreLabels: () => [],
    guard: () => [[], []],
  });
}

/** The same as a template of the chart, which gives it to `tpl`. */
export function renderChartAlerts(command: string): string {
  const values = ".Values.metrics.prometheusRule";
  const guards = {
    "leader election": ".Values.controller.leaderElect",
    webhook: ".Values.webhook.enabled",
    slo: `${values}.slo.enabled`,
  };
  const fullname = '{{ include "stageset-controller.fullname" . }}';
  const base = runbookLink(runbookBaseUrl, "{id}") ?? "";
  const define = [
    '{{- define "stageset-controller.runbook" -}}',
    `{{- $base := default "${base}" (index . 0).Values.controller.runbookBaseURL -}}`,
    '{{- if not (contains "{id}" $base) }}{{ $base = printf "%s/{id}.md" (trimSuffix "/" $base) }}{{ end -}}',
    '{{- replace "{id}" (index . 1) $base -}}',
    "{{- end }}",
  ];
  const text = renderRules(command, {
    context: {
      selector: `job="{{ .Release.Namespace }}/${fullname}"`,
      namespace: "{{ .Release.Namespace }}",
      deployment: fullname,
      availabilityTarget: `{{ ${values}.slo.availabilityTarget }}`,
      latencyTarget: `{{ ${values}.slo.latencyTarget }}`,
      threshold: (key) => `{{ ${values}.thresholds.${key} }}`,
    },
    braces: (line) => line.replaceAll("[[", '{{ "{{" }}').replaceAll("]]", '{{ "}}" }}'),
    // Inside an action of the chart's template a text may hold braces as they are.
    runbook: (id) => `{{ include "stageset-controller.runbook" (list . ${JSON.stringify(id)}) }}`,
    runbookKey: `{{ ${values}.runbookAnnotationKey }}`,
    moreLabels: (indent) => [
      `${indent}{{- with ${values}.extraAlertLabels }}`,
      `${indent}{{- toYaml . | nindent ${indent.length} }}`,
      `${indent}{{- end }}`,
    ],
    guard: (condition) => (condition === undefined ? [[], []] : [[`{{- if ${guards[condition]} }}`], ["{{- end }}"]]),
  });
  const [header = "", ...rest] = text.split("\n");
  return [header, ...define, ...rest].join("\n");
}

function renderRules(command: string, dialect: Dialect): string {
  const { context, guard } = dialect;
  const lines = [`# Written by "${command}" from scripts/monitoring/rules.ts; change it there.`, "groups:"];
  for (const { name, rules } of alertGroups(context)) {
    lines.push(`  - name: ${name}`, "    rules:");
    for (const rule of rules) {
      const [before, after] = guard(rule.only);
      lines.push(...before, ...alertLines(rule, dialect), ...after);
    }
  }
  const [before, after] = guard("slo");
  lines.push(...before, "  - name: stageset-slo", "    rules:");
  for (const rule of recordingRules(context)) lines.push(...recordingLines(rule, context));
  for (const rule of burnRules(context)) lines.push(...alertLines(rule, dialect));
  return [...lines, ...after, ""].join("\n");
}

function alertLines(rule: AlertRule, { braces, runbook, runbookKey, moreLabels }: Dialect): readonly string[] {
  const link = rule.runbook === "reason" ? runbook("{{ $labels.reason | toLower }}") : runbook(rule.runbook);
  return [
    `      - alert: ${rule.alert}`,
    "        expr: |-",
    ...rule.expr.split("\n").map((line) => `          ${line}`),
    `        for: ${rule.for}`,
    "        labels:",
    `          severity: ${rule.severity}`,
    ...moreLabels("          "),
    "        annotations:",
    `          summary: "${braces(rule.summary)}"`,
    `          description: "${rule.description}"`,
    `          ${runbookKey}: '${link}'`,
  ];
}

/** Recorded for this installation alone. */
function recordingLines({ record, expr }: RecordingRule, { selector }: RuleContext): readonly string[] {
  return [
    `      - record: ${record}`,
    "        expr: |-",
    ...expr.split("\n").map((line) => `          ${line}`),
    "        labels:",
    `          ${selector.replace(/^job="/, 'job: "')}`,
  ];
}
