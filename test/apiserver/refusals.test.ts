import { beforeAll, describe, expect, test } from "vitest";
import { asText, at } from "../../src/lib/json.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { publishArtifact, startArtifactServer } from "../support/artifacts.ts";
import { auditEvents, auditMark, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import {
  configMap,
  createStageSet,
  messageOf,
  stageSetRef,
  stageStatus,
  startTestController,
  untilReady,
} from "../support/controller.ts";
import { startDenyingWebhook } from "../support/denying-webhook.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { deployment } from "../support/manifests.ts";
import { everyVerb, rulesOn, startTenancy, type Tenancy } from "../support/tenancy.ts";

const cluster = testCluster();
const { admin } = cluster;

const configMapRef = (namespace: string, name: string) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace },
});

describe.concurrent("writes the API server refuses", () => {
  let since = 0;
  beforeAll(async () => {
    since = await auditMark(cluster);
  });

  /** A StageSet of one ConfigMap named like itself, in a namespace of its own. */
  const releaseOne = async (tenancy: Tenancy, verbs: readonly string[] = everyVerb) => {
    const account = await tenancy.account("deployer", rulesOn(["configmaps"], verbs));
    await tenancy.publish("one", { "a.yaml": configMap("one") });
    await tenancy.release("one", {
      serviceAccountName: "deployer",
      retryInterval: "1s",
      stages: [{ name: "only", sourceRef: { name: "one" } }],
    });
    return account;
  };
  const attempts = async (namespace: string): Promise<number> => {
    const tried = await auditEvents(cluster, { since, namespace, resource: "configmaps", verbs: ["patch"] });
    return tried.filter((event) => event.name === "one").length;
  };
  const untilRetried = async (namespace: string): Promise<void> => {
    const before = await attempts(namespace);
    await eventually(async () => (await attempts(namespace)) > before + 1);
  };

  test("[20.38] a missing verb is RBACDenied, looked at every minute, and mended by the grant alone", async () => {
    await using tenancy = await startTenancy(cluster);
    const { namespace } = tenancy;
    await releaseOne(tenancy, ["get", "create"]);
    const refused = await untilReady(cluster, { namespace, name: "one" }, "False RBACDenied");
    expect(stageStatus(refused, "only")).toMatchObject({ phase: "Failed" });
    expect(messageOf(refused)).toContain(
      `User "system:serviceaccount:${namespace}:deployer" cannot patch resource "configmaps"`,
    );
    await tenancy.account("deployer", rulesOn(["configmaps"], everyVerb));
    const ready = await untilReady(cluster, { namespace, name: "one" }, "True Succeeded", { timeoutMs: 65_000 });
    expect(ready.metadata.generation).toBe(refused.metadata.generation);
    // An event of the source that comes after the first pass makes one more; one every second would make sixty.
    expect(await attempts(namespace), "one refused dry run, one accepted, one write").toBeLessThanOrEqual(4);
  });

  test("[20.38] a quota refusal is StageFailed, retried, and over when the quota goes", async () => {
    await using tenancy = await startTenancy(cluster);
    const { namespace } = tenancy;
    const quota = { apiVersion: "v1", kind: "ResourceQuota", metadata: { name: "none", namespace } };
    await admin.create({ ...quota, spec: { hard: { "count/configmaps": "0" } } });
    await eventually(async () => at(await admin.get(quota), "status", "hard") !== undefined);
    await releaseOne(tenancy);
    const refused = await untilReady(cluster, { namespace, name: "one" }, "False StageFailed");
    expect(stageStatus(refused, "only")).toMatchObject({ phase: "Failed" });
    expect(asText(at(stageStatus(refused, "only"), "message"))).toMatch(/^apply: .*exceeded quota/);
    await untilRetried(namespace);
    await admin.delete(quota);
    await untilReady(cluster, { namespace, name: "one" });
  });

  test("[20.38] a webhook's 403 is StageFailed even when it words it like the authorizer, and is retried", async () => {
    await using tenancy = await startTenancy(cluster);
    const { namespace } = tenancy;
    const message = 'configmaps "one" is forbidden: User "mallory" cannot patch resource "configmaps"';
    await using webhook = await startDenyingWebhook(cluster, { namespace, message });
    // The API server takes a moment to notice a webhook.
    const probe = configMapRef(namespace, "probe");
    await eventually(() =>
      admin.create(probe).then(
        () => admin.delete(probe).then(() => false),
        () => true,
      ),
    );
    await releaseOne(tenancy);
    const refused = await untilReady(cluster, { namespace, name: "one" }, "False StageFailed");
    expect(messageOf(refused)).toContain('admission webhook "deny.example.com" denied the request');
    await untilRetried(namespace);
    expect(webhook.refused).toBeGreaterThan(1);
    await webhook.remove();
    await untilReady(cluster, { namespace, name: "one" });
  });

  test("[20.38] a Pod Security refusal is StageFailed and over when the namespace allows it", async () => {
    await using tenancy = await startTenancy(cluster);
    const { namespace } = tenancy;
    const enforce = (level: string | null): Promise<unknown> =>
      admin.patch(
        { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } },
        { metadata: { labels: { "pod-security.kubernetes.io/enforce": level } } },
      );
    await enforce("restricted");
    await tenancy.account("deployer", rulesOn(["pods"], everyVerb));
    const pod =
      "apiVersion: v1\nkind: Pod\nmetadata: { name: free }\nspec: { containers: [{ name: app, image: app }] }\n";
    await tenancy.publish("pod", { "a.yaml": pod });
    await tenancy.release("pod", {
      serviceAccountName: "deployer",
      retryInterval: "1s",
      stages: [{ name: "only", sourceRef: { name: "pod" } }],
    });
    const refused = await untilReady(cluster, { namespace, name: "pod" }, "False StageFailed");
    expect(messageOf(refused)).toContain("violates PodSecurity");
    await enforce(null);
    await untilReady(cluster, { namespace, name: "pod" });
  });

  test("[20.36] a ServiceAccount that may not list or watch verifies by reading now and then", async () => {
    await using tenancy = await startTenancy(cluster);
    const { namespace } = tenancy;
    const account = await tenancy.account("reader", rulesOn(["deployments"], ["get", "create", "patch"], "apps"));
    await tenancy.publish("slow", { "a.yaml": deployment("slow", { pods: { readyAfter: "4s" } }) });
    await tenancy.release("slow", {
      serviceAccountName: "reader",
      stages: [
        {
          name: "only",
          sourceRef: { name: "slow" },
          readyChecks: { checks: [{ apiVersion: "apps/v1", kind: "Deployment", name: "slow" }] },
        },
      ],
    });
    await untilReady(cluster, { namespace, name: "slow" });
    const asked = await auditEvents(cluster, { since, namespace, username: account.username });
    expect(asked.some((event) => event.verb === "watch" && event.code === 403)).toBe(true);
    const refusedReads = asked.filter((event) => event.code === 403 && event.verb === "get");
    expect(refusedReads).toEqual([]);
    const reads = asked.filter((event) => event.verb === "get" && event.name === "slow");
    expect(reads.length).toBeGreaterThan(1);
    expect(reads.length, "4 s of waiting").toBeLessThan(8);
  });
});

describe("teardown that is refused", () => {
  test("[20.45] one of five deletes denied: four are gone, after 60 s the finalizer goes as permanent, counted once", async () => {
    await using proxy = await startFaultProxy(cluster);
    let offset = 0;
    const clock = { ...systemClock, now: () => Date.now() + offset };
    await using tenancy = await startTenancy(cluster, { clock, server: proxy.server });
    const { namespace, controller } = tenancy;
    const names = ["a", "b", "c", "d", "e"];
    const mayDelete = { apiGroups: [""], resources: ["configmaps"], verbs: ["delete"], resourceNames: names.slice(1) };
    await tenancy.account("deployer", [...rulesOn(["configmaps"], ["get", "create", "patch"]), mayDelete]);
    await tenancy.publish("five", Object.fromEntries(names.map((name) => [`${name}.yaml`, configMap(name)])));
    await tenancy.release("five", {
      serviceAccountName: "deployer",
      retryInterval: "1s",
      stages: [{ name: "only", sourceRef: { name: "five" } }],
    });
    await untilReady(cluster, { namespace, name: "five" });
    await admin.delete(stageSetRef(namespace, "five"));
    const left = async (): Promise<readonly string[]> => {
      const found = await Promise.all(names.map((name) => admin.get(configMapRef(namespace, name))));
      return found.flatMap((object) => object?.metadata.name ?? []);
    };
    await eventually(async () => (await left()).length === 1);
    expect(await left()).toEqual(["a"]);
    expect(await admin.get(stageSetRef(namespace, "five"))).toBeDefined();

    let dropped = 0;
    proxy.onCall = ({ method, target }) => {
      if (method !== "PATCH" || !target.includes("/stagesets/five")) return undefined;
      return ++dropped === 1 ? { kind: "drop" } : undefined;
    };
    offset = 60_000;
    await eventually(async () => (await admin.get(stageSetRef(namespace, "five"))) === undefined);
    expect(dropped).toBeGreaterThan(1);
    expect(await left()).toEqual(["a"]);
    const counter = `stageset_teardown_force_drop_total{namespace="${namespace}",name="five",reason="permanent"} 1`;
    await eventually(async () => (await controller.metrics()).includes(counter));
    const events = await eventually(async () => {
      const all = await admin.list({ apiVersion: "events.k8s.io/v1", kind: "Event", namespace });
      const forced = all.filter((event) => at(event, "reason") === "TeardownForced");
      return forced.length > 0 && forced;
    });
    expect(events).toHaveLength(1);
    expect(asText(at(events[0], "note"))).toContain(`${namespace}_a__ConfigMap`);
  });

  test.for(["still runs", "was restarted"] as const)(
    "inventory shards that go before their StageSet do not orphan what they recorded, when the controller %s",
    async (how) => {
      await using first = await startTenancy(cluster);
      const { namespace } = first;
      const applying = [...rulesOn(["configmaps"], ["get", "list", "create", "patch"])];
      await first.account("deployer", applying);
      await first.publish("shardless", { "a.yaml": configMap("shardless") });
      await first.release("shardless", {
        serviceAccountName: "deployer",
        retryInterval: "1s",
        stages: [{ name: "only", sourceRef: { name: "shardless" } }],
      });
      await untilReady(cluster, { namespace, name: "shardless" });
      await admin.delete(stageSetRef(namespace, "shardless"));
      const refusals = (): ReturnType<typeof auditEvents> =>
        auditEvents(cluster, { namespace, resource: "configmaps", verbs: ["delete"] });
      await eventually(async () => (await refusals()).length > 0);
      if (how === "was restarted") await first.controller[Symbol.asyncDispose]();
      const kind = { apiVersion: "stages.metio.wtf/v1", kind: "StageInventory" };
      for (const { metadata } of await admin.list({ ...kind, namespace }))
        await admin.delete({ ...kind, metadata: { name: metadata.name, namespace } });
      await first.account("deployer", [...applying, ...rulesOn(["configmaps"], ["delete"])]);
      await using _second =
        how === "was restarted"
          ? await startTestController(cluster, { namespaces: [namespace], token: first.self.token })
          : undefined;
      await eventually(async () => (await admin.get(stageSetRef(namespace, "shardless"))) === undefined);
      expect(await admin.get(configMapRef(namespace, "shardless"))).toBeUndefined();
    },
  );

  test("a token that cannot be minted for the moment is no reason to give objects up", async () => {
    await using proxy = await startFaultProxy(cluster);
    let offset = 0;
    const clock = { ...systemClock, now: () => Date.now() + offset };
    await using first = await startTenancy(cluster);
    const { namespace, self } = first;
    await first.account("deployer", rulesOn(["configmaps"], everyVerb));
    await first.publish("patient", { "a.yaml": configMap("patient") });
    await first.release("patient", {
      serviceAccountName: "deployer",
      retryInterval: "1s",
      stages: [{ name: "only", sourceRef: { name: "patient" } }],
    });
    await untilReady(cluster, { namespace, name: "patient" });
    await first.controller[Symbol.asyncDispose]();
    await admin.delete(stageSetRef(namespace, "patient"));
    offset = 61_000;
    let mints = 0;
    proxy.onCall = ({ target }) =>
      target.endsWith("/token") && ++mints <= 3 ? { kind: "answer", status: 500, body: {} } : undefined;
    await using _second = await startTestController(cluster, {
      namespaces: [namespace],
      token: self.token,
      clock,
      server: proxy.server,
    });
    await eventually(async () => (await admin.get(stageSetRef(namespace, "patient"))) === undefined);
    expect(mints).toBeGreaterThan(3);
    expect(await admin.get(configMapRef(namespace, "patient"))).toBeUndefined();
  });

  test("[20.44] the objects without a namespace go with the namespace of their release", async () => {
    const namespace = await uniqueNamespace(cluster);
    await using server = await startArtifactServer();
    // A ServiceAccount of the namespace would go with it: this release is the controller's own.
    const options = { namespaces: [namespace], token: cluster.adminToken };
    await using _controller = await startTestController(cluster, options);
    const role = `apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: { name: of-${namespace} }\nrules: []\n`;
    const files = { "a.yaml": configMap("inside"), "b.yaml": role };
    await publishArtifact(cluster, { server, namespace, name: "wide", files });
    await createStageSet(cluster, {
      namespace,
      name: "wide",
      spec: { stages: [{ name: "only", sourceRef: { name: "wide" } }] },
    });
    await untilReady(cluster, { namespace, name: "wide" });
    await admin.delete({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
    const roleRef = {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: `of-${namespace}` },
    };
    await eventually(async () => (await admin.get(stageSetRef(namespace, "wide"))) === undefined, {
      timeoutMs: 30_000,
    });
    expect(await admin.get(roleRef)).toBeUndefined();
  });

  test("[20.44] ServiceAccount gone and namespace terminating: the finalizer goes at once as unauthorized", async () => {
    await using tenancy = await startTenancy(cluster, { reaches: "everywhere" });
    const { namespace, controller } = tenancy;
    await tenancy.account("deployer", rulesOn(["configmaps"], everyVerb));
    await tenancy.publish("going", { "a.yaml": configMap("going") });
    await tenancy.release("going", {
      serviceAccountName: "deployer",
      retryInterval: "1s",
      stages: [{ name: "only", sourceRef: { name: "going" } }],
    });
    await untilReady(cluster, { namespace, name: "going" });
    const usedAt = performance.now();
    await admin.delete({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "deployer", namespace } });
    // The API server remembers a token it has accepted for ten seconds.
    await eventually(() => performance.now() - usedAt > 11_000, { timeoutMs: 15_000 });
    const deletedAt = performance.now();
    await admin.delete({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
    await eventually(async () => (await admin.get(stageSetRef(namespace, "going"))) === undefined, {
      timeoutMs: 30_000,
    });
    expect(performance.now() - deletedAt).toBeLessThan(30_000);
    const counter = `stageset_teardown_force_drop_total{namespace="${namespace}",name="going",reason="unauthorized"} 1`;
    await eventually(async () => (await controller.metrics()).includes(counter));
    const drops = controller.logs.filter((line) => line.includes("force-dropped finalizer"));
    expect(drops).toHaveLength(1);
    // One Event is sent; a namespace that is going takes none.
    const refusedEvents = controller.logs.filter(
      (line) => line.includes("cannot record an event") && line.includes("TeardownForced"),
    );
    expect(refusedEvents).toHaveLength(1);
  });
});
