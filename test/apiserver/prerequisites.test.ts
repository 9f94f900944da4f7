import { expect, test } from "vitest";
import { createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { configMap, readyOf, stageSetRef, startTestController, untilReady } from "../support/controller.ts";
import { startFaultProxy, type Fault } from "../support/fault-proxy.ts";
import { deployment } from "../support/manifests.ts";
import { startScene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;

const notFound: Fault = {
  kind: "answer",
  status: 404,
  body: {
    kind: "Status",
    apiVersion: "v1",
    status: "Failure",
    reason: "NotFound",
    code: 404,
    message: "page not found",
  },
};

test("bad input: a CRD that is missing keeps the controller unready, is named, and it recovers by itself", async () => {
  await using proxy = await startFaultProxy(cluster);
  let missing = true;
  proxy.onCall = ({ target }) => (missing && /\/stageledgers(\?|$)/.test(target) ? notFound : undefined);
  await using scene = await startScene(cluster, { server: proxy.server, caPem: "" });
  const { namespace, controller } = scene;
  await scene.publish("app", { "a.yaml": configMap("app") });
  await scene.release("app", [{ name: "only", sourceRef: { name: "app" } }]);
  await eventually(() =>
    controller.logs.some(
      (line) => line.includes("stageledgers.stages.metio.wtf") && line.includes("CRD is not installed"),
    ),
  );
  expect((await controller.probe("/readyz")).status).toBe(500);
  expect((await controller.probe("/healthz")).status).toBe(200);
  expect(readyOf(await scene.get("app"))).toBe("");
  missing = false;
  await untilReady(cluster, { namespace, name: "app" }, "True Succeeded", { timeoutMs: 60_000 });
  await eventually(async () => (await controller.probe("/readyz")).status === 200);
});

test("bad input: missing RBAC keeps the controller unready, is named, and a grant is enough", async () => {
  const namespace = await uniqueNamespace(cluster);
  const account = await createServiceAccount(cluster, { namespace, name: "controller" });
  await using controller = await startTestController(cluster, { namespaces: [namespace], token: account.token });
  await eventually(() =>
    controller.logs.some(
      (line) => line.includes("stagesets.stages.metio.wtf") && line.includes("list or watch is denied"),
    ),
  );
  expect((await controller.probe("/readyz")).status).toBe(500);
  const everything = [{ apiGroups: ["*"], resources: ["*"], verbs: ["get", "list", "watch"] }];
  await createServiceAccount(cluster, { namespace, name: "controller", clusterRules: everything });
  await eventually(async () => (await controller.probe("/readyz")).status === 200, { timeoutMs: 90_000 });
});

test("bad input: an API server that cannot be reached, then goes away in the middle of a release, costs nothing but time", async () => {
  await using proxy = await startFaultProxy(cluster);
  let down = true;
  proxy.onCall = () => (down ? { kind: "drop" } : undefined);
  await using scene = await startScene(cluster, { server: proxy.server, caPem: "" });
  const { namespace, controller } = scene;
  await scene.publish("one", { "a.yaml": deployment("one", { pods: { readyAfter: "3s" } }) });
  await scene.publish("two", { "a.yaml": configMap("two") });
  const stages = ["one", "two"].map((name) => ({ name, sourceRef: { name } }));
  await scene.release("app", stages);
  await eventually(() => controller.logs.some((line) => line.includes("waiting for a prerequisite")));
  expect((await controller.probe("/readyz")).status).toBe(500);
  expect((await controller.probe("/healthz")).status).toBe(200);
  down = false;
  await eventually(
    async () => (await scene.object("one", { apiVersion: "apps/v1", kind: "Deployment" })) !== undefined,
    {
      timeoutMs: 60_000,
    },
  );
  const before = await scene.object("one", { apiVersion: "apps/v1", kind: "Deployment" });
  // As a restart looks from outside: connections are cut, new ones refused, then answers before it is ready.
  down = true;
  proxy.cutWatches();
  let unready = 20;
  proxy.onCall = () => {
    if (down) return { kind: "drop" };
    if (unready-- <= 0) return undefined;
    const body = { kind: "Status", apiVersion: "v1", status: "Failure", code: 503, reason: "ServiceUnavailable" };
    return { kind: "answer", status: 503, body };
  };
  const downAt = performance.now();
  await eventually(() => performance.now() - downAt > 4_000, { timeoutMs: 10_000, intervalMs: 250 });
  down = false;
  await untilReady(cluster, { namespace, name: "app" }, "True Succeeded", { timeoutMs: 90_000 });
  expect((await scene.object("one", { apiVersion: "apps/v1", kind: "Deployment" }))?.metadata.uid).toBe(
    before?.metadata.uid,
  );
  expect(await scene.object("two")).toBeDefined();
  await eventually(async () => (await controller.probe("/readyz")).status === 200, { timeoutMs: 60_000 });
  await admin.delete(stageSetRef(namespace, "app"));
  await eventually(async () => (await scene.get("app")) === undefined, { timeoutMs: 30_000 });
});
