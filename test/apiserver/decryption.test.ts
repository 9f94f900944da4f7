import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asArray, asText, at } from "../../src/lib/json.ts";
import { auditEvents, auditMark, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, stageSetRef, untilReady } from "../support/controller.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { createAgeKey, createPgpKey, startSops, type AgeKey, type PgpKey, type SopsCommand } from "../support/sops.ts";
import { everyVerb, rulesOn, startTenancy } from "../support/tenancy.ts";

const cluster = testCluster();
const { admin } = cluster;
const secretKind = { apiVersion: "v1", kind: "Secret" } as const;
const canary = "pl4in-canary";

let sops: SopsCommand;
let staging: AgeKey;
let production: AgeKey;
let pgp: PgpKey;
let scene: Scene;
let disk = "";
const temporary = process.env["TMPDIR"];
beforeAll(async () => {
  [sops, staging, production, pgp] = await Promise.all([startSops(), createAgeKey(), createAgeKey(), createPgpKey()]);
  await sops.trust(pgp);
  disk = await mkdtemp(join(tmpdir(), "decryption-"));
  process.env["TMPDIR"] = disk;
  scene = await startScene(cluster);
}, 600_000);
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
  await sops[Symbol.asyncDispose]();
  if (temporary === undefined) delete process.env["TMPDIR"];
  else process.env["TMPDIR"] = temporary;
  await rm(disk, { recursive: true, force: true });
});

async function keySecret(name: string, data: Readonly<Record<string, string>>, namespace = scene.namespace) {
  const secret = { ...secretKind, metadata: { name, namespace } };
  await admin.create({ ...secret, stringData: data });
  return secret;
}

function secretManifest(name: string, password: string): string {
  return `apiVersion: v1\nkind: Secret\nmetadata:\n    name: ${name}\nstringData:\n    password: ${password}\n`;
}

function decryptionWith(name: string) {
  return { decryption: { provider: "sops", secretRef: { name } } };
}

function encrypt(name: string, content: string | Uint8Array, key = staging): Promise<Buffer> {
  return sops.encrypt(name, content, ["--age", key.recipient, "--encrypted-regex", "^(data|stringData)$"]);
}

async function valueOf(name: string, key: string, namespace = scene.namespace): Promise<string> {
  const found = await admin.get({ ...secretKind, metadata: { name, namespace } });
  return Buffer.from(asText(at(found, "data", key)) ?? "", "base64").toString("utf8");
}

describe("a StageSet with decryption", () => {
  test("[50.22] staging/ and prod/ under different keys: the staging key opens what the stage reads", async () => {
    await keySecret("staging", { "staging.agekey": `# made today\n${staging.identity}\n`, "notes.txt": "not a key" });
    await scene.publish("shop", {
      "staging/secret.yaml": await encrypt("secret.yaml", secretManifest("shop", canary)),
      "staging/settings.json": JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "shop" } }),
      "prod/secret.yaml": await encrypt("secret.yaml", secretManifest("shop", "other"), production),
    });
    const stage = { name: "only", sourceRef: { name: "shop" }, path: "staging" };
    await scene.release("shop", [stage], decryptionWith("staging"));
    await untilReady(cluster, { namespace: scene.namespace, name: "shop" });
    expect(await valueOf("shop", "password")).toBe(canary);
  });

  test("[50.23] an encrypted .env, a binary file and a Secret whose value is a SOPS document: plaintext in cluster", async () => {
    await keySecret("both", { "a.agekey": staging.identity, "b.asc": pgp.armored });
    const binary = Buffer.from(Uint8Array.from({ length: 600 }, (_, index) => (index * 11) % 256));
    const nested = await sops.encrypt("app.json", `{"user": "${canary}"}`, ["--age", staging.recipient]);
    const holder = `${secretManifest("holder", "x")}data:\n    app.json: ${nested.toString("base64")}\n`;
    const plain = "sops:\n  note: not one of SOPS's\n";
    await scene.publish("generated", {
      "kustomization.yaml": `resources: [holder.yaml]
secretGenerator:
  - name: generated
    envs: [app.env, more.properties]
    files: [blob=blob.enc, config.yaml=encrypted.txt, plain.yaml]
generatorOptions: { disableNameSuffixHash: true }
`,
      "holder.yaml": holder,
      "app.env": await sops.encrypt("app.env", `TOKEN=${canary}\n`, ["--pgp", pgp.fingerprint]),
      "more.properties": await sops.encrypt("more.env", "MORE=too\n", ["--age", staging.recipient]),
      "blob.enc": await sops.encrypt("blob.enc", binary, ["--age", staging.recipient]),
      "encrypted.txt": await sops.encrypt("config.yaml", "a: b\n", ["--age", staging.recipient]),
      "plain.yaml": plain,
      "unused.yaml": await encrypt("secret.yaml", secretManifest("unused", "x"), production),
    });
    await scene.release("generated", [{ name: "only", sourceRef: { name: "generated" } }], decryptionWith("both"));
    await untilReady(cluster, { namespace: scene.namespace, name: "generated" });
    expect(await valueOf("generated", "TOKEN")).toBe(canary);
    expect(await valueOf("generated", "MORE")).toBe("too");
    expect(await valueOf("generated", "config.yaml")).toBe("a: b\n");
    expect(await valueOf("generated", "plain.yaml")).toBe(plain);
    expect(at(await scene.object("generated", secretKind), "data", "blob")).toBe(binary.toString("base64"));
    expect(JSON.parse(await valueOf("holder", "app.json"))).toEqual({ user: canary });
  });

  test("[50.23] with patches and no kustomization, where the files are manifests", async () => {
    await keySecret("patched-keys", { "a.agekey": staging.identity });
    await scene.publish("patched", { "secret.yaml": await encrypt("secret.yaml", secretManifest("patched", canary)) });
    const patch = `apiVersion: v1\nkind: Secret\nmetadata:\n  name: patched\n  labels: {seen: "yes"}\n`;
    const stage = { name: "only", sourceRef: { name: "patched" }, patches: [{ patch }] };
    await scene.release("patched", [stage], decryptionWith("patched-keys"));
    await untilReady(cluster, { namespace: scene.namespace, name: "patched" });
    expect(await valueOf("patched", "password")).toBe(canary);
    expect(at(await scene.object("patched", secretKind), "metadata", "labels", "seen")).toBe("yes");
  });

  test.each([
    ["field", (text: string) => text.replace(/name: tampered-\w+/, "name: tampered-other")],
    ["value", (text: string) => text.replace(/data:(.)/, (_, first: string) => `data:${first === "A" ? "B" : "A"}`)],
    [
      "mac",
      (text: string) =>
        text.replace(
          /mac: ENC\[AES256_GCM,data:(.)/,
          (_, first: string) => `mac: ENC[AES256_GCM,data:${first === "A" ? "B" : "A"}`,
        ),
    ],
    ["no-mac", (text: string) => text.replace(/^ *mac: .*\n/m, "")],
  ])("[50.24] a tampered %s: class MAC mismatch, nothing applied, no fingerprint in status", async (what, tamper) => {
    const name = `tampered-${what}`;
    await keySecret(`${name}-keys`, { "a.agekey": staging.identity });
    const encrypted = (await encrypt("secret.yaml", secretManifest(name, canary))).toString("utf8");
    expect(tamper(encrypted)).not.toBe(encrypted);
    await scene.publish(name, { "secret.yaml": tamper(encrypted), "other.yaml": configMap(name) });
    await scene.release(name, [{ name: "only", sourceRef: { name } }], decryptionWith(`${name}-keys`));
    const failed = await untilReady(cluster, { namespace: scene.namespace, name }, "False StageFailed");
    expect(messageOf(failed)).toContain('stage "only" decrypt: decryption failed: secret.yaml: MAC mismatch');
    expect(JSON.stringify(failed)).not.toContain(staging.recipient.slice(0, 12));
    expect(JSON.stringify(failed)).not.toContain("ENC[");
    expect(asArray(at(failed, "status", "conditions")).some((each) => at(each, "type") === "Stalled")).toBe(true);
    expect(await scene.object(name)).toBeUndefined();
    expect(await scene.object(name, secretKind)).toBeUndefined();
  });

  test.each([
    ["no-key", async () => encrypt("secret.yaml", secretManifest("x", "y"), production), "no usable key"],
    [
      "cut",
      async () =>
        (await encrypt("secret.yaml", secretManifest("x", "y"))).toString().replace(/(data:[^,]*),iv:[^,]*/, "$1"),
      "malformed",
    ],
    [
      "torn",
      async () =>
        (await encrypt("secret.yaml", secretManifest("x", "y"))).toString().replace(/^kind: Secret$/m, "kind: {"),
      "malformed",
    ],
  ] as const)("%s: fails with its class", async (name, content, problem) => {
    await keySecret(`${name}-keys`, { "a.agekey": staging.identity });
    await scene.publish(name, { "secret.yaml": await content() });
    await scene.release(name, [{ name: "only", sourceRef: { name } }], decryptionWith(`${name}-keys`));
    const failed = await untilReady(cluster, { namespace: scene.namespace, name }, "False StageFailed");
    expect(messageOf(failed)).toContain(`stage "only" decrypt: decryption failed: secret.yaml: ${problem}`);
  });

  test("a missing key Secret is named; once it is there the release goes on", async () => {
    await scene.publish("late", { "secret.yaml": await encrypt("secret.yaml", secretManifest("late", canary)) });
    await scene.release("late", [{ name: "only", sourceRef: { name: "late" } }], decryptionWith("late-keys"));
    const failed = await untilReady(cluster, { namespace: scene.namespace, name: "late" }, "False StageFailed");
    expect(messageOf(failed)).toContain(`stage "only" decrypt: Secret "${scene.namespace}/late-keys" does not exist`);
    await keySecret("late-keys", { "a.agekey": staging.identity });
    await untilReady(cluster, { namespace: scene.namespace, name: "late" });
    expect(await valueOf("late", "password")).toBe(canary);
  });

  test.each([
    ["plugin", { "a.agekey": "AGE-PLUGIN-YUBIKEY-1QQPQ" }, 'entry "a.agekey"'],
    ["noise", { "a.agekey": "hello" }, 'entry "a.agekey"'],
    ["armor", { "b.asc": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n" }, 'entry "b.asc"'],
  ])("%s: an entry that is no key is named", async (name, data, entry) => {
    await keySecret(`${name}-keys`, data);
    await scene.publish(name, { "a.yaml": configMap(name) });
    await scene.release(name, [{ name: "only", sourceRef: { name } }], decryptionWith(`${name}-keys`));
    const failed = await untilReady(cluster, { namespace: scene.namespace, name }, "False StageFailed");
    expect(messageOf(failed)).toContain(`stage "only" configure decryption: decryption failed: ${entry}`);
    expect(messageOf(failed)).not.toContain("hello");
  });

  test("[50.11] keys are read as the StageSet's identity: without `get` it fails, with it works, and C never reads", async () => {
    await using tenancy = await startTenancy(cluster);
    const { namespace } = tenancy;
    const since = await auditMark(cluster);
    await tenancy.account("deployer", rulesOn(["configmaps"], everyVerb));
    await keySecret("keys", { "a.agekey": staging.identity }, namespace);
    const manifest = configMap("opened", { word: canary });
    const encrypted = await sops.encrypt("a.yaml", manifest, [
      "--age",
      staging.recipient,
      "--encrypted-regex",
      "^data$",
    ]);
    await tenancy.publish("app", { "a.yaml": encrypted });
    const stages = [{ name: "only", sourceRef: { name: "app" } }];
    await tenancy.release("app", { serviceAccountName: "deployer", stages, ...decryptionWith("keys") });
    const refused = await untilReady(cluster, { namespace, name: "app" }, "False RBACDenied");
    expect(messageOf(refused)).toMatch(
      new RegExp(`^stage "only" decrypt: .*Secret "${namespace}/keys".*cannot get resource "secrets"`),
    );
    await admin.create({
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "Role",
      metadata: { name: "keys", namespace },
      rules: [{ apiGroups: [""], resources: ["secrets"], resourceNames: ["keys"], verbs: ["get"] }],
    });
    await admin.create({
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata: { name: "keys", namespace },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "keys" },
      subjects: [{ kind: "ServiceAccount", name: "deployer", namespace }],
    });
    await admin.patch(stageSetRef(namespace, "app"), {
      metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": "now" } },
    });
    await untilReady(cluster, { namespace, name: "app" });
    const opened = await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "opened", namespace } });
    expect(at(opened, "data", "word")).toBe(canary);
    const reads = await auditEvents(cluster, { namespace, since, resource: "secrets" });
    const readers = new Set(reads.filter(({ verb }) => verb === "get").map(({ username }) => username));
    expect([...readers]).toEqual([`system:serviceaccount:${namespace}:deployer`]);
  });

  test("other keys open nothing that was kept in the clear", async () => {
    const name = "rotated";
    const keys = await keySecret("rotated-keys", { "a.agekey": staging.identity });
    await scene.publish(name, { "secret.yaml": await encrypt("secret.yaml", secretManifest(name, canary)) });
    await scene.release(name, [{ name: "only", sourceRef: { name } }], decryptionWith("rotated-keys"));
    await untilReady(cluster, { namespace: scene.namespace, name });
    await admin.patch(keys, { stringData: { "a.agekey": production.identity } });
    await admin.patch(stageSetRef(scene.namespace, name), {
      metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": "rotated" } },
    });
    const failed = await untilReady(cluster, { namespace: scene.namespace, name }, "False StageFailed");
    expect(messageOf(failed)).toContain("no usable key");
    // What runs stays.
    expect(await valueOf(name, "password")).toBe(canary);
  });

  test("[50.46] [60.15] no key and nothing decrypted in logs at debug, metrics, status or on disk", async () => {
    const forbidden = [canary, staging.identity, ...pgp.armored.split("\n").filter((line) => line.length > 50)];
    const written = await Promise.all(
      (await readdir(disk, { recursive: true, withFileTypes: true }))
        .filter((entry) => entry.isFile())
        .map((entry) => readFile(join(entry.parentPath, entry.name), "latin1")),
    );
    const statuses = await admin.list({
      apiVersion: "stages.metio.wtf/v1",
      kind: "StageSet",
      namespace: scene.namespace,
    });
    const outputs = [
      JSON.stringify(scene.controller.logs),
      await scene.controller.metrics(),
      JSON.stringify(statuses),
      ...written,
    ];
    expect(written.length).toBeGreaterThan(0);
    for (const text of outputs)
      for (const secret of forbidden) {
        expect(text.includes(secret)).toBe(false);
        expect(text.includes(Buffer.from(secret).toString("base64").slice(0, 14))).toBe(false);
      }
  });
});
