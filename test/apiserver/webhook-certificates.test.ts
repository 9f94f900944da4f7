import { X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { connect } from "node:tls";
import { describe, expect, test } from "vitest";
import { issuePair } from "../../src/certificates/issue.ts";
import { authorityName } from "../../src/certificates/pair.ts";
import { at } from "../../src/lib/json.ts";
import {
  createConstantly,
  installWebhook,
  startFront,
  startReplica,
  type Replica,
  type WebhookInstall,
} from "../support/admission.ts";
import { createServiceAccount, eventually, testCluster, uniqueName, uniqueNamespace } from "../support/cluster.ts";
import { createStageSet } from "../support/controller.ts";
import { createFastClock } from "../support/fast-clock.ts";

const cluster = testCluster();
const { admin } = cluster;
const patient = { timeoutMs: 60_000 };
const minute = 60_000;

/** As the program does, which takes 5 s: answers go on and close their connections before the socket goes. */
const drained = (): Promise<void> => delay(2_000);

const secretRef = ({ namespace, secretName }: WebhookInstall) => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { namespace, name: secretName },
});

/** Certificates with our name in a bundle. */
function ours(bundle: string): readonly X509Certificate[] {
  return certificates(bundle).filter(({ subject }) => subject === `CN=${authorityName}`);
}

function certificates(bundle: string): readonly X509Certificate[] {
  return (bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).flatMap((pem) => {
    try {
      return [new X509Certificate(pem)];
    } catch {
      return [];
    }
  });
}

async function isDenied(namespace: string): Promise<boolean> {
  const spec = { stages: [{ name: "web", path: "..", sourceRef: { name: "app" } }] };
  const error: unknown = await createStageSet(cluster, { namespace, name: uniqueName(), spec }).catch(
    (e: unknown) => e,
  );
  return String(error).includes("spec.stages[0].path");
}

function servedBy(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? "");
      socket.destroy();
    });
    socket.once("error", reject);
  });
}

const foreign = async (): Promise<string> => {
  const { caPem } = await issuePair({ names: ["other.example.org"], validityMs: 60 * minute, now: Date.now() });
  return caPem;
};

describe("self-signed", () => {
  test("[50.41], [60.9] an empty bundle is filled, a wiped one restored within 30 s, and what others put there is kept", async () => {
    const namespace = await uniqueNamespace(cluster);
    const install = await installWebhook(cluster, { judged: [namespace] });
    await using replica = await startReplica(cluster, install, { port: install.port });
    await eventually(() => replica.webhook.isReady(), patient);
    await eventually(() => isDenied(namespace), patient);
    const [filled = ""] = await install.bundles();
    expect(new Set(await install.bundles()).size).toBe(1);
    expect(await install.bundles()).toHaveLength(4);
    expect(ours(filled)).toHaveLength(1);

    await install.setBundles(undefined);
    const began = performance.now();
    await eventually(async () => (await install.bundles()).every((bundle) => bundle === filled), {
      timeoutMs: 150_000,
    });
    expect(performance.now() - began).toBeLessThan(150_000);

    const older = await foreign();
    const garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    await install.setBundles(`${garbage}\n${older}`);
    await eventually(async () => ours((await install.bundles())[0] ?? "").length === 2, { timeoutMs: 150_000 });
    for (const bundle of await install.bundles()) {
      expect(bundle).toContain(older.trim());
      expect(bundle).toContain(garbage);
      expect(bundle).toContain(filled.trim());
    }
    await eventually(() => isDenied(namespace), patient);
  });

  test("a Secret that is deleted or garbage is written again, and nothing in it trusted", async () => {
    const namespace = await uniqueNamespace(cluster);
    const install = await installWebhook(cluster, { judged: [namespace] });
    const planted = await foreign();
    const data = { "tls.crt": "", "tls.key": "", "ca.crt": Buffer.from(planted).toString("base64") };
    await admin.create({ ...secretRef(install), type: "kubernetes.io/tls", data });
    await using replica = await startReplica(cluster, install, { port: install.port });
    await eventually(() => replica.webhook.isReady(), patient);
    expect((await install.bundles())[0]).not.toContain(planted.trim());
    const before = await admin.get(secretRef(install));
    expect(at(before, "data", "ca.crt")).not.toBe(data["ca.crt"]);
    await admin.delete(secretRef(install));
    // The pair that is trusted comes back, not another.
    await eventually(async () => {
      expect(at(await admin.get(secretRef(install)), "data")).toEqual(at(before, "data"));
      return true;
    }, patient);
    expect(await isDenied(namespace)).toBe(true);
  });

  test("two replicas that start at once serve one pair", async () => {
    const install = await installWebhook(cluster, { judged: [await uniqueNamespace(cluster)] });
    await using one = await startReplica(cluster, install);
    await using other = await startReplica(cluster, install);
    await eventually(() => one.webhook.isReady() && other.webhook.isReady(), patient);
    expect(await servedBy(one.port)).toBe(await servedBy(other.port));
    expect(ours((await install.bundles())[0] ?? "")).toHaveLength(1);
  });

  test("without the configuration or the right to the Secret it waits, says so, and recovers", async () => {
    const namespace = await uniqueNamespace(cluster);
    const install = await installWebhook(cluster, { judged: [namespace], registered: false });
    const account = await createServiceAccount(cluster, { namespace: install.namespace, name: "webhook" });
    await using replica = await startReplica(cluster, install, { token: account.token, port: install.port });
    await eventually(() => {
      const missing = replica.webhook.missing().map(({ resource }) => resource);
      expect(missing).toEqual(["secrets", "validatingwebhookconfigurations.admissionregistration.k8s.io"]);
      return true;
    }, patient);
    expect(replica.webhook.port()).toBeUndefined();
    await grant(install);
    await eventually(() => replica.webhook.missing().length === 1, patient);
    expect(replica.webhook.isReady()).toBe(false);
    expect(replica.webhook.missing()[0]?.reason).toContain("does not exist");
    await install.register();
    await eventually(() => replica.webhook.isReady(), patient);
    await eventually(() => isDenied(namespace), patient);
  });

  test("[50.42], [60.9] a rotation under constant admissions fails none, whoever leads at each step", async () => {
    const namespace = await uniqueNamespace(cluster);
    await using front = await startFront();
    const install = await installWebhook(cluster, { judged: [namespace], port: front.port, validityMs: 30 * minute });
    // What is issued is valid for the API server as long as this clock is behind the machine's.
    const clock = createFastClock({ rate: 8, aheadMs: -25 * minute });
    await using stack = new AsyncDisposableStack();
    const start = async (): Promise<Replica> => stack.use(await startReplica(cluster, install, { clock }));
    const [first, second, third] = [await start(), await start(), await start()];
    await eventually(() => [first, second, third].every(({ webhook }) => webhook.isReady()), patient);
    front.endpoints = [first.port, second.port, third.port];
    await eventually(() => isDenied(namespace), patient);
    const load = createConstantly(cluster, namespace);
    const secret = (key: string): Promise<unknown> => admin.get(secretRef(install)).then((o) => at(o, "data", key));
    const oldAuthority = await secret("ca.crt");
    const oldCertificate = await servedBy(first.port);

    // The first leader ends when its new authority is trusted and its pair still in memory alone.
    first.leads = true;
    clock.jump(10 * minute);
    await eventually(async () => ours((await install.bundles())[0] ?? "").length === 2, patient);
    front.endpoints = [second.port, third.port];
    first.webhook.drain();
    await drained();
    await first[Symbol.asyncDispose]();
    expect(await secret("ca.crt")).toBe(oldAuthority);

    // The second ends when the Secret is written and not every replica serves it yet.
    second.leads = true;
    await eventually(async () => (await secret("previous-ca.crt")) === oldAuthority, patient);
    front.endpoints = [third.port];
    second.webhook.drain();
    await drained();
    await second[Symbol.asyncDispose]();
    await eventually(async () => (await servedBy(third.port)) !== oldCertificate, patient);
    const trusted = certificates((await install.bundles())[0] ?? "").map(({ raw }) => raw.toString("base64"));
    expect(trusted).toContain(derOf(oldAuthority));
    expect(trusted).toContain(derOf(await secret("ca.crt")));

    // The third finishes: the previous authority is trusted for 5 more minutes.
    third.leads = true;
    await eventually(() => third.logs.length > 0, patient);
    clock.jump(6 * minute);
    await eventually(async () => (await secret("previous-ca.crt")) === undefined, patient);
    await eventually(async () => {
      const left = certificates((await install.bundles())[0] ?? "").map(({ raw }) => raw.toString("base64"));
      expect(left).not.toContain(derOf(oldAuthority));
      return true;
    }, patient);
    expect(await isDenied(namespace)).toBe(true);
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(load.created).toBeGreaterThan(20);
  });

  test("[50.42], [60.9] while the configuration must not be updated failures are counted, and it recovers when granted", async () => {
    const namespace = await uniqueNamespace(cluster);
    const install = await installWebhook(cluster, { judged: [namespace], validityMs: 30 * minute });
    const account = await createServiceAccount(cluster, { namespace: install.namespace, name: "webhook" });
    await grant(install);
    const clock = createFastClock({ rate: 8, aheadMs: -25 * minute });
    await using replica = await startReplica(cluster, install, { clock, token: account.token, port: install.port });
    await eventually(() => replica.webhook.isReady(), patient);
    expect(await replica.metric("stageset_webhook_cert_renewal_failures_total")).toBe(0);
    const before = await servedBy(replica.port);
    await grant(install, ["get"]);
    replica.leads = true;
    clock.jump(10 * minute);
    // After 10 s, 20 s and so on, not at the next third.
    await eventually(async () => (await replica.metric("stageset_webhook_cert_renewal_failures_total")) >= 3, patient);
    expect(await servedBy(replica.port)).toBe(before);
    expect(await isDenied(namespace)).toBe(true);
    await grant(install);
    await eventually(async () => (await servedBy(replica.port)) !== before, { timeoutMs: 90_000 });
    expect(await isDenied(namespace)).toBe(true);
  });
});

function derOf(base64Pem: unknown): string {
  return new X509Certificate(Buffer.from(String(base64Pem), "base64")).raw.toString("base64");
}

/** The rights of spec 50 §8 for the account of an install. */
async function grant(install: WebhookInstall, verbs: readonly string[] = ["get", "update"]): Promise<void> {
  const rbac = "rbac.authorization.k8s.io";
  const subjects = [{ kind: "ServiceAccount", name: "webhook", namespace: install.namespace }];
  const metadata = { name: `${install.namespace}-webhook`, namespace: install.namespace };
  const rules = [
    { apiGroups: [""], resources: ["secrets"], verbs: ["create"] },
    { apiGroups: [""], resources: ["secrets"], resourceNames: [install.secretName], verbs: ["get", "watch", "update"] },
  ];
  const roleRef = { apiGroup: rbac, name: metadata.name };
  await admin.apply({ apiVersion: `${rbac}/v1`, kind: "Role", metadata, rules });
  await admin.apply({
    apiVersion: `${rbac}/v1`,
    kind: "RoleBinding",
    metadata,
    roleRef: { ...roleRef, kind: "Role" },
    subjects,
  });
  const name = { name: metadata.name };
  const clusterRules = [
    {
      apiGroups: ["admissionregistration.k8s.io"],
      resources: ["validatingwebhookconfigurations"],
      resourceNames: [install.configurationName],
      verbs,
    },
  ];
  await admin.apply({ apiVersion: `${rbac}/v1`, kind: "ClusterRole", metadata: name, rules: clusterRules });
  await admin.apply({
    apiVersion: `${rbac}/v1`,
    kind: "ClusterRoleBinding",
    metadata: name,
    roleRef: { ...roleRef, kind: "ClusterRole" },
    subjects,
  });
}

describe("files", () => {
  test("[50.43] missing files are waited for; a new pair is served within 15 s without a dropped request, an unusable one never", async () => {
    const namespace = await uniqueNamespace(cluster);
    const install = await installWebhook(cluster, { judged: [namespace] });
    const dir = await mkdtemp(join(tmpdir(), "webhook-files-"));
    await using stack = new AsyncDisposableStack();
    stack.defer(() => rm(dir, { recursive: true, force: true }));
    const certificate = { mode: "cert-manager", dir } as const;
    const replica = stack.use(await startReplica(cluster, install, { port: install.port, certificate }));
    await eventually(() => replica.webhook.missing()[0]?.resource === dir, patient);
    expect(replica.webhook.isReady()).toBe(false);
    const names = [`${install.serviceName}.${install.namespace}.svc`] as const;
    const [old, fresh] = await Promise.all(
      [0, 1].map(() => issuePair({ names: [...names], validityMs: 60 * minute, now: Date.now() })),
    );
    if (old === undefined || fresh === undefined) throw new Error("no pairs");
    await install.setBundles(old.caPem + fresh.caPem);
    const write = (pair: { certPem: string; keyPem: string }): Promise<unknown> =>
      Promise.all([writeFile(join(dir, "tls.crt"), pair.certPem), writeFile(join(dir, "tls.key"), pair.keyPem)]);
    await write(old);
    await eventually(() => replica.webhook.isReady(), patient);
    await eventually(() => isDenied(namespace), patient);
    const served = await servedBy(replica.port);
    const load = createConstantly(cluster, namespace);
    const reads = await replica.metric("certwatcher_read_certificate_errors_total");
    await write({ certPem: fresh.certPem, keyPem: old.keyPem });
    await eventually(async () => (await replica.metric("certwatcher_read_certificate_errors_total")) > reads, patient);
    expect(await servedBy(replica.port)).toBe(served);
    await write(fresh);
    await eventually(async () => (await servedBy(replica.port)) !== served, { timeoutMs: 75_000 });
    await eventually(() => isDenied(namespace), patient);
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(replica.webhook.isReady()).toBe(true);
  });
});
