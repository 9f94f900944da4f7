import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asArray, asText, at } from "../../src/lib/json.ts";
import { allRules, createServiceAccount, eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageSetRef, untilReady } from "../support/controller.ts";
import { startKmsServer, type KmsServer } from "../support/kms-server.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { startSops, type SopsCommand } from "../support/sops.ts";

const cluster = testCluster();
const { admin } = cluster;
const secretKind = { apiVersion: "v1", kind: "Secret" } as const;
const keyA = "arn:aws:kms:eu-west-1:111122223333:key/aaaaaaaa-0000-4000-8000-000000000000";
const keyB = "arn:aws:kms:eu-west-1:111122223333:key/bbbbbbbb-0000-4000-8000-000000000000";
const keyC = "arn:aws:kms:eu-west-1:111122223333:key/cccccccc-0000-4000-8000-000000000000";
const roleA = "arn:aws:iam::111122223333:role/a";
const roleB = "arn:aws:iam::111122223333:role/b";
/** Whoever runs the controller may use every key. */
const ambient = { id: "AKIAAMBIENTAMBIENT00", secret: "ambient-secret" };
/** Whoever encrypts. */
const author = { id: "AKIAAUTHORAUTHOR0000", secret: "author-secret" };

let kms: KmsServer;
let foreign: KmsServer;
let sops: SopsCommand;
let scene: Scene;
const before = { ...process.env };
beforeAll(async () => {
  [kms, foreign, sops] = await Promise.all([startKmsServer(), startKmsServer(), startSops()]);
  kms.grant(ambient.id, { secret: ambient.secret, keys: [keyA, keyB, keyC] });
  kms.grant(author.id, { secret: author.secret, keys: [keyA, keyB, keyC] });
  for (const server of [kms, foreign]) server.admit("author-token");
  kms.admit("tenant-token");
  Object.assign(process.env, {
    AWS_ENDPOINT_URL_KMS: `${kms.url}/`,
    AWS_ENDPOINT_URL_STS: `${kms.url}/`,
    AWS_ACCESS_KEY_ID: ambient.id,
    AWS_SECRET_ACCESS_KEY: ambient.secret,
    VAULT_TOKEN: "ambient-token",
    VAULT_ADDR: kms.url,
  });
  scene = await startScene(cluster, { config: { objectLevelKms: true } });
}, 600_000);
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
  for (const each of [sops, kms, foreign]) await each[Symbol.asyncDispose]();
  for (const name of [
    "AWS_ENDPOINT_URL_KMS",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "VAULT_TOKEN",
    "VAULT_ADDR",
  ]) {
    if (before[name] === undefined) Reflect.deleteProperty(process.env, name);
    else process.env[name] = before[name];
  }
});

function manifest(name: string): string {
  return `apiVersion: v1\nkind: Secret\nmetadata:\n    name: ${name}\nstringData:\n    password: opened\n`;
}

/** Encrypted by the sops command, which asks the same services. */
async function published(name: string, args: readonly string[], env: Readonly<Record<string, string>>): Promise<void> {
  const encrypted = await sops.encrypt(
    "secret.yaml",
    manifest(name),
    [...args, "--encrypted-regex", "^stringData$"],
    env,
  );
  await scene.publish(name, { "secret.yaml": encrypted });
}

const asAuthor = () => ({
  AWS_ENDPOINT_URL_KMS: `${kms.url}/`,
  AWS_ACCESS_KEY_ID: author.id,
  AWS_SECRET_ACCESS_KEY: author.secret,
  AWS_REGION: "eu-west-1",
  AWS_EC2_METADATA_DISABLED: "true",
});

async function account(name: string, role: string | undefined): Promise<void> {
  const { namespace } = scene;
  const { username } = await createServiceAccount(cluster, { namespace, name, rules: allRules });
  if (role === undefined) return;
  const ref = { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace } };
  await admin.patch(ref, { metadata: { annotations: { "eks.amazonaws.com/role-arn": role } } });
  kms.role(role, {
    keys: role === roleA ? [keyA] : [],
    // The API server itself says whose token it is.
    trusts: async (token) => {
      const audiences = ["sts.amazonaws.com"];
      const review = await admin.create({
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenReview",
        metadata: { name: "" },
        spec: { token, audiences },
      });
      return (
        at(review, "status", "user", "username") === username &&
        asArray(at(review, "status", "audiences")).includes("sts.amazonaws.com")
      );
    },
  });
}

async function valueOf(name: string): Promise<string> {
  const found = await admin.get({ ...secretKind, metadata: { name, namespace: scene.namespace } });
  return Buffer.from(asText(at(found, "data", "password")) ?? "", "base64").toString("utf8");
}

function release(name: string, serviceAccountName: string, secret?: string) {
  const secretRef = secret === undefined ? {} : { secretRef: { name: secret } };
  const stages = [{ name: "only", sourceRef: { name } }];
  return scene.release(name, stages, { serviceAccountName, decryption: { provider: "sops", ...secretRef } });
}

describe("keys that are with services", () => {
  test("[50.26] with --object-level-kms tenant A's key opens under A's ServiceAccount only; no ambient call", async () => {
    await account("a", roleA);
    await account("b", roleB);
    await account("nobody", undefined);
    for (const name of ["of-a", "of-b", "of-nobody"]) await published(name, ["--kms", keyA], asAuthor());
    const since = kms.calls.length;
    await release("of-a", "a");
    await untilReady(cluster, { namespace: scene.namespace, name: "of-a" });
    expect(await valueOf("of-a")).toBe("opened");
    await release("of-b", "b");
    const denied = await untilReady(cluster, { namespace: scene.namespace, name: "of-b" }, "False StageFailed");
    expect(messageOf(denied)).toContain("decryption failed: secret.yaml: KMS denied");
    await release("of-nobody", "nobody");
    const unusable = await untilReady(cluster, { namespace: scene.namespace, name: "of-nobody" }, "False StageFailed");
    expect(messageOf(unusable)).toContain("decryption failed: secret.yaml: no usable key");
    for (const failed of [denied, unusable]) expect(JSON.stringify(at(failed, "status"))).not.toContain("arn:aws");
    const calls = kms.calls.slice(since).filter(({ of }) => of === keyA);
    expect(calls.filter(({ service, status }) => service === "kms" && status === 200)).not.toHaveLength(0);
    expect(calls.filter(({ caller }) => caller === ambient.id)).toEqual([]);
    for (const name of ["of-b", "of-nobody"]) expect(await scene.object(name, secretKind)).toBeUndefined();
  });

  test("[50.26] without the flag the controller's own credentials are used", async () => {
    await using other = await startScene(cluster);
    const encrypted = await sops.encrypt("secret.yaml", manifest("ambient"), ["--kms", keyB], asAuthor());
    await other.publish("ambient", { "secret.yaml": encrypted });
    const since = kms.calls.length;
    await other.release("ambient", [{ name: "only", sourceRef: { name: "ambient" } }], {
      decryption: { provider: "sops" },
    });
    await untilReady(cluster, { namespace: other.namespace, name: "ambient" });
    const calls = kms.calls.slice(since).filter(({ of }) => of === keyB);
    expect(new Set(calls.map(({ caller }) => caller))).toEqual(new Set([ambient.id]));
  });

  test("a service that throttles or is down is asked again, and says so", async () => {
    await account("c", roleA);
    await published("down", ["--kms", keyA], asAuthor());
    kms.fail(503);
    await release("down", "c");
    const failed = await untilReady(cluster, { namespace: scene.namespace, name: "down" }, "False StageFailed");
    expect(messageOf(failed)).toContain("decryption failed: secret.yaml: KMS unavailable");
    kms.fail(undefined);
    await untilReady(cluster, { namespace: scene.namespace, name: "down" });
    expect(await valueOf("down")).toBe("opened");
  });

  test("static credentials of the Secret win: AWS and Vault", async () => {
    kms.grant("AKIATENANTTENANT0000", { secret: "tenant-secret", keys: [keyC] });
    await admin.create({
      ...secretKind,
      metadata: { name: "static", namespace: scene.namespace },
      stringData: {
        "sops.aws-kms": "aws_access_key_id: AKIATENANTTENANT0000\naws_secret_access_key: tenant-secret\n",
        "sops.vault-token": "tenant-token\n",
      },
    });
    await published("by-aws", ["--kms", keyC], asAuthor());
    await published("by-vault", ["--hc-vault-transit", `${kms.url}/v1/transit/keys/second`], {
      VAULT_TOKEN: "author-token",
    });
    const since = kms.calls.length;
    for (const name of ["by-aws", "by-vault"]) {
      await release(name, "deployer", "static");
      await untilReady(cluster, { namespace: scene.namespace, name });
      expect(await valueOf(name)).toBe("opened");
    }
    const calls = kms.calls.slice(since).filter(({ of }) => of === keyC || of === "second");
    const callers = new Set(calls.map(({ caller }) => caller));
    expect(callers).toEqual(new Set(["AKIATENANTTENANT0000", "tenant-token"]));
  });

  test("a credential that is larger than any is refused, naming its entry alone", async () => {
    await admin.create({
      ...secretKind,
      metadata: { name: "huge", namespace: scene.namespace },
      stringData: { "sops.aws-kms": `aws_access_key_id: AKIATENANTTENANT0000\nnote: ${"hunter2 ".repeat(2_100)}` },
    });
    await published("by-huge", ["--kms", keyC], asAuthor());
    await release("by-huge", "deployer", "huge");
    const failed = await untilReady(cluster, { namespace: scene.namespace, name: "by-huge" }, "False StageFailed");
    const described = `Secret "${scene.namespace}/huge"`;
    expect(messageOf(failed)).toContain(`entry "sops.aws-kms" of ${described} is larger than 16 KiB`);
    expect(JSON.stringify(at(failed, "status"))).not.toContain("hunter2");
  });

  test("the artifact of an action is opened by services as well", async () => {
    await published("of-action", ["--kms", keyA], asAuthor());
    await scene.publish("acts", { "a.yaml": configMap("acts") });
    await account("actor", roleA);
    const since = kms.calls.length;
    const pre = [{ name: "bring", apply: { sourceRef: { name: "of-action" } } }];
    await scene.release("acts", [{ name: "only", sourceRef: { name: "acts" }, actions: { pre } }], {
      serviceAccountName: "actor",
      decryption: { provider: "sops" },
    });
    await untilReady(cluster, { namespace: scene.namespace, name: "acts" });
    expect(await valueOf("of-action")).toBe("opened");
    const calls = kms.calls.slice(since);
    expect(calls.filter(({ service, of, status }) => service === "kms" && of === keyA && status === 200)).not.toEqual(
      [],
    );
    expect(calls.filter(({ caller }) => caller === ambient.id)).toEqual([]);
  });

  test("a service that never answers keeps no worker", async () => {
    await using slow = await startKmsServer();
    slow.admit("author-token");
    await using other = await startScene(cluster, { config: { concurrency: 1 } });
    const key = ["--hc-vault-transit", `${slow.url}/v1/transit/keys/first`];
    const secret = await sops.encrypt("secret.yaml", manifest("stuck"), key, { VAULT_TOKEN: "author-token" });
    slow.fail("never");
    await admin.create({
      ...secretKind,
      metadata: { name: "static", namespace: other.namespace },
      stringData: { "sops.vault-token": "author-token" },
    });
    await other.publish("stuck", { "secret.yaml": secret });
    await other.publish("free", { "a.yaml": configMap("free") });
    const stuck = { namespace: other.namespace, name: "stuck" };
    await other.release("stuck", [{ name: "only", sourceRef: { name: "stuck" } }], {
      decryption: { provider: "sops", secretRef: { name: "static" } },
    });
    await eventually(() => slow.calls.some(({ status }) => status === 0));
    await other.release("free", [{ name: "only", sourceRef: { name: "free" } }]);
    await untilReady(cluster, { namespace: other.namespace, name: "free" });
    // It has not been told yet that the service did not answer.
    expect(readyOf(await admin.get(stageSetRef(stuck.namespace, stuck.name)))).not.toContain("StageFailed");
    await admin.delete(stageSetRef(stuck.namespace, stuck.name));
  });

  test("[50.27] a file with a foreign vault_address while VAULT_TOKEN is set: no request to that address", async () => {
    await using other = await startScene(cluster);
    kms.admit("ambient-token");
    const vault = (server: KmsServer) => ["--hc-vault-transit", `${server.url}/v1/transit/keys/first`];
    const env = { VAULT_TOKEN: "author-token" };
    await other.publish("own", { "secret.yaml": await sops.encrypt("secret.yaml", manifest("own"), vault(kms), env) });
    await other.publish("foreign", {
      "secret.yaml": await sops.encrypt("secret.yaml", manifest("foreign"), vault(foreign), env),
    });
    const since = foreign.calls.length;
    const decryption = { decryption: { provider: "sops" } };
    await other.release("own", [{ name: "only", sourceRef: { name: "own" } }], decryption);
    await untilReady(cluster, { namespace: other.namespace, name: "own" });
    await other.release("foreign", [{ name: "only", sourceRef: { name: "foreign" } }], decryption);
    const failed = await untilReady(cluster, { namespace: other.namespace, name: "foreign" }, "False StageFailed");
    expect(messageOf(failed)).toContain("decryption failed: secret.yaml: no usable key");
    expect(foreign.calls.slice(since)).toEqual([]);
    await admin.delete(stageSetRef(other.namespace, "foreign"));
  });
});
