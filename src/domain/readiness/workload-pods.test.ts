import { expect, test } from "vitest";
import type { KubeObject } from "../../lib/kube-object.ts";
import { causeAmong, explanationOf } from "./workload-pods.ts";

const template = { spec: { containers: [{ name: "app", image: "app:1" }] } };
const labels = { matchLabels: { app: "web", tier: "front" } };

function workload(
  kind: string,
  {
    apiVersion = "apps/v1",
    selector = labels,
    spec = { template },
    status = {},
    annotations = {},
  }: {
    readonly apiVersion?: string;
    readonly selector?: unknown;
    readonly spec?: Readonly<Record<string, unknown>>;
    readonly status?: Readonly<Record<string, unknown>>;
    readonly annotations?: Readonly<Record<string, string>>;
  } = {},
): KubeObject {
  const metadata = { name: "web", namespace: "shop", uid: "u1", annotations };
  return { apiVersion, kind, metadata, spec: { selector, ...spec }, status };
}
const selectorOf = (object: KubeObject): string | undefined => explanationOf(object).pods?.labelSelector;
const progressing = (message: string) => ({
  updatedReplicas: 1,
  conditions: [{ type: "Progressing", status: "True", reason: "ReplicaSetUpdated", message }],
});

test.each<readonly [string, KubeObject, string | undefined]>([
  [
    "a Deployment's newest ReplicaSet, which its condition names",
    workload("Deployment", { status: progressing('ReplicaSet "web-5d4f8c7b9" is progressing.') }),
    "app=web,tier=front,pod-template-hash=5d4f8c7b9",
  ],
  [
    "a Deployment that names none",
    workload("Deployment", { status: progressing("Deployment is progressing") }),
    "app=web,tier=front",
  ],
  [
    "a Deployment whose condition names something else",
    workload("Deployment", { status: progressing('ReplicaSet "other-5d4f8c7b9" is progressing.') }),
    "app=web,tier=front",
  ],
  ["a Deployment of which only old pods exist", workload("Deployment", { status: { replicas: 3 } }), undefined],
  [
    "a StatefulSet's newest revision",
    workload("StatefulSet", { status: { updateRevision: "web-7c9" } }),
    "app=web,tier=front,controller-revision-hash=web-7c9",
  ],
  ["a StatefulSet nobody has looked at", workload("StatefulSet"), undefined],
  [
    "a DaemonSet's newest template",
    workload("DaemonSet", { annotations: { "deprecated.daemonset.template.generation": "4" } }),
    "app=web,tier=front,pod-template-generation=4",
  ],
  ["a Job", workload("Job", { apiVersion: "batch/v1" }), "app=web,tier=front"],
  ["a custom workload", workload("Rollout", { apiVersion: "argoproj.io/v1alpha1" }), "app=web,tier=front"],
  [
    "expressions",
    workload("ReplicaSet", {
      selector: {
        matchExpressions: [
          { key: "app", operator: "In", values: ["a", "b"] },
          { key: "track", operator: "NotIn", values: ["canary"] },
          { key: "owner", operator: "Exists" },
          { key: "old", operator: "DoesNotExist" },
        ],
      },
    }),
    "app in (a,b),track notin (canary),owner,!old",
  ],
  ["an empty selector would mean every pod", workload("Clone", { apiVersion: "x.io/v1", selector: {} }), undefined],
  [
    "so would one that only excludes",
    workload("Clone", {
      apiVersion: "x.io/v1",
      selector: { matchExpressions: [{ key: "old", operator: "DoesNotExist" }] },
    }),
    undefined,
  ],
  [
    "an operator nobody knows",
    workload("Clone", {
      apiVersion: "x.io/v1",
      selector: { ...labels, matchExpressions: [{ key: "a", operator: "?" }] },
    }),
    undefined,
  ],
  ["a Service selects pods and is no workload", workload("Service", { apiVersion: "v1", spec: {} }), undefined],
  ["a selector that is no object", workload("Odd", { apiVersion: "x.io/v1", selector: "app=web" }), undefined],
])("the pods of %s", (_title, object, selector) => {
  expect(selectorOf(object)).toBe(selector);
});

test("nothing explains a workload whose controller has not seen it: its status is about older pods", () => {
  const old = workload("Deployment", {
    status: { ...progressing('ReplicaSet "web-1" is progressing.'), observedGeneration: 1 },
  });
  const at = (generation: number): KubeObject => ({ ...old, metadata: { ...old.metadata, generation } });
  expect(selectorOf(at(1))).toBeDefined();
  expect(selectorOf(at(2))).toBeUndefined();
});

test("a workload says itself that its pods are refused", () => {
  const message = 'pods "web-1" is forbidden: exceeded quota: small';
  const status = { conditions: [{ type: "ReplicaFailure", status: "True", reason: "FailedCreate", message }] };
  const { cause, pods } = explanationOf(workload("Deployment", { status }));
  expect(cause).toEqual({ text: `pods cannot be created: ${message}`, isStuck: false });
  expect(pods).toBeUndefined();
});

test("a pod explains itself", () => {
  const waiting = { name: "app", state: { waiting: { reason: "ErrImagePull" } } };
  const pod = { ...workload("Pod", { apiVersion: "v1" }), status: { containerStatuses: [waiting] } };
  expect(explanationOf(pod)).toMatchObject({ cause: { isStuck: true }, pods: undefined });
});

test("pods with the same labels and another owner explain nothing", () => {
  const pods = explanationOf(workload("ReplicaSet")).pods;
  if (pods === undefined) throw new Error("it has a selector");
  const pod = (...ownerReferences: readonly object[]): KubeObject => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", namespace: "shop", ownerReferences: ownerReferences as never },
    spec: { containers: [{ name: "app", image: "app:1" }] },
    status: { containerStatuses: [{ name: "app", state: { waiting: { reason: "ErrImagePull" } } }] },
  });
  const owner = { apiVersion: "apps/v1", kind: "ReplicaSet", controller: true };
  expect(causeAmong([pod({ ...owner, name: "web", uid: "u1" })], pods)).toBeDefined();
  expect(causeAmong([pod({ ...owner, name: "web-5d4f8c7b9", uid: "u2" })], pods)).toBeDefined();
  expect(causeAmong([pod({ ...owner, name: "web-api-5d4f8c7b9", uid: "u2" })], pods)).toBeUndefined();
  expect(causeAmong([pod({ ...owner, kind: "Job", name: "web-5d4f8c7b9", uid: "u2" })], pods)).toBeUndefined();
  expect(causeAmong([pod({ ...owner, name: "web", uid: "u1", controller: false })], pods)).toBeUndefined();
  expect(causeAmong([pod()], pods)).toBeUndefined();
});
