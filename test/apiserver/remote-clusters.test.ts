import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { auditEvents, auditMark, eventually, testCluster, uniqueName } from "../support/cluster.ts";
import { configMap, messageOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { recordedIds, requestPass, shardsOf } from "../support/passes.ts";
import { kubeConfigText, startRemote, writeKubeConfig, type RemoteCluster } from "../support/remote.ts";
import { deploymentKind, startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
const stack = new AsyncDisposableStack();
let scene: Scene;
let remote: RemoteCluster;
let deployer: string;
beforeAll(async () => {
  remote = stack.use(await startRemote());
  scene = stack.use(await startScene(cluster, { config: { maxTeardownWaitMs: 5_000 } }));
  deployer = `system:serviceaccount:${scene.namespace}:deployer`;
  await remote.prepare(scene.namespace, deployer);
  await writeKubeConfig(cluster, { ...nameIn("there"), text: remote.plane.kubeconfig(remote.plane.adminToken) });
}, 180_000);
afterAll(() => stack.disposeAsync());

const nameIn = (name: string) => ({ namespace: scene.namespace, name });
const kubeConfig = { secretRef: { name: "there" } };
const configMapKind = { apiVersion: "v1", kind: "ConfigMap" } as const;
const there = (name: string, kind: { readonly apiVersion: string; readonly kind: string } = configMapKind) =>
  remote.cluster.admin.get({ ...kind, metadata: nameIn(name) });
const targetOf = (shard: KubeObject | undefined) => shard?.metadata.annotations?.["stages.metio.wtf/target"];

describe("a StageSet with the kubeconfig of another cluster", () => {
  test("[50.15] objects go there as its ServiceAccount, what is recorded of them stays here", async () => {
    const name = "away";
    const since = await auditMark(remote.plane);
    const sinceHere = await auditMark(cluster);
    await scene.publish(name, { "a.yaml": configMap(name, { k: "1" }) });
    await scene.release(name, [{ name: "only", sourceRef: { name } }], { kubeConfig });
    const ready = await untilReady(cluster, nameIn(name));
    expect(at(await there(name), "data", "k")).toBe("1");
    expect(await scene.object(name)).toBeUndefined();
    expect(at(stageStatus(ready, "only"), "phase")).toBe("Ready");
    const shards = await shardsOf(cluster, nameIn(name));
    expect(shards.map(targetOf)).toEqual(["Secret/there/value"]);
    expect(await recordedIds(cluster, nameIn(name))).toEqual([`${scene.namespace}_${name}__ConfigMap`]);
    expect(await stageSetEvents(cluster, { ...nameIn(name), reason: "Succeeded" })).toHaveLength(1);
    const seen = await auditEvents(remote.plane, {
      since,
      where: ({ userAgent }) => userAgent.startsWith("stageset-controller"),
    });
    expect(seen.length).toBeGreaterThan(0);
    expect(new Set(seen.map(({ username, impersonated }) => `${username} as ${impersonated ?? "itself"}`))).toEqual(
      new Set([`admin as ${deployer}`]),
    );
    expect(seen.some(({ resource, verb }) => resource === "configmaps" && verb === "patch")).toBe(true);
    // Read here as who is going to use it.
    const reads = await auditEvents(cluster, {
      since: sinceHere,
      namespace: scene.namespace,
      resource: "secrets",
      where: (event) => event.name === "there" && event.userAgent.startsWith("stageset-controller"),
    });
    expect(new Set(reads.map(({ username }) => username))).toEqual(new Set([deployer]));
  });

  test("[30.23] artifacts of job and apply actions are those of here, their objects are there, and the StageLedger is here", async () => {
    const name = "acting-away";
    const jobs = { apiVersion: "batch/v1", kind: "Job" } as const;
    const template = { spec: { restartPolicy: "Never", containers: [{ name: "work", image: "work" }] } };
    await scene.publish(`${name}-more`, { "a.yaml": configMap(`${name}-more`) });
    const work = { ...jobs, metadata: { name: `${name}-work` }, spec: { template } };
    await scene.publish(`${name}-jobs`, { "a.json": JSON.stringify(work) });
    await scene.publish(name, { "a.yaml": configMap(name) });
    const completionAnchor = { ...configMapKind, name: `${name}-more` };
    const pre = [
      { name: "more", apply: { sourceRef: { name: `${name}-more` } }, scope: "Lifetime", completionAnchor },
      { name: "work", job: { sourceRef: { name: `${name}-jobs` } } },
    ];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }], { kubeConfig });
    const running = async () =>
      (await remote.cluster.admin.list({ ...jobs, namespace: scene.namespace })).find((job) =>
        job.metadata.name.startsWith(`${name}-work-`),
      );
    await eventually(async () => (await running()) !== undefined);
    const more = await there(`${name}-more`);
    expect(more).toBeDefined();
    expect(await scene.object(`${name}-more`)).toBeUndefined();
    const job = await running();
    // Owners are of one cluster.
    expect(job?.metadata.ownerReferences).toBeUndefined();
    expect(await admin.list({ ...jobs, namespace: scene.namespace })).toEqual([]);
    // Nobody runs Jobs there.
    const now = new Date().toISOString();
    const done = ["SuccessCriteriaMet", "Complete"].map((type) => ({ type, status: "True", lastTransitionTime: now }));
    await remote.cluster.admin.patchStatus(
      { ...jobs, metadata: nameIn(job?.metadata.name ?? "") },
      { conditions: done, startTime: now, completionTime: now, succeeded: 1, uncountedTerminatedPods: {} },
    );
    await untilReady(cluster, nameIn(name));
    await eventually(async () => (await running()) === undefined);
    const ledger = await admin.get({ ...stageSetRef(scene.namespace, name), kind: "StageLedger" });
    expect(at(ledger, "status", "completedActions")).toMatchObject([
      { stage: "only", action: "more", anchor: { ...completionAnchor, uid: more?.metadata.uid } },
    ]);
  });

  test("drift there is corrected, what is dropped is pruned there, and a teardown deletes there", async () => {
    const name = "kept-in-order";
    await scene.publish(name, { "a.yaml": configMap(name, { k: "1" }), "b.yaml": configMap(`${name}-b`) });
    await scene.release(name, [{ name: "only", sourceRef: { name } }], { kubeConfig });
    await untilReady(cluster, nameIn(name));
    await remote.cluster.admin.patch({ ...configMapKind, metadata: nameIn(name) }, { data: { k: "edited" } });
    await eventually(async () => at(await there(name), "data", "k") === "1");
    await eventually(
      async () => (await stageSetEvents(cluster, { ...nameIn(name), reason: "DriftCorrected" })).length === 1,
    );
    await scene.publish(name, { "a.yaml": configMap(name, { k: "2" }) });
    await eventually(async () => at(await there(name), "data", "k") === "2");
    await eventually(async () => (await there(`${name}-b`)) === undefined);
    await untilReady(cluster, nameIn(name));
    await admin.delete(stageSetRef(scene.namespace, name));
    await eventually(async () => (await scene.get(name)) === undefined);
    expect(await there(name)).toBeUndefined();
  });

  test("a stage waits for a Deployment there and goes on as soon as it is ready", async () => {
    const name = "waits";
    await scene.publish(`${name}-1`, { "a.yaml": deployment(name) });
    await scene.publish(`${name}-2`, { "a.yaml": configMap(name) });
    const stages = ["1", "2"].map((each) => ({ name: `s${each}`, sourceRef: { name: `${name}-${each}` } }));
    await scene.release(name, stages, { kubeConfig });
    await untilReady(cluster, nameIn(name), "Unknown Progressing");
    const waiting = await eventually(async () => {
      const found = await there(name, deploymentKind);
      return at(stageStatus(await scene.get(name), "s1"), "phase") === "Verifying" && found;
    });
    expect(await there(name)).toBeUndefined();
    // There is no controller of Deployments there.
    await remote.cluster.admin.patch(
      { ...deploymentKind, metadata: nameIn(name) },
      {
        status: {
          observedGeneration: waiting.metadata.generation,
          replicas: 1,
          updatedReplicas: 1,
          readyReplicas: 1,
          availableReplicas: 1,
          conditions: [
            { type: "Available", status: "True", reason: "Test" },
            { type: "Progressing", status: "True", reason: "NewReplicaSetAvailable" },
          ],
        },
      },
      { subresource: "status" },
    );
    await untilReady(cluster, nameIn(name));
    expect(await there(name)).toBeDefined();
  });

  test("a missing Secret fails the stage and says so; once it is there the release goes on", async () => {
    const name = "late-secret";
    await scene.publish(name, { "a.yaml": configMap(name) });
    const late = { secretRef: { name, key: "config" } };
    await scene.release(name, [{ name: "only", sourceRef: { name } }], { kubeConfig: late, retryInterval: "1s" });
    const missing = await untilReady(cluster, nameIn(name), "False StageFailed");
    expect(messageOf(missing)).toBe(
      `stage "only" connect to target cluster: Secret "${scene.namespace}/${name}" does not exist`,
    );
    const text = remote.plane.kubeconfig(remote.plane.adminToken);
    await writeKubeConfig(cluster, { ...nameIn(name), text });
    await eventually(async () =>
      messageOf(await scene.get(name)).endsWith(`Secret "${scene.namespace}/${name}" key "config" is missing or empty`),
    );
    await writeKubeConfig(cluster, { ...nameIn(name), text, key: "config" });
    await untilReady(cluster, nameIn(name));
    expect(await there(name)).toBeDefined();
  });

  test("a ServiceAccount that may not read the Secret is denied, and so is one that may not write there", async () => {
    const name = "denied";
    await admin.apply({ apiVersion: "v1", kind: "ServiceAccount", metadata: nameIn("nobody") });
    await scene.publish(name, { "a.yaml": configMap(name) });
    const spec = { kubeConfig, serviceAccountName: "nobody" };
    await scene.release(name, [{ name: "only", sourceRef: { name } }], spec);
    const denied = await untilReady(cluster, nameIn(name), "False RBACDenied");
    expect(messageOf(denied)).toContain(
      `User "system:serviceaccount:${scene.namespace}:nobody" cannot get resource "secrets"`,
    );
    await admin.apply({
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata: nameIn("nobody"),
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "deployer" },
      subjects: [{ kind: "ServiceAccount", ...nameIn("nobody") }],
    });
    await requestPass(cluster, nameIn(name));
    const refused = await untilReady(cluster, nameIn(name), "False RBACDenied");
    expect(messageOf(refused)).toContain(`User "system:serviceaccount:${scene.namespace}:nobody" cannot`);
    expect(messageOf(refused)).toContain("configmaps");
    expect(await there(name)).toBeUndefined();
  });

  test("[60.30] another cluster gets everything, and the old one's objects are left with one Event", async () => {
    const name = "moved";
    await scene.publish(name, { "a.yaml": configMap(name), "b.yaml": configMap(`${name}-b`) });
    await scene.release(name, [{ name: "only", sourceRef: { name } }]);
    await untilReady(cluster, nameIn(name));
    expect((await shardsOf(cluster, nameIn(name))).map(targetOf)).toEqual(["local"]);
    await admin.patch(stageSetRef(scene.namespace, name), { spec: { kubeConfig } });
    await untilReady(cluster, nameIn(name));
    expect(await there(name)).toBeDefined();
    expect(await there(`${name}-b`)).toBeDefined();
    expect(await scene.object(name)).toBeDefined();
    expect((await shardsOf(cluster, nameIn(name))).map(targetOf)).toEqual(["Secret/there/value"]);
    await requestPass(cluster, nameIn(name));
    const events = await stageSetEvents(cluster, { ...nameIn(name), reason: "TargetChanged" });
    expect(events.map(({ type, count }) => ({ type, count }))).toEqual([{ type: "Warning", count: 1 }]);
    expect(events[0]?.note).toContain("2 object(s) recorded for local");
    expect(await stageSetEvents(cluster, { ...nameIn(name), reason: "DriftCorrected" })).toEqual([]);
    await admin.delete(stageSetRef(scene.namespace, name));
    await eventually(async () => (await scene.get(name)) === undefined);
    expect(await there(name)).toBeUndefined();
    expect(await scene.object(name)).toBeDefined();
  });

  test("a teardown without the Secret is tried until --max-teardown-wait, then the objects are left and named", async () => {
    const name = "forsaken";
    await writeKubeConfig(cluster, { ...nameIn(name), text: remote.plane.kubeconfig(remote.plane.adminToken) });
    await scene.publish(name, { "a.yaml": configMap(name) });
    const own = { secretRef: { name } };
    await scene.release(name, [{ name: "only", sourceRef: { name } }], { kubeConfig: own, retryInterval: "1s" });
    await untilReady(cluster, nameIn(name));
    await admin.delete({ apiVersion: "v1", kind: "Secret", metadata: nameIn(name) });
    await admin.delete(stageSetRef(scene.namespace, name));
    await eventually(async () => (await scene.get(name)) === undefined);
    const [event] = await eventually(async () => {
      const events = await stageSetEvents(cluster, { ...nameIn(name), reason: "TeardownForced" });
      return events.length > 0 && events;
    });
    expect(event?.note).toContain(`Secret "${scene.namespace}/${name}" does not exist`);
    expect(await there(name)).toBeDefined();
  });

  test("a teardown whose spec is gone looks for nothing on this cluster, and names what it leaves on the other", async () => {
    const name = "shapeless";
    await writeKubeConfig(cluster, { ...nameIn(name), text: remote.plane.kubeconfig(remote.plane.adminToken) });
    await scene.publish(name, { "a.yaml": configMap(name) });
    const own = { secretRef: { name } };
    await scene.release(name, [{ name: "only", sourceRef: { name } }], { kubeConfig: own, retryInterval: "1s" });
    await untilReady(cluster, nameIn(name));
    const labels = (await there(name))?.metadata.labels ?? {};
    await admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: { ...nameIn(name), labels } });
    await admin.patch(stageSetRef(scene.namespace, name), { spec: { suspend: true } });
    await admin.delete({ apiVersion: "v1", kind: "Secret", metadata: nameIn(name) });
    await admin.delete(stageSetRef(scene.namespace, name));
    await admin.patch(stageSetRef(scene.namespace, name), { spec: null });
    const [event] = await eventually(async () => {
      const events = await stageSetEvents(cluster, { ...nameIn(name), reason: "TeardownForced" });
      return events.length > 0 && events;
    });
    expect(event?.note).toContain("restore spec.kubeConfig");
    expect(await scene.object(name)).toBeDefined();
    expect(await there(name)).toBeDefined();
  });
});

describe("a kubeconfig that asks for more than an address and a credential", () => {
  const marker = join(tmpdir(), uniqueName("ran"));
  const exec = {
    apiVersion: "client.authentication.k8s.io/v1",
    command: "/usr/bin/touch",
    args: [marker],
    interactiveMode: "Never",
  };
  let connections = 0;
  const listener = createServer((socket) => {
    connections++;
    socket.destroy();
  });
  let server: string;
  beforeAll(async () => {
    await new Promise<void>((resolve) => void listener.listen(0, "127.0.0.1", resolve));
    const address = listener.address();
    server = `https://127.0.0.1:${typeof address === "object" ? (address?.port ?? 0) : 0}`;
  });
  afterAll(() => void listener.close());

  test.each<readonly [string, Readonly<Record<string, unknown>>, Readonly<Record<string, unknown>>, string]>([
    ["exec", {}, { exec }, "users[].user.exec"],
    ["auth-provider", {}, { "auth-provider": { name: "oidc" } }, "users[].user.auth-provider"],
    ["tokenFile", {}, { tokenFile: "/var/run/secrets/kubernetes.io/serviceaccount/token" }, "users[].user.tokenFile"],
    ["client-certificate", {}, { "client-certificate": "tls.crt" }, "users[].user.client-certificate"],
    ["client-key", {}, { "client-key": "../tls.key" }, "users[].user.client-key"],
    [
      "certificate-authority",
      { "certificate-authority": "/etc/ca.crt" },
      {},
      "clusters[].cluster.certificate-authority",
    ],
    ["insecure TLS", { "insecure-skip-tls-verify": true }, {}, "clusters[].cluster.insecure-skip-tls-verify"],
    ["http", { server: "http" }, {}, "clusters[].cluster.server"],
    ["a SOCKS proxy", { "proxy-url": "socks5://127.0.0.1:1" }, {}, "clusters[].cluster.proxy-url"],
    ["a proxy on loopback", { "proxy-url": "http" }, {}, "clusters[].cluster.proxy-url"],
  ])("[50.16] %s: InvalidSpec names the field, nothing is run and nobody is called", async (what, own, user, field) => {
    const name = `refused-${what.toLowerCase().replace(/[^a-z]+/g, "-")}`;
    const urls = Object.entries<unknown>({ server, ...own }).map(([key, value]): [string, unknown] => [
      key,
      value === "http" ? server.replace("https:", "http:") : value,
    ]);
    const text = kubeConfigText({
      cluster: Object.fromEntries<unknown>(urls),
      user: { token: "canary-token", ...user },
    });
    await writeKubeConfig(cluster, { ...nameIn(name), text });
    await scene.publish(name, { "a.yaml": configMap(name) });
    await scene.release(name, [{ name: "only", sourceRef: { name } }], { kubeConfig: { secretRef: { name } } });
    const refused = await untilReady(cluster, nameIn(name), "False InvalidSpec");
    expect(messageOf(refused)).toContain(`spec.kubeConfig: Secret "${scene.namespace}/${name}" key "value": ${field} `);
    expect(connections).toBe(0);
    expect(existsSync(marker)).toBe(false);
    expect(scene.controller.logs.join("\n")).not.toContain("canary-token");
  });

  test("[50.16] one that is no YAML, an alias bomb and one of 1 MiB are refused without a look at what they say", async () => {
    const name = "no-yaml";
    await scene.publish(name, { "a.yaml": configMap(name) });
    const bomb = `a: &a [x, x]\n${Array.from({ length: 60 }, (_, i) => `b${i}: [*a, *a]\n`).join("")}`;
    const texts = ["- [canary-text", bomb, `current-context: x\nlist: [${"a,".repeat(300_000)}]\n`];
    for (const [index, text] of texts.entries()) {
      const each = `${name}-${index}`;
      await writeKubeConfig(cluster, { ...nameIn(each), text });
      await scene.release(each, [{ name: "only", sourceRef: { name } }], { kubeConfig: { secretRef: { name: each } } });
      const refused = await untilReady(cluster, nameIn(each), "False InvalidSpec");
      expect(messageOf(refused)).toContain(`spec.kubeConfig: Secret "${scene.namespace}/${each}" key "value": `);
      expect(messageOf(refused)).not.toContain("canary-text");
    }
  });
});
