import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { controllerUsername } from "../support/controller-account.ts";
import { auditEvents, auditMark, createServiceAccount, eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, untilReady } from "../support/controller.ts";
import { requestPass } from "../support/passes.ts";
import { startRemote, type RemoteCluster } from "../support/remote.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { everyVerb, rulesOn } from "../support/tenancy.ts";

const cluster = testCluster();
const { admin } = cluster;
const rbac = "rbac.authorization.k8s.io";
const audience = "target.example";
const stack = new AsyncDisposableStack();
let scene: Scene;
let remote: RemoteCluster;
beforeAll(async () => {
  // Who trusts an issuer reads its keys as nobody in particular.
  await admin.apply({
    apiVersion: `${rbac}/v1`,
    kind: "ClusterRoleBinding",
    metadata: { name: "test-issuer-discovery" },
    roleRef: { apiGroup: rbac, kind: "ClusterRole", name: "system:service-account-issuer-discovery" },
    subjects: [{ kind: "Group", name: "system:unauthenticated" }],
  });
  const dir = await mkdtemp(join(tmpdir(), "stageset-trust-"));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const authenticationConfig = join(dir, "authentication.yaml");
  const issuer = {
    url: "https://kubernetes.default.svc",
    discoveryURL: `${cluster.server}/.well-known/openid-configuration`,
    certificateAuthority: cluster.caPem,
    audiences: [audience],
    audienceMatchPolicy: "MatchAny",
  };
  const claimMappings = { username: { claim: "sub", prefix: "" } };
  await writeFile(
    authenticationConfig,
    stringify({
      apiVersion: "apiserver.config.k8s.io/v1beta1",
      kind: "AuthenticationConfiguration",
      jwt: [{ issuer, claimMappings }],
    }),
  );
  remote = stack.use(await startRemote({ issuer: "https://remote.example", authenticationConfig }));
  scene = stack.use(await startScene(cluster));
  // Nothing of tokens: those are the controller's business.
  const rules = [...rulesOn(["configmaps"], everyVerb), ...rulesOn(["secrets"], ["get"])];
  await createServiceAccount(cluster, { namespace: scene.namespace, name: "tenant", rules });
  await createServiceAccount(cluster, { namespace: scene.namespace, name: "federated" });
  await remote.prepare(scene.namespace, user("tenant"));
  const impersonation = { apiVersion: `${rbac}/v1`, metadata: { name: "federated-acts-as" } };
  await remote.cluster.admin.apply({
    ...impersonation,
    kind: "ClusterRole",
    rules: [{ apiGroups: [""], resources: ["serviceaccounts"], verbs: ["impersonate"] }],
  });
  await remote.cluster.admin.apply({
    ...impersonation,
    kind: "ClusterRoleBinding",
    roleRef: { apiGroup: rbac, kind: "ClusterRole", name: impersonation.metadata.name },
    subjects: [{ kind: "User", name: user("federated") }],
  });
}, 180_000);
afterAll(() => stack.disposeAsync());

const nameIn = (name: string) => ({ namespace: scene.namespace, name });
const user = (name: string): string => `system:serviceaccount:${scene.namespace}:${name}`;
const entries = (more: Readonly<Record<string, string>> = {}) => ({
  provider: "generic",
  address: remote.plane.server,
  "ca.crt": remote.plane.caPem,
  audiences: `${audience}\n`,
  serviceAccountName: "federated",
  ...more,
});
/** A release by `tenant` to the cluster of a ConfigMap of the same name. */
async function release(name: string, data: Readonly<Record<string, string>> | undefined, spec = {}): Promise<void> {
  if (data !== undefined) await admin.apply({ apiVersion: "v1", kind: "ConfigMap", metadata: nameIn(name), data });
  await scene.publish(name, { "a.yaml": configMap(`${name}-object`) });
  const kubeConfig = { configMapRef: { name } };
  await scene.release(name, [{ name: "only", sourceRef: { name } }], {
    serviceAccountName: "tenant",
    kubeConfig,
    ...spec,
  });
}

test("[50.20] generic: the ServiceAccount's token for the other cluster's audience applies there, and the tenant mints none", async () => {
  const name = "generic";
  const since = await auditMark(cluster);
  const sinceThere = await auditMark(remote.plane);
  await release(name, entries());
  await untilReady(cluster, nameIn(name));
  await requestPass(cluster, nameIn(name));
  const ref = { apiVersion: "v1", kind: "ConfigMap", metadata: nameIn(`${name}-object`) };
  expect(await remote.cluster.admin.get(ref)).toBeDefined();
  expect(await admin.get(ref)).toBeUndefined();
  const there = await auditEvents(remote.plane, {
    since: sinceThere,
    where: ({ userAgent }) => userAgent.startsWith("stageset-controller"),
  });
  expect(new Set(there.map(({ username, impersonated }) => `${username} as ${impersonated ?? ""}`))).toEqual(
    new Set([`${user("federated")} as ${user("tenant")}`]),
  );
  const mints = await auditEvents(cluster, {
    since,
    namespace: scene.namespace,
    where: (event) => event.subresource === "token" && event.name === "federated",
  });
  expect(new Set(mints.map(({ username }) => username))).toEqual(new Set([controllerUsername]));
  // One to see what the API server here accepts, one for there.
  expect(mints.length).toBeLessThanOrEqual(2);
});

describe("a ConfigMap that cannot be used", () => {
  let connections = 0;
  const listener = createServer((socket) => {
    connections++;
    socket.destroy();
  });
  let address: string;
  beforeAll(async () => {
    await new Promise<void>((resolve) => void listener.listen(0, "127.0.0.1", resolve));
    address = `https://127.0.0.1:${String((listener.address() as AddressInfo).port)}`; // It listens on a port.
  });
  afterAll(() => void listener.close());

  test.each<[string, Readonly<Record<string, string>>, string]>([
    ["without a ServiceAccount", { serviceAccountName: "" }, "serviceAccountName is missing"],
    ["with the audience of the API server", { audiences: "https://kubernetes.default.svc" }, "audiences names"],
    [
      "with the audience of any API server inside its cluster",
      { audiences: `${audience}\nhttps://kubernetes.default.svc.cluster.local` },
      "audiences names",
    ],
    ["without an address", { address: "" }, "address is missing"],
    ["with http", { address: "http://there.example" }, 'address has scheme "http"'],
    ["with a metadata server", { address: "https://169.254.169.254" }, "address leads to an address that is never"],
    ["with a broken authority", { "ca.crt": "none" }, "ca.crt holds no PEM certificate"],
    ["of an unknown provider", { provider: "cloudy" }, 'provider is "cloudy": give one of'],
    ["without a provider", { provider: "" }, 'provider is "": give one of'],
    ["with a name that is none", { serviceAccountName: "../x" }, 'serviceAccountName is "../x"'],
  ])("[50.19] generic %s: InvalidSpec names the entry, and nobody is called", async (what, data, problem) => {
    const name = what.replace(/[^a-z]+/g, "-").slice(0, 40);
    await release(name, entries({ address, ...data }));
    const refused = await untilReady(cluster, nameIn(name), "False InvalidSpec");
    expect(messageOf(refused)).toContain(`spec.kubeConfig: ConfigMap "${scene.namespace}/${name}": ${problem}`);
    expect(connections).toBe(0);
  });

  test("one that is missing is InvalidSpec, and taken up a minute later at the latest", async () => {
    const name = "missing";
    await release(name, undefined);
    const refused = await untilReady(cluster, nameIn(name), "False InvalidSpec");
    expect(messageOf(refused)).toContain(`ConfigMap "${scene.namespace}/${name}": does not exist: create it`);
    await admin.apply({ apiVersion: "v1", kind: "ConfigMap", metadata: nameIn(name), data: entries() });
    await untilReady(cluster, nameIn(name), "True Succeeded", { timeoutMs: 100_000 });
  });

  test("[50.11] it is read as the stage's ServiceAccount, which needs the right to, and never as the controller", async () => {
    const name = "unreadable";
    const since = await auditMark(cluster);
    await createServiceAccount(cluster, { namespace: scene.namespace, name: "blind" });
    await release(name, entries(), { serviceAccountName: "blind" });
    const denied = await untilReady(cluster, nameIn(name), "False RBACDenied");
    expect(messageOf(denied)).toContain(`User "${user("blind")}" cannot get resource "configmaps"`);
    const reads = await eventually(async () => {
      const seen = await auditEvents(cluster, {
        since,
        namespace: scene.namespace,
        resource: "configmaps",
        verbs: ["get"],
      });
      const own = seen.filter((event) => event.name === name && event.userAgent.startsWith("stageset-controller"));
      return own.length > 0 && own;
    });
    expect(new Set(reads.map(({ username }) => username))).toEqual(new Set([user("blind")]));
  });
});
