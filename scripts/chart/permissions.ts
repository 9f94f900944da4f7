import { apiGroup } from "../../src/api/group.ts";

/** When a rule is rendered. */
export type RuleCondition = "always" | "self-signed" | "reviews callers";

/** One rule of the controller, and what is seen when it is missing (spec 50 §8). */
export interface DeclaredRule {
  readonly apiGroup: string;
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  /** Only these objects; filled in by the chart, whose names depend on values. */
  readonly only?: "lease" | "certificate" | "webhook configuration";
  readonly when?: RuleCondition;
  readonly why: string;
  /** What is seen without the rule: a pattern over readiness, the StageSet's Ready condition and the log. */
  readonly symptom?: string;
  /** By resource, or by resource and verb: why the life of an ordinary StageSet does not use it, though a test does. */
  readonly seldom?: Readonly<Record<string, string>>;
  /** The same of what nothing in this build uses. */
  readonly unused?: Readonly<Record<string, string>>;
}

export interface DeclaredRole {
  /** Where it is bound. */
  readonly scope: "watched namespaces" | "cluster" | "own namespace";
  readonly rules: readonly DeclaredRule[];
}

/** A verb of the published role that this build does without. */
const contract = "part of the published role";
const source = "source.toolkit.fluxcd.io";
const read = ["get", "list", "watch"];

/**
 * What the controller itself may do, verb by verb. `config/rbac` and the chart's rules are written from it. It acts on the
 * objects of a release as the ServiceAccounts that StageSets name, so nothing here reads a Secret or ConfigMap of others,
 * impersonates, or touches a workload.
 */
export const declaredRoles = {
  tenant: {
    scope: "watched namespaces",
    rules: [
      {
        apiGroup,
        resources: ["stagesets"],
        verbs: [...read, "patch"],
        symptom: "not ready.*stagesets\\.stages\\.metio\\.wtf.*denied",
        why: "reconcile them, hold their finalizer; annotate members of fleets",
      },
      {
        apiGroup,
        resources: ["stagesets/status", "stageledgers/status"],
        verbs: ["get", "patch", "update"],
        symptom: "stagesets/status",
        unused: {
          "stagesets/status get": contract,
          "stagesets/status patch": contract,
          "stageledgers/status get": contract,
          "stageledgers/status patch": contract,
        },
        seldom: { "stageledgers/status update": "an action of scope Lifetime" },
        why: "write status",
      },
      {
        apiGroup,
        resources: ["stagesets/finalizers"],
        verbs: ["update"],
        symptom: "blockOwnerDeletion",
        unused: { "stagesets/finalizers": "asked inside the API server, by OwnerReferencesPermissionEnforcement" },
        why: "owner references that block the deletion of their StageSet",
      },
      {
        apiGroup,
        resources: ["stageinventories"],
        verbs: [...read, "create", "patch", "update", "delete"],
        symptom: "not ready.*stageinventories\\.stages\\.metio\\.wtf.*denied",
        seldom: { "stageinventories get": "after a conflict" },
        unused: { "stageinventories patch": contract },
        why: "record what was applied",
      },
      {
        apiGroup,
        resources: ["stageledgers"],
        verbs: [...read, "create"],
        symptom: "not ready.*stageledgers\\.stages\\.metio\\.wtf.*denied",
        seldom: {
          "stageledgers get": "an action of scope Lifetime",
          "stageledgers create": "an action of scope Lifetime",
        },
        why: "record what ran; their spec is the operator's",
      },
      {
        apiGroup: source,
        resources: ["externalartifacts", "gitrepositories", "ocirepositories", "buckets"],
        verbs: read,
        symptom: "externalartifacts",
        seldom: {
          "gitrepositories get": "a stage with such a source",
          "ocirepositories get": "a stage with such a source",
          "buckets get": "a stage with such a source",
        },
        why: "follow the sources of stages",
      },
      {
        apiGroup: "jaas.metio.wtf",
        resources: ["jsonnetsnippets"],
        verbs: read,
        unused: { jsonnetsnippets: "only where its definition is installed" },
        why: "show a producer's failure at once",
      },
      {
        apiGroup: "",
        resources: ["serviceaccounts"],
        verbs: ["get"],
        seldom: { serviceaccounts: "a KMS under --object-level-kms; a remote cluster of EKS" },
        why: "federation annotations for KMS, and for remote clusters",
      },
      {
        apiGroup: "",
        resources: ["serviceaccounts/token"],
        verbs: ["create"],
        symptom: "StageSet: False RBACDenied.*serviceaccounts/token",
        why: "act as the ServiceAccounts that StageSets name: worth every ServiceAccount where this is bound",
      },
      {
        apiGroup: "",
        resources: ["events"],
        verbs: ["create", "patch", "list"],
        unused: { events: "event gates; clusters without events.k8s.io" },
        why: "record events; event gates",
      },
      {
        apiGroup: "events.k8s.io",
        resources: ["events"],
        verbs: ["create", "patch"],
        symptom: "True Succeeded.*events",
        seldom: { "events patch": "a repeated Event" },
        why: "record events",
      },
      {
        apiGroup: "",
        resources: ["pods"],
        verbs: ["list"],
        unused: { pods: "restart gates, and why workloads wait, of StageSets without ServiceAccount" },
        why: "restart gates, and why workloads wait, of StageSets without ServiceAccount",
      },
    ],
  },
  cluster: {
    scope: "cluster",
    rules: [
      {
        apiGroup,
        resources: ["fleetrollouts"],
        verbs: read,
        symptom: "not ready.*fleetrollouts\\.stages\\.metio\\.wtf.*denied",
        unused: { "fleetrollouts get": "fleets" },
        why: "reconcile fleets",
      },
      {
        apiGroup,
        resources: ["fleetrollouts/status"],
        verbs: ["get", "patch", "update"],
        unused: { "fleetrollouts/status": "fleets" },
        why: "write their status",
      },
      {
        apiGroup,
        resources: ["imageverificationpolicies"],
        verbs: read,
        symptom: "imageverificationpolicies",
        unused: { "imageverificationpolicies get": contract },
        why: "know the policies of images",
      },
      {
        apiGroup: "",
        resources: ["namespaces"],
        verbs: read,
        seldom: { "namespaces get": "a ServiceAccount that is gone" },
        unused: { "namespaces list": "fleets", "namespaces watch": "fleets" },
        why: "namespace selectors of fleets",
      },
      {
        apiGroup: "apiextensions.k8s.io",
        resources: ["customresourcedefinitions"],
        verbs: read,
        symptom: "customresourcedefinitions",
        unused: { "customresourcedefinitions get": contract },
        why: "watch a kind of source as soon as it is installed",
      },
      {
        apiGroup: "admissionregistration.k8s.io",
        resources: ["validatingwebhookconfigurations"],
        verbs: ["get", "update"],
        only: "webhook configuration",
        when: "self-signed",
        why: "keep the caBundle",
      },
      {
        apiGroup: "authorization.k8s.io",
        resources: ["subjectaccessreviews"],
        verbs: ["create"],
        seldom: { subjectaccessreviews: "the admission of a break glass" },
        why: "ask whether a caller may skip image verification",
      },
      {
        apiGroup: "authentication.k8s.io",
        resources: ["tokenreviews"],
        verbs: ["create"],
        when: "reviews callers",
        why: "know the callers of the MCP server and the web UI",
      },
    ],
  },
  leaderElection: {
    scope: "own namespace",
    rules: [
      {
        apiGroup: "coordination.k8s.io",
        resources: ["leases"],
        verbs: ["create"],
        symptom: "leases",
        why: "the first holder makes it",
      },
      {
        apiGroup: "coordination.k8s.io",
        resources: ["leases"],
        verbs: ["get", "update", "patch"],
        only: "lease",
        symptom: "leases",
        unused: { "leases patch": contract },
        why: "take, renew and release it",
      },
    ],
  },
  webhookCert: {
    scope: "own namespace",
    rules: [
      { apiGroup: "", resources: ["secrets"], verbs: ["create"], why: "the first replica makes the pair" },
      {
        apiGroup: "",
        resources: ["secrets"],
        verbs: ["get", "watch", "update"],
        only: "certificate",
        why: "all replicas serve one pair",
      },
    ],
  },
} as const satisfies Readonly<Record<string, DeclaredRole>>;

export type RoleName = keyof typeof declaredRoles;

/** A right as the API server's audit log tells it: `<group>/<resource>[/<subresource>] <verb>`. */
export interface DeclaredRight {
  readonly right: string;
  readonly when: RuleCondition;
  readonly seldom: string | undefined;
  readonly unused: string | undefined;
}

/** Every right of some rules, or of all roles. */
export function allRights(
  rules: readonly DeclaredRule[] = Object.values(declaredRoles).flatMap((role): readonly DeclaredRule[] => role.rules),
): readonly DeclaredRight[] {
  return rules.flatMap(({ apiGroup: group, resources, verbs, when = "always", seldom, unused }) =>
    resources.flatMap((resource) =>
      verbs.map((verb) => ({
        right: `${group}/${resource} ${verb}`,
        when,
        seldom: seldom?.[`${resource} ${verb}`] ?? seldom?.[resource],
        unused: unused?.[`${resource} ${verb}`] ?? unused?.[resource],
      })),
    ),
  );
}
