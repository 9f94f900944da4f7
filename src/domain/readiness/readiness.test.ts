import { describe, expect, test } from "vitest";
import type { KubeObject } from "../../lib/kube-object.ts";
import type { Readiness } from "./readiness.ts";
import { readinessOf } from "./readiness.ts";

interface Row {
  readonly name: string;
  readonly kind: string;
  readonly spec?: object;
  readonly status?: object;
  readonly metadata?: object;
  readonly expected: Readiness["status"];
}

const condition = (type: string, status: string, reason = "Because", message = "as it is"): object => ({
  type,
  status,
  reason,
  message,
});

const rolledOut = condition("Progressing", "True", "NewReplicaSetAvailable");
const available = condition("Available", "True");
const allThree = { replicas: 3, updatedReplicas: 3, availableReplicas: 3, readyReplicas: 3 };
const deployment = (name: string, change: object, expected: Readiness["status"], spec: object = {}): Row => ({
  name,
  kind: "apps/v1/Deployment",
  spec: { replicas: 3, progressDeadlineSeconds: 600, ...spec },
  status: { ...allThree, conditions: [rolledOut, available], ...change },
  expected,
});

const statefulSet = (name: string, change: object, expected: Readiness["status"], spec: object = {}): Row => ({
  name,
  kind: "apps/v1/StatefulSet",
  spec: { replicas: 3, ...spec },
  status: {
    replicas: 3,
    readyReplicas: 3,
    currentReplicas: 3,
    currentRevision: "web-1",
    updateRevision: "web-1",
    ...change,
  },
  expected,
});
const partitioned = (partition: number): object => ({ updateStrategy: { rollingUpdate: { partition } } });

const daemonSet = (name: string, change: object, expected: Readiness["status"], spec: object = {}): Row => ({
  name,
  kind: "apps/v1/DaemonSet",
  spec,
  metadata: { generation: 2 },
  status: {
    observedGeneration: 2,
    desiredNumberScheduled: 3,
    currentNumberScheduled: 3,
    updatedNumberScheduled: 3,
    numberAvailable: 3,
    numberReady: 3,
    ...change,
  },
  expected,
});

const replicaSet = (name: string, change: object, expected: Readiness["status"]): Row => ({
  name,
  kind: "apps/v1/ReplicaSet",
  spec: { replicas: 2 },
  status: { replicas: 2, fullyLabeledReplicas: 2, availableReplicas: 2, readyReplicas: 2, ...change },
  expected,
});

const simple = (
  name: string,
  kind: string,
  expected: Readiness["status"],
  content: { readonly spec?: object; readonly status?: object; readonly metadata?: object } = {},
): Row => ({ name, kind, expected, ...content });

const conditions = (...list: readonly object[]): { readonly status: object } => ({ status: { conditions: list } });
const waiting = (reason: string): object => ({ name: "app", state: { waiting: { reason } } });
const DEFINITION = "apiextensions.k8s.io/v1/CustomResourceDefinition";

const rows: readonly Row[] = [
  simple("shared: an object being deleted", "v1/ConfigMap", "Terminating", {
    metadata: { deletionTimestamp: "2026-01-01T00:00:00Z" },
  }),
  simple("shared: deletion comes before Stalled", "example.org/v1/Thing", "Terminating", {
    metadata: { deletionTimestamp: "2026-01-01T00:00:00Z" },
    ...conditions(condition("Stalled", "True")),
  }),
  simple("shared: a generation not observed yet", "example.org/v1/Thing", "InProgress", {
    metadata: { generation: 3 },
    status: { observedGeneration: 2, conditions: [condition("Ready", "True")] },
  }),
  simple("shared: no observed generation says nothing", "example.org/v1/Thing", "Current", {
    metadata: { generation: 3 },
    ...conditions(condition("Ready", "True")),
  }),
  simple(
    "shared: Reconciling first in the list",
    "example.org/v1/Thing",
    "InProgress",
    conditions(condition("Reconciling", "True"), condition("Stalled", "True")),
  ),
  simple(
    "shared: Stalled first in the list",
    "example.org/v1/Thing",
    "Failed",
    conditions(condition("Stalled", "True"), condition("Reconciling", "True")),
  ),
  simple(
    "shared: Reconciling and Stalled that are False",
    "example.org/v1/Thing",
    "Current",
    conditions(condition("Reconciling", "False"), condition("Stalled", "False"), condition("Ready", "True")),
  ),
  simple(
    "shared: Stalled counts for a known kind",
    "apps/v1/Deployment",
    "Failed",
    conditions(condition("Stalled", "True")),
  ),

  simple("a ConfigMap", "v1/ConfigMap", "Current"),
  simple("a Secret", "v1/Secret", "Current"),
  simple("a CronJob", "batch/v1/CronJob", "Current"),
  simple(
    "a CronJob is current whatever Ready says",
    "batch/v1/CronJob",
    "Current",
    conditions(condition("Ready", "False")),
  ),
  simple("a PodDisruptionBudget", "policy/v1/PodDisruptionBudget", "Current", {
    status: { currentHealthy: 0, desiredHealthy: 2 },
  }),

  simple("a ClusterIP Service", "v1/Service", "Current", { spec: { type: "ClusterIP" } }),
  simple("a LoadBalancer without address", "v1/Service", "InProgress", { spec: { type: "LoadBalancer" } }),
  simple("a LoadBalancer with an empty address", "v1/Service", "InProgress", {
    spec: { type: "LoadBalancer", clusterIP: "" },
  }),
  simple("a LoadBalancer with address", "v1/Service", "Current", {
    spec: { type: "LoadBalancer", clusterIP: "10.0.0.1" },
  }),
  simple("a Service of another group is like any other", "serving.example.org/v1/Service", "InProgress", {
    ...conditions(condition("Ready", "Unknown")),
  }),

  simple("a Pod that succeeded", "v1/Pod", "Current", { status: { phase: "Succeeded" } }),
  simple("a Pod that failed", "v1/Pod", "Failed", { status: { phase: "Failed" } }),
  simple("a running Pod that is ready", "v1/Pod", "Current", {
    status: {
      phase: "Running",
      conditions: [condition("Ready", "True")],
      containerStatuses: [waiting("CrashLoopBackOff")],
    },
  }),
  simple("a running Pod in a crash loop", "v1/Pod", "Failed", {
    status: {
      phase: "Running",
      conditions: [condition("Ready", "False")],
      containerStatuses: [waiting("CrashLoopBackOff")],
    },
  }),
  simple("a running Pod with a sidecar in a crash loop", "v1/Pod", "Failed", {
    status: { phase: "Running", initContainerStatuses: [waiting("CrashLoopBackOff")] },
  }),
  simple("a running Pod pulling an image", "v1/Pod", "InProgress", {
    status: { phase: "Running", containerStatuses: [waiting("ImagePullBackOff")] },
  }),
  simple("a pending Pod", "v1/Pod", "InProgress", { status: { phase: "Pending" } }),
  simple("an unschedulable Pod", "v1/Pod", "InProgress", {
    status: { phase: "Pending", conditions: [condition("PodScheduled", "False", "Unschedulable")] },
  }),
  simple("a Pod without a phase", "v1/Pod", "InProgress"),
  simple("a Pod of an unknown phase", "v1/Pod", "InProgress", { status: { phase: "Unknown" } }),

  simple("a bound claim", "v1/PersistentVolumeClaim", "Current", { status: { phase: "Bound" } }),
  simple("a pending claim", "v1/PersistentVolumeClaim", "InProgress", { status: { phase: "Pending" } }),
  simple("a lost claim", "v1/PersistentVolumeClaim", "InProgress", { status: { phase: "Lost" } }),
  simple("a claim without a phase", "v1/PersistentVolumeClaim", "InProgress"),

  deployment("a Deployment rolled out", {}, "Current"),
  deployment(
    "a Deployment past its deadline",
    { conditions: [condition("Progressing", "False", "ProgressDeadlineExceeded"), available] },
    "Failed",
  ),
  deployment("a Deployment with too few replicas", { replicas: 2 }, "InProgress"),
  deployment("a Deployment with too few updated replicas", { updatedReplicas: 2 }, "InProgress"),
  deployment("a Deployment with old replicas left", { replicas: 4 }, "InProgress"),
  deployment("a Deployment with too few available replicas", { availableReplicas: 2 }, "InProgress"),
  deployment("a Deployment with too few ready replicas", { readyReplicas: 2 }, "InProgress"),
  deployment(
    "a Deployment whose new ReplicaSet is not available",
    { conditions: [condition("Progressing", "True", "ReplicaSetUpdated"), available] },
    "InProgress",
  ),
  deployment("a Deployment without Progressing but with a deadline", { conditions: [available] }, "InProgress"),
  deployment("a Deployment without a deadline", { conditions: [available] }, "Current", {
    progressDeadlineSeconds: undefined,
  }),
  deployment("a Deployment with the endless deadline", { conditions: [available] }, "Current", {
    progressDeadlineSeconds: 2_147_483_647,
  }),
  deployment("a Deployment that is not available", { conditions: [rolledOut] }, "InProgress"),
  deployment(
    "a Deployment whose availability is unknown",
    { conditions: [rolledOut, condition("Available", "Unknown")] },
    "InProgress",
  ),
  simple("a Deployment wants one replica by default", "apps/v1/Deployment", "InProgress"),
  simple("a Deployment scaled to zero", "apps/v1/Deployment", "Current", {
    spec: { replicas: 0 },
    ...conditions(available),
  }),
  simple("a Deployment of another group is like any other", "example.org/v1/Deployment", "Current"),

  statefulSet("a StatefulSet rolled out", {}, "Current"),
  statefulSet("a StatefulSet updated on delete", { replicas: 0, readyReplicas: 0 }, "Current", {
    updateStrategy: { type: "OnDelete" },
  }),
  statefulSet("a StatefulSet with too few replicas", { replicas: 2 }, "InProgress"),
  statefulSet("a StatefulSet with too few ready replicas", { readyReplicas: 2 }, "InProgress"),
  statefulSet("a StatefulSet with too many replicas", { replicas: 4 }, "InProgress"),
  statefulSet("a partitioned StatefulSet being updated", { updatedReplicas: 1 }, "InProgress", partitioned(1)),
  statefulSet(
    "a partitioned StatefulSet updated above the partition",
    { updatedReplicas: 2, currentReplicas: 1, updateRevision: "web-2" },
    "Current",
    partitioned(1),
  ),
  statefulSet("a StatefulSet with partition 0 being updated", { updatedReplicas: 2 }, "InProgress", partitioned(0)),
  statefulSet("a StatefulSet with too few current replicas", { currentReplicas: 2 }, "InProgress"),
  statefulSet("a StatefulSet with a new revision", { updateRevision: "web-2" }, "InProgress"),

  daemonSet("a DaemonSet rolled out", {}, "Current"),
  { ...daemonSet("a DaemonSet without generation", {}, "InProgress"), metadata: {} },
  daemonSet("a DaemonSet without observed generation", { observedGeneration: undefined }, "InProgress"),
  daemonSet("a DaemonSet without desired number", { desiredNumberScheduled: undefined }, "InProgress"),
  daemonSet("a DaemonSet wanted on no node", { desiredNumberScheduled: 0 }, "Current"),
  daemonSet("a DaemonSet with too few scheduled", { currentNumberScheduled: 2 }, "InProgress"),
  daemonSet("a DaemonSet with too few updated", { updatedNumberScheduled: 2 }, "InProgress"),
  daemonSet("a DaemonSet updated on delete", { updatedNumberScheduled: 0 }, "Current", {
    updateStrategy: { type: "OnDelete" },
  }),
  daemonSet("a DaemonSet with too few available", { numberAvailable: 2 }, "InProgress"),
  daemonSet("a DaemonSet with too few ready", { numberReady: 2 }, "InProgress"),

  replicaSet("a ReplicaSet with all replicas", {}, "Current"),
  replicaSet("a ReplicaSet that cannot create", { conditions: [condition("ReplicaFailure", "True")] }, "InProgress"),
  replicaSet("a ReplicaSet with too few labelled", { fullyLabeledReplicas: 1 }, "InProgress"),
  replicaSet("a ReplicaSet with too few available", { availableReplicas: 1 }, "InProgress"),
  replicaSet("a ReplicaSet with too few ready", { readyReplicas: 1 }, "InProgress"),
  replicaSet("a ReplicaSet with too many replicas", { replicas: 3 }, "InProgress"),

  simple("a Job that runs", "batch/v1/Job", "InProgress", { status: { active: 1, startTime: "2026-01-01T00:00:00Z" } }),
  simple("a Job not started", "batch/v1/Job", "InProgress"),
  simple("a Job that completed", "batch/v1/Job", "Current", conditions(condition("Complete", "True"))),
  simple(
    "a Job that failed",
    "batch/v1/Job",
    "Failed",
    conditions(condition("Failed", "True", "BackoffLimitExceeded")),
  ),
  simple("a suspended Job", "batch/v1/Job", "InProgress", conditions(condition("Suspended", "True"))),

  simple("a definition whose names clash", DEFINITION, "Failed", conditions(condition("NamesAccepted", "False"))),
  simple(
    "a definition that is served",
    DEFINITION,
    "Current",
    conditions(condition("NamesAccepted", "True"), condition("Established", "True")),
  ),
  simple(
    "a definition being installed",
    DEFINITION,
    "InProgress",
    conditions(condition("Established", "False", "Installing")),
  ),
  simple(
    "a definition not served for another reason",
    DEFINITION,
    "Failed",
    conditions(condition("Established", "False", "NotAccepted")),
  ),
  simple("a definition without conditions", DEFINITION, "InProgress"),

  simple("any other with Ready True", "example.org/v1/Thing", "Current", conditions(condition("Ready", "True"))),
  simple("any other with Ready False", "example.org/v1/Thing", "InProgress", conditions(condition("Ready", "False"))),
  simple(
    "any other with Ready Unknown",
    "example.org/v1/Thing",
    "InProgress",
    conditions(condition("Ready", "Unknown")),
  ),
  simple("any other without Ready", "example.org/v1/Thing", "Current", { status: { phase: "Odd" } }),
  simple("any other with a malformed status", "example.org/v1/Thing", "Current", {
    status: { conditions: ["Ready", { type: 1 }, null], observedGeneration: "x" },
    metadata: { generation: 1 },
  }),
];

describe("readinessOf", () => {
  const named = rows.map((row) => [row.name, row] as const);
  test.each(named)("[20.32] %s", (_name, row) => {
    const cut = row.kind.lastIndexOf("/");
    const object: KubeObject = {
      apiVersion: row.kind.slice(0, cut),
      kind: row.kind.slice(cut + 1),
      metadata: { name: "thing", namespace: "apps", ...row.metadata },
      spec: row.spec,
      status: row.status,
    };
    const readiness = readinessOf(object);
    expect(readiness.status).toBe(row.expected);
    expect(readiness.message).not.toBe("");
    expect(readinessOf(object)).toEqual(readiness);
  });

  test("says how many replicas are missing", () => {
    const object: KubeObject = {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "web" },
      spec: { replicas: 3 },
      status: { replicas: 3, updatedReplicas: 3, availableReplicas: 1, readyReplicas: 1 },
    };
    expect(readinessOf(object).message).toBe("1 of 3 replicas are available");
  });
});
