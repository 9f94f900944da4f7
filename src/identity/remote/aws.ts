import { readFile } from "node:fs/promises";
import { asText, at } from "../../lib/json.ts";
import type { CloudCaller } from "../../outbound/cloud-call.ts";
import { OutboundError } from "../../outbound/outbound-error.ts";
import { IdentityError } from "../identity-error.ts";
import type { MintedToken } from "../tokens.ts";
import { presignedUrl, signedHeaders, type AwsCredentials } from "../../outbound/aws-signature.ts";

export interface AwsOptions {
  readonly call: CloudCaller["call"];
  /** Epoch milliseconds. */
  readonly now: () => number;
  /** `AWS_ACCESS_KEY_ID` and the like, `AWS_ROLE_ARN`, `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ENDPOINT_URL_STS`, `AWS_ENDPOINT_URL_EKS`. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** A cluster of EKS, as its ARN names it. */
export interface EksCluster {
  readonly region: string;
  readonly name: string;
  /** Of the partition: where its services are. */
  readonly suffix: string;
}

/** Where EKS says that a cluster is. */
export interface EksEndpoint {
  readonly endpoint: string;
  readonly caPem: string;
}

const suffixes: Readonly<Record<string, string>> = {
  aws: "amazonaws.com",
  "aws-us-gov": "amazonaws.com",
  "aws-cn": "amazonaws.com.cn",
  "aws-iso": "c2s.ic.gov",
  "aws-iso-b": "sc2s.sgov.gov",
};

/** EKS takes a token for 15 minutes after the time it was signed at; a minute is left for clocks that differ. */
const tokenLifeMs = 14 * 60_000;
const presignedSeconds = 60;

/** Undefined: it is no ARN of a cluster. */
export function parseEksArn(arn: string): EksCluster | undefined {
  const match =
    /^arn:(aws[a-z-]*):eks:([a-z]{2,}(?:-[a-z0-9]+)+):\d{12}:cluster\/([A-Za-z0-9][A-Za-z0-9_-]{0,99})$/.exec(arn);
  const [, partition = "", region = "", name = ""] = match ?? [];
  const suffix = Object.hasOwn(suffixes, partition) ? suffixes[partition] : undefined;
  return match === null || suffix === undefined ? undefined : { region, name, suffix };
}

/**
 * The credentials of a role, for a token of a ServiceAccount (`AssumeRoleWithWebIdentity` of STS).
 *
 * @throws {IdentityError} `TargetUnreachable`
 */
export async function assumeRole(
  o: AwsOptions,
  of: { readonly cluster: EksCluster; readonly roleArn: string; readonly token: string },
  signal: AbortSignal,
): Promise<AwsCredentials> {
  const body = new URLSearchParams({
    Action: "AssumeRoleWithWebIdentity",
    Version: "2011-06-15",
    RoleArn: of.roleArn,
    RoleSessionName: "stageset-controller",
    WebIdentityToken: of.token,
  }).toString();
  const headers = { "content-type": "application/x-www-form-urlencoded", accept: "text/xml" };
  const text = await answered(o, { method: "POST", url: stsUrl(o, of.cluster), headers, body }, "AWS STS", signal);
  const field = (name: string): string | undefined => new RegExp(`<${name}>([^<]+)</${name}>`).exec(text)?.[1];
  const [accessKeyId, secretAccessKey] = [field("AccessKeyId"), field("SecretAccessKey")];
  if (accessKeyId === undefined || secretAccessKey === undefined)
    throw new IdentityError("TargetUnreachable", "AWS STS answered without credentials");
  return { accessKeyId, secretAccessKey, sessionToken: field("SessionToken") };
}

/**
 * The controller's own credentials: from the environment, or of the role that it is given there with a token. Undefined:
 * it has none.
 *
 * @throws {IdentityError} `TargetUnreachable`
 */
export async function ambientCredentials(
  o: AwsOptions,
  cluster: EksCluster,
  signal: AbortSignal,
): Promise<AwsCredentials | undefined> {
  const { env } = o;
  const accessKeyId = asText(env["AWS_ACCESS_KEY_ID"]);
  const secretAccessKey = asText(env["AWS_SECRET_ACCESS_KEY"]);
  if (accessKeyId !== undefined && secretAccessKey !== undefined)
    return { accessKeyId, secretAccessKey, sessionToken: asText(env["AWS_SESSION_TOKEN"]) };
  const roleArn = asText(env["AWS_ROLE_ARN"]);
  const file = asText(env["AWS_WEB_IDENTITY_TOKEN_FILE"]);
  if (roleArn === undefined || file === undefined) return undefined;
  const token = await readFile(file, "utf8").catch((error: unknown) => {
    throw new IdentityError("TargetUnreachable", "Cannot read the file of AWS_WEB_IDENTITY_TOKEN_FILE", error);
  });
  return assumeRole(o, { cluster, roleArn, token: token.trim() }, signal);
}

/**
 * Where EKS says that the cluster is (`DescribeCluster`).
 *
 * @throws {IdentityError} `TargetUnreachable`
 */
export async function describeCluster(
  o: AwsOptions,
  of: { readonly cluster: EksCluster; readonly credentials: AwsCredentials },
  signal: AbortSignal,
): Promise<EksEndpoint> {
  const { region, name, suffix } = of.cluster;
  const base = asText(o.env["AWS_ENDPOINT_URL_EKS"]) ?? `https://eks.${region}.${suffix}`;
  const url = new URL(`/clusters/${name}`, base);
  const headers = signedHeaders(url, of.credentials, { region, service: "eks", now: o.now() });
  const text = await answered(o, { method: "GET", url, headers }, "AWS EKS", signal);
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = undefined;
  }
  const endpoint = asText(at(answer, "cluster", "endpoint"));
  const authority = asText(at(answer, "cluster", "certificateAuthority", "data"));
  if (endpoint === undefined || authority === undefined)
    throw new IdentityError("TargetUnreachable", "AWS EKS answered without endpoint and authority of the cluster");
  return { endpoint, caPem: Buffer.from(authority, "base64").toString("utf8") };
}

/** A token that EKS takes: a signed request to STS, which its API server sends to learn whose it is. */
export function eksToken(
  o: AwsOptions,
  { cluster, credentials }: { readonly cluster: EksCluster; readonly credentials: AwsCredentials },
): MintedToken {
  const url = stsUrl(o, cluster);
  url.searchParams.set("Action", "GetCallerIdentity");
  url.searchParams.set("Version", "2011-06-15");
  const signed = presignedUrl(url, credentials, {
    region: cluster.region,
    service: "sts",
    now: o.now(),
    headers: { "x-k8s-aws-id": cluster.name },
    expiresSeconds: presignedSeconds,
  });
  return { token: `k8s-aws-v1.${Buffer.from(signed, "utf8").toString("base64url")}`, lifeMs: tokenLifeMs };
}

function stsUrl({ env }: AwsOptions, { region, suffix }: EksCluster): URL {
  return new URL("/", asText(env["AWS_ENDPOINT_URL_STS"]) ?? `https://sts.${region}.${suffix}`);
}

/** The body of an answer of 200. What the cloud says beside its status is not repeated: it may quote the request. */
async function answered(
  o: AwsOptions,
  request: Parameters<CloudCaller["call"]>[0],
  who: string,
  signal: AbortSignal,
): Promise<string> {
  const { status, text } = await o.call(request, { signal }).catch((error: unknown) => {
    if (!(error instanceof OutboundError)) throw error;
    throw new IdentityError("TargetUnreachable", `${who} cannot be reached: ${error.message}`, error);
  });
  if (status === 200) return text;
  throw new IdentityError("TargetUnreachable", `${who} at "${request.url.host}" answered ${String(status)}`);
}
