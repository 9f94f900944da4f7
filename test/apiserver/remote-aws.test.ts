import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { audiencesOf } from "../../src/identity/mint-token.ts";
import { testCluster } from "../support/cluster.ts";
import { configMap, messageOf, untilReady } from "../support/controller.ts";
import { startFakeAws, userOfAws, type FakeAws } from "../support/fake-aws.ts";
import { requestPass } from "../support/passes.ts";
import { kubeConfigText, startRemote, type RemoteCluster } from "../support/remote.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;
const rbac = "rbac.authorization.k8s.io";
const arn = "arn:aws:eks:eu-central-1:123456789012:cluster/shop";
const roleArn = "arn:aws:iam::123456789012:role/deployer";
const stack = new AsyncDisposableStack();
let aws: FakeAws;
let scene: Scene;
let remote: RemoteCluster;
beforeAll(async () => {
  aws = stack.use(await startFakeAws());
  const dir = await mkdtemp(join(tmpdir(), "stageset-eks-"));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const tokenReviewer = join(dir, "reviewer.yaml");
  await writeFile(tokenReviewer, kubeConfigText({ cluster: { server: `${aws.url}/review` } }));
  remote = stack.use(await startRemote({ tokenReviewer }));
  aws.clusters.set("shop", { endpoint: remote.plane.server, caPem: remote.plane.caPem });
  const env = {
    AWS_ENDPOINT_URL_STS: aws.url,
    AWS_ENDPOINT_URL_EKS: aws.url,
    AWS_ACCESS_KEY_ID: "AKIAOWN",
    AWS_SECRET_ACCESS_KEY: "canary-own-key",
  };
  scene = stack.use(await startScene(cluster, { config: { env } }));
  const metadata = { ...nameIn("federated"), annotations: { "eks.amazonaws.com/role-arn": roleArn } };
  await admin.apply({ apiVersion: "v1", kind: "ServiceAccount", metadata });
  await admin.apply({ apiVersion: "v1", kind: "ServiceAccount", metadata: nameIn("plain") });
  await remote.prepare(scene.namespace, `system:serviceaccount:${scene.namespace}:deployer`);
  const acting = { apiVersion: `${rbac}/v1`, metadata: { name: "aws-acts-as" } };
  await remote.cluster.admin.apply({
    ...acting,
    kind: "ClusterRole",
    rules: [{ apiGroups: [""], resources: ["serviceaccounts"], verbs: ["impersonate"] }],
  });
  await remote.cluster.admin.apply({
    ...acting,
    kind: "ClusterRoleBinding",
    roleRef: { apiGroup: rbac, kind: "ClusterRole", name: acting.metadata.name },
    subjects: [{ kind: "User", name: userOfAws }],
  });
}, 180_000);
afterAll(() => stack.disposeAsync());

const nameIn = (name: string) => ({ namespace: scene.namespace, name });
async function release(name: string, data: Readonly<Record<string, string>>): Promise<void> {
  const entries = { provider: "aws", cluster: arn, ...data };
  await admin.apply({ apiVersion: "v1", kind: "ConfigMap", metadata: nameIn(name), data: entries });
  await scene.publish(name, { "a.yaml": configMap(`${name}-object`) });
  const kubeConfig = { configMapRef: { name } };
  await scene.release(name, [{ name: "only", sourceRef: { name } }], { kubeConfig, retryInterval: "1s" });
}
const applied = (name: string) =>
  remote.cluster.admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: nameIn(`${name}-object`) });

test("[50.19] aws with an address that is not what AWS reports: InvalidSpec, and nobody is called there", async () => {
  let connections = 0;
  const listener = createServer((socket) => {
    connections++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => void listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as AddressInfo; // It listens on a port.
  await release("elsewhere", { address: `https://127.0.0.1:${String(port)}`, "ca.crt": remote.plane.caPem });
  const refused = await untilReady(cluster, nameIn("elsewhere"), "False InvalidSpec");
  expect(messageOf(refused)).toContain(
    `spec.kubeConfig: ConfigMap "${scene.namespace}/elsewhere": address is not what AWS reports for cluster`,
  );
  expect(connections).toBe(0);
  listener.close();
});

test("aws with the controller's own identity: EKS says where the cluster is, and a signed token is the credential", async () => {
  await release("ambient", {});
  await untilReady(cluster, nameIn("ambient"));
  await requestPass(cluster, nameIn("ambient"));
  expect(await applied("ambient")).toBeDefined();
  expect(new Set(aws.reviewed.map(({ region, accessKeyId }) => `${region} ${accessKeyId}`))).toEqual(
    new Set(["eu-central-1 AKIAOWN"]),
  );
});

test("aws with a ServiceAccount: its role is assumed with a token that the API server here does not accept", async () => {
  const tokens: string[] = [];
  aws.mayAssume = (token, role) => {
    tokens.push(token);
    return role === roleArn;
  };
  aws.reviewed.length = 0;
  await release("federated", { serviceAccountName: "federated" });
  await untilReady(cluster, nameIn("federated"));
  expect(await applied("federated")).toBeDefined();
  expect(tokens.map(audiencesOf)).toEqual(tokens.map(() => ["sts.amazonaws.com"]));
  expect(new Set(aws.reviewed.map(({ accessKeyId }) => accessKeyId))).toEqual(new Set(["ASIAROLE"]));
  expect(scene.controller.logs.join("\n")).not.toContain("canary-");
});

test("aws that refuses the role fails the stage, and goes on once it does not", async () => {
  aws.mayAssume = () => false;
  await release("refused", { serviceAccountName: "federated" });
  const failed = await untilReady(cluster, nameIn("refused"), "False StageFailed");
  expect(messageOf(failed)).toContain(`AWS STS at "${new URL(aws.url).host}" answered 403`);
  aws.mayAssume = () => true;
  await untilReady(cluster, nameIn("refused"));
});

test.each<[string, Readonly<Record<string, string>>, string]>([
  ["no ARN", { cluster: "shop" }, "cluster is no ARN of an EKS cluster"],
  ["an ARN of another service", { cluster: arn.replace("eks", "s3") }, "cluster is no ARN of an EKS cluster"],
  [
    "a ServiceAccount without a role",
    { serviceAccountName: "plain" },
    "lacks the annotation eks.amazonaws.com/role-arn",
  ],
  [
    "an audience of the API server here",
    { serviceAccountName: "federated", audiences: "https://kubernetes.default.svc" },
    "audiences names",
  ],
  ["another provider", { provider: "gcp" }, 'provider is "gcp", which is not part of this build'],
])("[50.19] aws with %s: InvalidSpec names the entry", async (what, data, problem) => {
  const name = `aws-${what.toLowerCase().replace(/[^a-z]+/g, "-")}`.slice(0, 40).replace(/-$/, "");
  await release(name, data);
  const refused = await untilReady(cluster, nameIn(name), "False InvalidSpec");
  expect(messageOf(refused)).toContain(problem);
});
