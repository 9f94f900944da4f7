import type { CloudKey } from "../build/sops/sops-metadata.ts";
import { malformed, SopsProblem } from "../build/sops/sops-problem.ts";
import { signedHeaders, type AwsCredentials } from "../outbound/aws-signature.ts";
import { answeredText, askService, type KmsTransport } from "./kms-request.ts";

type AwsKey = Extract<CloudKey, { kind: "aws" }>;

/** Instead of those of the region: `AWS_ENDPOINT_URL_KMS`, `AWS_ENDPOINT_URL_STS` of the operator. */
export interface AwsEndpoints {
  readonly kms: string | undefined;
  readonly sts: string | undefined;
}

export interface AwsContext {
  readonly transport: KmsTransport;
  readonly endpoints: AwsEndpoints;
  readonly signal: AbortSignal;
}

/** Opens with AWS KMS, as these credentials or the role that the key names for them. @throws {SopsProblem} */
export async function openWithAws(
  context: AwsContext,
  key: AwsKey,
  credentials: (region: string) => Promise<AwsCredentials>,
): Promise<Uint8Array> {
  const { region, domain } = regionOf(key.arn);
  const own = await credentials(region);
  const acting =
    key.role === "" ? own : await assumeRole(context, { role: key.role, region, domain, credentials: own });
  const service = "AWS KMS";
  const body = JSON.stringify({
    KeyId: key.arn,
    CiphertextBlob: key.encrypted,
    ...(Object.keys(key.context).length === 0 ? {} : { EncryptionContext: key.context }),
  });
  const url = context.endpoints.kms ?? `https://kms.${region}.${domain}/`;
  const headers = { "content-type": "application/x-amz-json-1.1", "x-amz-target": "TrentService.Decrypt" };
  const now = context.transport.clock.now();
  const signed = signedHeaders(new URL(url), acting, { region, service: "kms", now, headers, body });
  const text = await askService(context.transport, { service, url, headers: signed, body }, context.signal);
  return Buffer.from(answeredText(service, text, "Plaintext"), "base64");
}

/** The region goes into a host name, so it may be nothing else. */
function regionOf(arn: string): { readonly region: string; readonly domain: string } {
  const match = /^arn:(aws[a-z-]{0,20}):kms:([a-z0-9-]{1,32}):\d{12}:(?:key|alias)\/[\w/-]{1,300}$/.exec(arn);
  const [, partition = "", region = ""] = match ?? [];
  if (match === null) throw malformed("a KMS key has no ARN of AWS KMS");
  return { region, domain: partition === "aws-cn" ? "amazonaws.com.cn" : "amazonaws.com" };
}

/** Credentials for a token that a ServiceAccount is known by (STS, AssumeRoleWithWebIdentity). @throws {SopsProblem} */
export async function assumeRoleWithToken(
  context: AwsContext,
  { role, region, token }: { readonly role: string; readonly region: string; readonly token: string },
): Promise<AwsCredentials> {
  const domain = role.startsWith("arn:aws-cn:") ? "amazonaws.com.cn" : "amazonaws.com";
  const body = stsBody("AssumeRoleWithWebIdentity", { RoleArn: role, WebIdentityToken: token });
  const url = context.endpoints.sts ?? `https://sts.${region}.${domain}/`;
  return credentialsOf(await askService(context.transport, { service: sts, url, headers: form, body }, context.signal));
}

async function assumeRole(
  context: AwsContext,
  o: { readonly role: string; readonly region: string; readonly domain: string; readonly credentials: AwsCredentials },
): Promise<AwsCredentials> {
  const { role, region, domain, credentials } = o;
  const body = stsBody("AssumeRole", { RoleArn: role });
  const url = context.endpoints.sts ?? `https://sts.${region}.${domain}/`;
  const now = context.transport.clock.now();
  const headers = signedHeaders(new URL(url), credentials, { region, service: "sts", now, headers: form, body });
  return credentialsOf(await askService(context.transport, { service: sts, url, headers, body }, context.signal));
}

const sts = "AWS STS";
const form = { "content-type": "application/x-www-form-urlencoded; charset=utf-8" };

function stsBody(action: string, parameters: Readonly<Record<string, string>>): string {
  const session = { RoleSessionName: "stageset-controller", DurationSeconds: "900" };
  return new URLSearchParams({ Action: action, Version: "2011-06-15", ...session, ...parameters }).toString();
}

function credentialsOf(xml: string): AwsCredentials {
  const [accessKeyId, secretAccessKey, sessionToken] = ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(
    (name) => new RegExp(`<${name}>\\s*([\\x21-\\x3b=\\x3f-\\x7e]+)\\s*</${name}>`).exec(xml)?.[1],
  );
  if (accessKeyId === undefined || secretAccessKey === undefined)
    throw new SopsProblem("KMS unavailable", "AWS STS answered without credentials");
  return { accessKeyId, secretAccessKey, sessionToken };
}
