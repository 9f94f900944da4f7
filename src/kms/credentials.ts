import { SopsProblem } from "../build/sops/sops-problem.ts";
import { parseYaml, YamlProblem } from "../build/yaml-parse.ts";
import { asText, at } from "../lib/json.ts";
import { assumeRoleWithToken, type AwsContext } from "./aws.ts";
import type { AwsCredentials } from "../outbound/aws-signature.ts";
import type { AzureClient } from "./azure.ts";
import { exchangeToken, tokenOfServiceAccount, type GcpContext } from "./gcp.ts";
import { ambientVaultToken } from "./vault.ts";

/** A ServiceAccount whose federation is used: nothing else stands in for it. */
export interface Federation {
  annotations(signal: AbortSignal): Promise<Readonly<Record<string, string>>>;
  /** A token of the ServiceAccount for this audience. */
  token(audience: string, signal: AbortSignal): Promise<string>;
}

/** What the controller itself has: the environment of its process, and files that it names. */
export interface Ambient {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly readFile: (path: string) => Promise<string>;
}

/** Whose credentials are used, in this order; `ambient` undefined: the controller's are not (spec 50 §3.2). */
export interface CredentialSources {
  /** Entries of the key Secret, by name. */
  readonly entries: ReadonlyMap<string, string>;
  readonly identity: Federation | Ambient;
  /** What is in the entries that are YAML, each parsed once; a problem is one for all keys. */
  readonly parsed: Map<string, unknown>;
}

export function isFederation(identity: Federation | Ambient): identity is Federation {
  return "annotations" in identity;
}

export function vaultToken({ entries, identity }: CredentialSources, address: string): string {
  const own = entries.get("sops.vault-token");
  if (own !== undefined) return own;
  if (isFederation(identity)) throw unusable('Vault needs the entry "sops.vault-token"');
  const { VAULT_TOKEN, VAULT_ADDR, SOPS_HC_VAULT_ALLOWLIST } = identity.environment;
  const environment = { token: VAULT_TOKEN, address: VAULT_ADDR, allowed: SOPS_HC_VAULT_ALLOWLIST };
  const token = ambientVaultToken(address, environment);
  if (token === undefined) throw unusable("the controller has no Vault token that may go there");
  return token;
}

export async function awsCredentials(
  sources: CredentialSources,
  context: AwsContext,
  region: string,
): Promise<AwsCredentials> {
  const { identity } = sources;
  if (sources.entries.has("sops.aws-kms")) {
    const own = mappingIn(sources, "sops.aws-kms");
    const text = (key: string): string | undefined => asText(at(own, key));
    return awsKey(text("aws_access_key_id"), text("aws_secret_access_key"), text("aws_session_token"));
  }
  if (isFederation(identity)) {
    const role = (await identity.annotations(context.signal))["eks.amazonaws.com/role-arn"];
    if (role === undefined) throw unusable('the ServiceAccount has no annotation "eks.amazonaws.com/role-arn"');
    const token = await identity.token("sts.amazonaws.com", context.signal);
    return await assumeRoleWithToken(context, { role, region, token });
  }
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE } =
    identity.environment;
  if (AWS_ACCESS_KEY_ID !== undefined) return awsKey(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN);
  if (AWS_ROLE_ARN === undefined || AWS_WEB_IDENTITY_TOKEN_FILE === undefined)
    throw unusable("the controller has no credentials of AWS");
  const token = (await identity.readFile(AWS_WEB_IDENTITY_TOKEN_FILE)).trim();
  return await assumeRoleWithToken(context, { role: AWS_ROLE_ARN, region, token });
}

function awsKey(id: string | undefined, secret: string | undefined, sessionToken: string | undefined): AwsCredentials {
  if (id === undefined || secret === undefined || !/^\w{1,128}$/.test(id))
    throw unusable("the AWS credential needs aws_access_key_id and aws_secret_access_key");
  return { accessKeyId: id, secretAccessKey: secret, sessionToken };
}

export async function gcpToken({ entries, identity }: CredentialSources, context: GcpContext): Promise<string> {
  const own = entries.get("sops.gcp-kms");
  if (own !== undefined) return await tokenOfServiceAccount(context, own);
  if (isFederation(identity)) {
    const annotations = await identity.annotations(context.signal);
    const provider = annotations["gcp.auth.fluxcd.io/workload-identity-provider"];
    if (provider === undefined || !/^projects\/\d+\/locations\/global\/workloadIdentityPools\/[\w/-]+$/.test(provider))
      throw unusable('the ServiceAccount has no annotation "gcp.auth.fluxcd.io/workload-identity-provider"');
    const token = await identity.token(`https://iam.googleapis.com/${provider}`, context.signal);
    return await exchangeToken(context, {
      provider,
      token,
      impersonate: annotations["iam.gke.io/gcp-service-account"],
    });
  }
  const file = identity.environment["GOOGLE_APPLICATION_CREDENTIALS"];
  if (file === undefined) throw unusable("the controller has no credentials of GCP");
  return await tokenOfServiceAccount(context, await identity.readFile(file));
}

export async function azureClient(sources: CredentialSources, signal: AbortSignal): Promise<AzureClient> {
  const { identity } = sources;
  if (sources.entries.has("sops.azure-kv")) {
    const own = mappingIn(sources, "sops.azure-kv");
    const text = (key: string): string | undefined => asText(at(own, key));
    return azureOf(text("tenantId"), text("clientId"), "secret", text("clientSecret"));
  }
  if (isFederation(identity)) {
    const annotations = await identity.annotations(signal);
    const [tenant, client] = ["tenant-id", "client-id"].map((key) => annotations[`azure.workload.identity/${key}`]);
    if (tenant === undefined || client === undefined)
      throw unusable('the ServiceAccount has no annotations "azure.workload.identity/tenant-id" and "…/client-id"');
    return azureOf(tenant, client, "assertion", await identity.token("api://AzureADTokenExchange", signal));
  }
  const { AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_FEDERATED_TOKEN_FILE } = identity.environment;
  if (AZURE_CLIENT_SECRET !== undefined)
    return azureOf(AZURE_TENANT_ID, AZURE_CLIENT_ID, "secret", AZURE_CLIENT_SECRET);
  if (AZURE_FEDERATED_TOKEN_FILE === undefined) throw unusable("the controller has no credentials of Azure");
  const token = (await identity.readFile(AZURE_FEDERATED_TOKEN_FILE)).trim();
  return azureOf(AZURE_TENANT_ID, AZURE_CLIENT_ID, "assertion", token);
}

function azureOf(
  tenantId: string | undefined,
  clientId: string | undefined,
  kind: "secret" | "assertion",
  text: string | undefined,
): AzureClient {
  if (tenantId === undefined || clientId === undefined || text === undefined)
    throw unusable("the Azure credential needs tenantId, clientId and clientSecret");
  return { tenantId, clientId, secret: { kind, text } };
}

function mappingIn({ entries, parsed }: CredentialSources, entry: string): unknown {
  if (!parsed.has(entry)) parsed.set(entry, parse(entry, entries.get(entry) ?? ""));
  const found = parsed.get(entry);
  if (found instanceof SopsProblem) throw found;
  return found;
}

function parse(entry: string, text: string): unknown {
  try {
    return parseYaml(text, "kustomize")[0];
  } catch (error) {
    if (error instanceof YamlProblem) return unusable(`entry "${entry}" is no YAML`);
    throw error;
  }
}

function unusable(why: string): SopsProblem {
  return new SopsProblem("no usable key", why);
}
