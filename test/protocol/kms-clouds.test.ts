import { createVerify, generateKeyPairSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { CloudKey } from "../../src/build/sops/sops-metadata.ts";
import { azureClient, type Federation } from "../../src/kms/credentials.ts";
import { askedNothing, createShareOpener } from "../../src/kms/share-opener.ts";
import { systemClock } from "../../src/lib/clock.ts";
import type { GuardedFetch } from "../../src/outbound/guard.ts";
import { costlyKey } from "../support/costly-key.ts";
import { createFastClock } from "../support/fast-clock.ts";

/** The hosts of clouds cannot be had here: what is sent to them is looked at, and answered by the script. */
interface Sent {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

const dataKey = Buffer.alloc(32, 7);
const gcpKey: CloudKey = {
  kind: "gcp",
  resource: "projects/p/locations/global/keyRings/r/cryptoKeys/k",
  encrypted: "Y2lwaGVy",
};
const azureKey: CloudKey = {
  kind: "azure",
  vaultUrl: "https://team.vault.azure.net",
  name: "sops",
  version: "0123456789abcdef",
  encrypted: "Y2lwaGVy",
};

async function open(
  key: CloudKey,
  o: {
    readonly entries?: Readonly<Record<string, string>>;
    readonly federation?: Federation;
    readonly environment?: Readonly<Record<string, string>>;
    readonly status?: number;
    readonly copies?: number;
  },
): Promise<{ readonly opened: string; readonly sent: readonly Sent[] }> {
  const sent: Sent[] = [];
  const fetch: GuardedFetch = (url, { request = {} }) => {
    sent.push({ url, headers: request.headers ?? {}, body: request.body ?? "" });
    const answer = {
      access_token: "access",
      accessToken: "acting",
      plaintext: dataKey.toString("base64"),
      value: dataKey.toString("base64url"),
    };
    return Promise.resolve({
      status: o.status ?? 200,
      header: () => undefined,
      body: (async function* () {
        yield await Promise.resolve(Buffer.from(JSON.stringify(answer)));
      })(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    });
  };
  const opener = createShareOpener({
    transport: { fetch, clock: systemClock },
    ambient: { environment: o.environment ?? {}, readFile: (path) => Promise.resolve(`content of ${path}`) },
  });
  const keys = Array.from({ length: o.copies ?? 1 }, () => key);
  try {
    const shares = await opener({
      documents: [{ path: "a.yaml", missing: 1, groups: [{ name: "g", keys }] }],
      entries: new Map(Object.entries(o.entries ?? {})),
      federation: o.federation,
      calls: askedNothing(),
      spent: { ms: 0 },
      signal: new AbortController().signal,
    });
    return { opened: Buffer.from(shares.get("g") ?? []).toString("hex"), sent };
  } catch (error) {
    return { opened: (error as { readonly class?: string }).class ?? String(error), sent };
  }
}

const federation = (annotations: Readonly<Record<string, string>>): Federation => ({
  annotations: () => Promise.resolve(annotations),
  token: (audience) => Promise.resolve(`token for ${audience}`),
});
const hex = dataKey.toString("hex");

describe("what clouds are asked", () => {
  test("GCP KMS with the key of a service account: a signed assertion, then the key", async () => {
    const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const pem = privateKey.export({ type: "pkcs8", format: "pem" });
    const file = JSON.stringify({ client_email: "a@p.example", private_key: pem, token_uri: "https://evil.example" });
    const { opened, sent } = await open(gcpKey, { entries: { "sops.gcp-kms": file } });
    expect(opened).toBe(hex);
    expect(sent.map(({ url }) => url)).toEqual([
      "https://oauth2.googleapis.com/token",
      `https://cloudkms.googleapis.com/v1/${gcpKey.resource}:decrypt`,
    ]);
    const [header = "", claims = "", signature = ""] = (
      new URLSearchParams(sent[0]?.body).get("assertion") ?? ""
    ).split(".");
    expect(createVerify("RSA-SHA256").update(`${header}.${claims}`).verify(publicKey, signature, "base64url")).toBe(
      true,
    );
    expect(JSON.parse(Buffer.from(claims, "base64url").toString())).toMatchObject({ iss: "a@p.example" });
    expect(sent[1]?.headers["authorization"]).toBe("Bearer access");
  });

  test("GCP KMS as a ServiceAccount that acts as a service account of Google", async () => {
    const provider = "projects/1/locations/global/workloadIdentityPools/pool/providers/cluster";
    const { opened, sent } = await open(gcpKey, {
      federation: federation({
        "gcp.auth.fluxcd.io/workload-identity-provider": provider,
        "iam.gke.io/gcp-service-account": "a@p.example",
      }),
    });
    expect(opened).toBe(hex);
    expect(JSON.parse(sent[0]?.body ?? "")).toMatchObject({
      audience: `//iam.googleapis.com/${provider}`,
      subjectToken: `token for https://iam.googleapis.com/${provider}`,
    });
    expect(sent[1]?.url).toBe(
      "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a%40p.example:generateAccessToken",
    );
    expect(sent[2]?.headers["authorization"]).toBe("Bearer acting");
  });

  test.each([
    [
      "a secret",
      { entries: { "sops.azure-kv": "tenantId: t\nclientId: c\nclientSecret: s\n" } },
      ["client_secret", "s"],
    ],
    [
      "a ServiceAccount's token",
      {
        federation: federation({ "azure.workload.identity/tenant-id": "t", "azure.workload.identity/client-id": "c" }),
      },
      ["client_assertion", "token for api://AzureADTokenExchange"],
    ],
    [
      "the controller's token",
      { environment: { AZURE_TENANT_ID: "t", AZURE_CLIENT_ID: "c", AZURE_FEDERATED_TOKEN_FILE: "/f" } },
      ["client_assertion", "content of /f"],
    ],
  ] as const)("Azure Key Vault with %s", async (_, how, [field, value]) => {
    const { opened, sent } = await open(azureKey, how);
    expect(opened).toBe(hex);
    expect(sent.map(({ url }) => url)).toEqual([
      "https://login.microsoftonline.com/t/oauth2/v2.0/token",
      "https://team.vault.azure.net/keys/sops/0123456789abcdef/decrypt?api-version=7.4",
    ]);
    expect(new URLSearchParams(sent[0]?.body).get(field)).toBe(value);
    expect(JSON.parse(sent[1]?.body ?? "")).toEqual({ alg: "RSA-OAEP-256", value: "Y2lwaGVy" });
  });

  const aws = { kind: "aws", role: "", context: {}, encrypted: "x" } as const;
  const vault = {
    kind: "vault",
    address: "https://v.example",
    enginePath: "transit",
    keyName: "k",
    encrypted: "x",
  } as const;
  const credential = {
    AWS_ACCESS_KEY_ID: "AKIA",
    AWS_SECRET_ACCESS_KEY: "s",
    AZURE_TENANT_ID: "t",
    AZURE_CLIENT_ID: "c",
    AZURE_CLIENT_SECRET: "s",
  };
  test.each<[string, CloudKey]>([
    ["a region that is a host", { ...aws, arn: "arn:aws:kms:evil.example/:111122223333:key/a" }],
    ["a region with a port", { ...aws, arn: "arn:aws:kms:x@evil.example:1:111122223333:key/a" }],
    ["a vault elsewhere", { ...azureKey, vaultUrl: "https://vault.azure.net.evil.example" }],
    ["a vault in the clear", { ...azureKey, vaultUrl: "http://team.vault.azure.net" }],
    ["a key with a path", { ...azureKey, name: "../secrets" }],
    ["a resource with a host", { ...gcpKey, resource: "projects/p/../../evil" }],
    [
      "an engine path that leads out",
      { kind: "vault", address: "https://v.example", enginePath: "../sys", keyName: "k", encrypted: "x" },
    ],
  ])("%s is never asked", async (_, key) => {
    const environment = { ...credential, VAULT_TOKEN: "t", VAULT_ADDR: "https://v.example" };
    expect(await open(key, { environment })).toEqual({ opened: "malformed", sent: [] });
  });

  test("with a ServiceAccount nothing of the controller is used", async () => {
    const environment = { ...credential, VAULT_TOKEN: "t", VAULT_ADDR: "https://v.example" };
    for (const key of [gcpKey, azureKey, vault, { ...aws, arn: "arn:aws:kms:eu-west-1:111122223333:key/a" }])
      expect(await open(key, { environment, federation: federation({}) })).toEqual({
        opened: "no usable key",
        sent: [],
      });
  });

  test("no more than 200 calls", async () => {
    const { opened, sent } = await open(vault, { entries: { "sops.vault-token": "t" }, status: 403, copies: 250 });
    expect(opened).toBe("malformed");
    expect(sent).toHaveLength(200);
  });
});

describe("services that cost more than they should", () => {
  /** Nobody answers, and each question takes 35 s. */
  function tarpits(): {
    readonly asked: readonly string[];
    readonly openFrom: (...hosts: string[]) => Promise<unknown>;
  } {
    const clock = createFastClock({ rate: 1e-6, aheadMs: 0 });
    const asked: string[] = [];
    const fetch: GuardedFetch = (url, { signal }) =>
      new Promise((_, reject) => {
        asked.push(new URL(url).hostname);
        signal.addEventListener("abort", () => reject(signal.reason as Error));
        clock.jump(35_000);
      });
    const opener = createShareOpener({
      transport: { fetch, clock },
      ambient: { environment: {}, readFile: () => Promise.reject(new Error("no file")) },
    });
    const [calls, spent] = [askedNothing(), { ms: 0 }];
    const openFrom = (...hosts: string[]): Promise<unknown> => {
      const keys = hosts.map((host) => {
        const address = `https://${host}`;
        return { kind: "vault", address, enginePath: "transit", keyName: "k", encrypted: "x" } as const;
      });
      return opener({
        documents: [{ path: "a.yaml", missing: 1, groups: [{ name: "g", keys }] }],
        entries: new Map([["sops.vault-token", "tenant-token"]]),
        federation: undefined,
        calls,
        spent,
        signal: new AbortController().signal,
      }).catch((error: unknown) => error);
    };
    return { asked, openFrom };
  }

  test("a host that did not answer in time is not asked again in the pass, whatever its port", async () => {
    const { asked, openFrom } = tarpits();
    expect(await openFrom("slow.example", "slow.example:8200", "slow.example")).toMatchObject({
      path: "a.yaml",
      class: "KMS unavailable",
    });
    expect(asked).toEqual(["slow.example"]);
  });

  test("60 s are all that services have for a render, in all its rounds", async () => {
    const { asked, openFrom } = tarpits();
    const failed = await openFrom("a.example", "b.example", "c.example", "d.example");
    expect(failed).toMatchObject({ path: "a.yaml", class: "KMS unavailable" });
    expect(String(failed)).toContain("60 s");
    expect(String(failed)).not.toContain("tenant-token");
    expect(asked).toEqual(["a.example", "b.example"]);
    expect(String(await openFrom("e.example", "f.example"))).toContain("60 s");
    expect(asked).toEqual(["a.example", "b.example", "e.example"]);
  });

  test.each([
    ["a modulus of 8,200 bits", { modulusBytes: 1_026, factorBytes: 513 }],
    ["a small modulus with huge factors", { modulusBytes: 256, factorBytes: 2_000 }],
  ])("GCP KMS with %s signs nothing", async (_, sizes) => {
    const private_key = costlyKey(sizes);
    const file = JSON.stringify({ client_email: "a@p.example", private_key });
    expect(await open(gcpKey, { entries: { "sops.gcp-kms": file } })).toEqual({ opened: "no usable key", sent: [] });
  });

  test("a credential is parsed once for all keys, a broken one too", async () => {
    const { signal } = new AbortController();
    for (const text of ["tenantId: t\nclientId: c\nclientSecret: s\n", "a: [", "a: *b"]) {
      const parsed = new Map<string, unknown>();
      const identity = { environment: {}, readFile: () => Promise.reject(new Error("no file")) };
      const sources = { entries: new Map([["sops.azure-kv", text]]), identity, parsed };
      const ask = (): Promise<unknown> => azureClient(sources, signal).catch((error: unknown) => String(error));
      const first = await ask();
      const kept = parsed.get("sops.azure-kv");
      expect(await ask()).toEqual(first);
      expect(parsed.get("sops.azure-kv")).toBe(kept);
    }
  });
});
