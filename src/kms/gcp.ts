import { createPrivateKey, createSign, type KeyObject } from "node:crypto";
import type { CloudKey } from "../build/sops/sops-metadata.ts";
import { malformed, SopsProblem } from "../build/sops/sops-problem.ts";
import { isCostly, mostModulusBits } from "../outbound/costly-key.ts";
import { asText, at } from "../lib/json.ts";
import { answeredText, askService, type KmsTransport } from "./kms-request.ts";

const scope = "https://www.googleapis.com/auth/cloud-platform";
const tokenUrl = "https://oauth2.googleapis.com/token";
const json = { "content-type": "application/json" };

export interface GcpContext {
  readonly transport: KmsTransport;
  readonly signal: AbortSignal;
}

/** Opens with GCP KMS. @throws {SopsProblem} */
export async function openWithGcp(
  { transport, signal }: GcpContext,
  key: Extract<CloudKey, { kind: "gcp" }>,
  accessToken: () => Promise<string>,
): Promise<Uint8Array> {
  if (
    !/^projects\/[\w:.-]+\/locations\/[\w-]+\/keyRings\/[\w-]+\/cryptoKeys\/[\w-]+(?:\/cryptoKeyVersions\/\d+)?$/.test(
      key.resource,
    )
  )
    throw malformed("resource_id names no key of GCP KMS");
  const service = "GCP KMS";
  const text = await askService(
    transport,
    {
      service,
      url: `https://cloudkms.googleapis.com/v1/${key.resource}:decrypt`,
      headers: { ...json, authorization: `Bearer ${await accessToken()}` },
      body: JSON.stringify({ ciphertext: key.encrypted }),
    },
    signal,
  );
  return Buffer.from(answeredText(service, text, "plaintext"), "base64");
}

/** An access token for the key of a service account (RFC 7523), as its JSON file has it. @throws {SopsProblem} */
export async function tokenOfServiceAccount({ transport, signal }: GcpContext, file: string): Promise<string> {
  const unusable = (why: string): SopsProblem => new SopsProblem("no usable key", `the GCP credential ${why}`);
  let account: unknown;
  try {
    account = JSON.parse(file);
  } catch {
    throw unusable("is no JSON");
  }
  const [email, privateKey] = [asText(at(account, "client_email")), asText(at(account, "private_key"))];
  if (email === undefined || privateKey === undefined) throw unusable("is no key of a service account");
  const now = Math.floor(transport.clock.now() / 1_000);
  const parts = [
    { alg: "RS256", typ: "JWT" },
    { iss: email, scope, aud: tokenUrl, iat: now, exp: now + 600 },
  ].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"));
  let signingKey: KeyObject;
  try {
    signingKey = createPrivateKey(privateKey);
  } catch {
    throw unusable("has no private key");
  }
  if (signingKey.asymmetricKeyType !== "rsa") throw unusable("has no private key of RSA");
  if (isCostly(signingKey)) throw unusable(`has a private key of more than ${mostModulusBits} bits`);
  let signature: string;
  try {
    signature = createSign("RSA-SHA256").update(parts.join(".")).sign(signingKey, "base64url");
  } catch {
    throw unusable("has a private key that cannot sign");
  }
  const grant = {
    grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer",
    assertion: [...parts, signature].join("."),
  };
  const service = "Google's token service";
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const body = new URLSearchParams(grant).toString();
  return answeredText(
    service,
    await askService(transport, { service, url: tokenUrl, headers, body }, signal),
    "access_token",
  );
}

/** An access token for a token of a ServiceAccount (workload identity federation). @throws {SopsProblem} */
export async function exchangeToken(
  { transport, signal }: GcpContext,
  o: { readonly provider: string; readonly token: string; readonly impersonate: string | undefined },
): Promise<string> {
  const service = "GCP STS";
  const body = JSON.stringify({
    grantType: "urn:ietf:params:oauth:grant-type:token-exchange",
    audience: `//iam.googleapis.com/${o.provider}`,
    scope,
    requestedTokenType: "urn:ietf:params:oauth:token-type:access_token",
    subjectToken: o.token,
    subjectTokenType: "urn:ietf:params:oauth:token-type:jwt",
  });
  const url = "https://sts.googleapis.com/v1/token";
  const token = answeredText(
    service,
    await askService(transport, { service, url, headers: json, body }, signal),
    "access_token",
  );
  if (o.impersonate === undefined) return token;
  const text = await askService(
    transport,
    {
      service,
      url: `https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/${encodeURIComponent(o.impersonate)}:generateAccessToken`,
      headers: { ...json, authorization: `Bearer ${token}` },
      body: JSON.stringify({ scope: [scope] }),
    },
    signal,
  );
  return answeredText(service, text, "accessToken");
}
