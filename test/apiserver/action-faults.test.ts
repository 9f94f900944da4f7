import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { podAnnotations } from "../../src/dev/kwok-config.ts";
import { asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, stageSetRef, untilReady } from "../support/controller.ts";
import { startFaultProxy, type Fault, type FaultProxy } from "../support/fault-proxy.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;
const jobKind = { apiVersion: "batch/v1", kind: "Job" } as const;
let proxy: FaultProxy;
let scene: Scene;
beforeAll(async () => {
  proxy = await startFaultProxy(cluster);
  scene = await startScene(cluster, { server: proxy.server });
});
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
});
beforeEach(() => {
  proxy.onCall = undefined;
  proxy.onAnswer = undefined;
});

const key = (name: string) => ({ namespace: scene.namespace, name });
const release = async (name: string, action: Readonly<Record<string, unknown>>): Promise<void> => {
  await scene.publish(name, { "a.yaml": configMap(name) });
  const pre = [{ name: "work", ...action }];
  await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }], { retryInterval: "1h" });
};
const jobsNamed = async (name: string): Promise<readonly KubeObject[]> =>
  (await admin.list({ ...jobKind, namespace: scene.namespace })).filter((job) => job.metadata.name.startsWith(name));

function job(name: string, pod: Readonly<Record<string, string>>): string {
  const annotations = Object.fromEntries(
    Object.entries(podAnnotations).flatMap(([option, at]) => (pod[option] === undefined ? [] : [[at, pod[option]]])),
  );
  const containers = [{ name: "work", image: "work" }];
  return JSON.stringify({
    ...jobKind,
    metadata: { name },
    spec: {
      backoffLimit: 0,
      template: { metadata: { annotations }, spec: { restartPolicy: "Never", containers } },
    },
  });
}

const failure = (code: number): Extract<Fault, { kind: "answer" }> => ({
  kind: "answer",
  status: code,
  body: { kind: "Status", apiVersion: "v1", status: "Failure", message: "not now", code },
});

test("a Job is waited for while the API server cannot say how it is doing, and is neither deleted nor created anew", async () => {
  const name = "unread";
  await scene.publish(`${name}-jobs`, { "a.json": job(name, { completeAfter: "3s" }) });
  // More in a row than one read is tried.
  const faults: readonly Fault[] = [429, 500, 503].flatMap((code) => [failure(code), failure(code), failure(code)]);
  const left: Fault[] = [...faults, { kind: "drop" }, { kind: "drop" }, { kind: "drop" }, { kind: "drop" }];
  const seen: string[] = [];
  proxy.onCall = ({ method, target }) => {
    if (!target.includes("/jobs")) return undefined;
    if (left.length > 0 || method !== "GET") seen.push(method);
    return method === "GET" ? left.shift() : undefined;
  };
  await release(name, { job: { sourceRef: { name: `${name}-jobs` } } });
  const stageSet = await untilReady(cluster, key(name), "True Succeeded", { timeoutMs: 60_000 });
  expect(left, messageOf(stageSet)).toEqual([]);
  await eventually(async () => (await jobsNamed(name)).length === 0);
  // The only deletion is the one of a Job that is done with.
  expect(seen.filter((method) => method !== "GET")).toEqual(["POST", "DELETE"]);
});

test("a Job that still runs when another one failed is there until its pods are gone", async () => {
  const name = "sibling";
  await scene.publish(`${name}-jobs`, {
    "a.json": job(`${name}-endless`, { completeAfter: "1h" }),
    "b.json": job(`${name}-fails`, { fail: "true" }),
  });
  const policies: (string | undefined)[] = [];
  proxy.onCall = ({ method, target }, body) => {
    if (method === "DELETE" && target.includes(`/jobs/${name}-endless`))
      policies.push(asText(at(JSON.parse(body), "propagationPolicy")));
    return undefined;
  };
  await release(name, { job: { sourceRef: { name: `${name}-jobs` } } });
  await untilReady(cluster, key(name), "False StageFailed");
  expect(policies).toEqual(["Foreground"]);
  await eventually(async () => (await jobsNamed(`${name}-endless`)).length === 0);
  expect(await jobsNamed(`${name}-fails`)).toHaveLength(1);
});

test("a Job whose creation was cut off before its answer goes with the StageSet that is deleted", async () => {
  const name = "unanswered";
  await scene.publish(`${name}-jobs`, { "a.json": job(name, { completeAfter: "1h" }) });
  const answer = Promise.withResolvers<undefined>();
  const created: number[] = [];
  proxy.onAnswer = async ({ method, target }, status) => {
    if (method !== "POST" || !/\/jobs(\?|$)/.test(target)) return;
    created.push(status);
    await answer.promise;
  };
  await release(name, { job: { sourceRef: { name: `${name}-jobs` } } });
  await eventually(() => created.length > 0);
  // While the StageSet is there nothing but the controller deletes its Jobs.
  const ref = stageSetRef(scene.namespace, name);
  const finalizers = (await admin.get(ref))?.metadata.finalizers ?? [];
  await admin.patch(ref, { metadata: { finalizers: [...finalizers, "example.com/hold"] } });
  await admin.delete(ref);
  await eventually(async () => (await jobsNamed(name)).length === 0, { timeoutMs: 60_000 });
  answer.resolve(undefined);
  expect(created).toEqual([201]);
  await eventually(async () => !(await admin.get(ref))?.metadata.finalizers?.some((each) => finalizers.includes(each)));
  await admin.patch(ref, { metadata: { finalizers: null } });
});

test("another attempt of a delete leaves what came after the object that the first one deleted", async () => {
  const name = "replaced";
  const target = { apiVersion: "v1", kind: "ConfigMap", name: `${name}-target` } as const;
  const ref = { apiVersion: "v1", kind: "ConfigMap", metadata: key(target.name) };
  await admin.create(ref);
  const path = `/api/v1/namespaces/${scene.namespace}/configmaps/${target.name}`;
  // Fewer in a row than one read is tried.
  const reads: Fault[] = [failure(429), failure(503)];
  let successor: string | undefined;
  let deletions = 0;
  proxy.onCall = ({ method, target: called }) => {
    if (!called.startsWith(path)) return undefined;
    if (method !== "DELETE") return reads.shift();
    deletions++;
    return deletions > 1 ? undefined : { ...failure(500), afterCommit: true };
  };
  proxy.onAnswer = async ({ method, target: called }) => {
    if (method === "DELETE" && called.startsWith(path) && successor === undefined)
      successor = (await admin.create(ref)).metadata.uid;
  };
  await release(name, { delete: { target }, retries: 1 });
  await untilReady(cluster, key(name));
  expect(reads).toEqual([]);
  expect(deletions).toBe(1);
  expect(successor).toBeDefined();
  expect((await admin.get(ref))?.metadata.uid).toBe(successor);
});
