import { stringify } from "yaml";
import { leaderLeaseName } from "../../src/api/keys.ts";
import { declaredRoles, type DeclaredRole, type DeclaredRule, type RoleName } from "./permissions.ts";

interface PlainRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

/** How the chart names what a rule is limited to. */
const onlyInChart: Readonly<Record<NonNullable<DeclaredRule["only"]>, string>> = {
  lease: leaderLeaseName,
  certificate: '{{ include "stageset-controller.certSecret" . }}',
  "webhook configuration": '{{ include "stageset-controller.clusterName" . }}',
};

const conditions: Readonly<Record<NonNullable<DeclaredRule["when"]>, string | undefined>> = {
  always: undefined,
  "self-signed": '{{- if eq (include "stageset-controller.selfSigned" .) "true" }}',
  "reviews callers": "{{- if or .Values.mcp.enabled .Values.ui.enabled }}",
};

const plainNames: Partial<Readonly<Record<RoleName, { kind: string; name: string; note: string }>>> = {
  tenant: {
    kind: "ClusterRole",
    name: "stageset-controller",
    note: "Bound in the whole cluster, or by one RoleBinding in each watched namespace.",
  },
  cluster: {
    kind: "ClusterRole",
    name: "stageset-controller-cluster",
    note: "Always bound in the whole cluster: kinds without a namespace, and reviews of callers.",
  },
  leaderElection: {
    kind: "Role",
    name: "stageset-controller",
    note: "In the controller's own namespace, with --leader-elect.",
  },
};

function rulesOf(name: RoleName): readonly DeclaredRule[] {
  const role: DeclaredRole = declaredRoles[name];
  return role.rules;
}

/** `config/rbac/controller.yaml`: the roles without their bindings, of a controller without a webhook of its own. */
export function renderPlainRoles(command: string): string {
  const documents = Object.entries(plainNames).map(([key, { kind, name, note }]) => {
    const rules = rulesOf(key as RoleName).filter((rule) => (rule.when ?? "always") === "always"); // Its own key.
    const body = rules
      .map((rule) => `  # ${rule.why}\n${indent(renderRule(rule, { lease: leaderLeaseName }), 2)}`)
      .join("");
    return `apiVersion: rbac.authorization.k8s.io/v1\nkind: ${kind}\nmetadata:\n  # ${note}\n  name: ${name}\nrules:\n${body}`;
  });
  return `# Written by "${command}" from scripts/chart/permissions.ts; change it there.\n${documents.join("---\n")}`;
}

/** The chart's rules, one template for each role. */
export function renderChartRules(command: string): string {
  const roleNames = Object.keys(declaredRoles) as readonly RoleName[]; // The keys of a literal.
  const templates = roleNames.map((name) => {
    const rules = rulesOf(name).map((rule) => {
      const condition = conditions[rule.when ?? "always"];
      const text = `# ${rule.why}\n${renderRule(rule, onlyInChart)}`;
      return condition === undefined ? text : `${condition}\n${text}{{- end }}\n`;
    });
    return `{{- define "stageset-controller.rules.${name}" -}}\n${rules.join("")}{{- end }}\n`;
  });
  return `{{/* Written by "${command}" from scripts/chart/permissions.ts; change it there. */}}\n${templates.join("\n")}`;
}

function renderRule(rule: DeclaredRule, only: Readonly<Record<string, string>>): string {
  const name = rule.only === undefined ? undefined : only[rule.only];
  const plain: PlainRule = {
    apiGroups: [rule.apiGroup],
    resources: rule.resources,
    ...(name === undefined ? {} : { resourceNames: [name] }),
    verbs: rule.verbs,
  };
  return stringify([plain], { lineWidth: 0, collectionStyle: "any" });
}

function indent(text: string, by: number): string {
  return text.replace(/^(?=.)/gm, " ".repeat(by));
}
