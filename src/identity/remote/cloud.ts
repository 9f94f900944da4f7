import type { Clock } from "../../lib/clock.ts";
import { isKubeError } from "../../kube/error.ts";
import { getRequest, serviceAccounts } from "../../kube/request.ts";
import { asObject, asText, at } from "../../lib/json.ts";
import type { Access, AccessProvider } from "../access.ts";
import { IdentityError } from "../identity-error.ts";
import {
  ambientCredentials,
  assumeRole,
  describeCluster,
  eksToken,
  parseEksArn,
  type AwsOptions,
  type EksCluster,
} from "./aws.ts";
import type { AwsCredentials } from "../../outbound/aws-signature.ts";
import { createTokenCache, type MintedToken, type ServiceAccountName } from "../tokens.ts";
import { checkedCertificates } from "./kubeconfig.ts";
import { checkedUrl, isPrintable, shown, type RemoteCluster } from "./remote-cluster.ts";

/** What a ConfigMap of `spec.kubeConfig.configMapRef` says. */
export interface CloudEntries {
  readonly entries: Readonly<Record<string, string>>;
  readonly namespace: string;
  /** A tenant uses the connection, not the controller. */
  readonly isTenants: boolean;
  /** Makes the error from a problem that names the entry. */
  readonly fail: (problem: string) => Error;
}

export interface CloudOptions {
  readonly access: Pick<AccessProvider, "mint" | "localAudiences" | "controller">;
  readonly aws: AwsOptions;
  /** `--default-kubeconfig-service-account`. */
  readonly defaultServiceAccount: string | undefined;
  readonly clock: Clock;
}

const providers = ["aws", "azure", "gcp", "generic"] as const;
const mostAudiences = 20;
/** Tokens are kept for this share of their life (spec 50 §2.2). */
const keptShare = 0.8;

/**
 * The cluster of a cloud identity, with a credential that is had when it is first needed (spec 50 §2.2).
 *
 * @throws what `fail` makes, and what the ServiceAccount's tokens throw
 */
export async function readCloudCluster(
  from: CloudEntries,
  options: CloudOptions,
  signal: AbortSignal,
): Promise<RemoteCluster> {
  const { entries, fail } = from;
  const provider = entries["provider"] ?? "";
  if (provider === "generic") return readGeneric(from, options, signal);
  if (provider === "aws") return readAws(from, options, signal);
  const known = providers.some((each) => each === provider);
  throw fail(
    known
      ? `provider is "${provider}", which is not part of this build: use "generic" or "aws", or a kubeconfig in spec.kubeConfig.secretRef`
      : `provider is "${shown(provider)}": give one of ${providers.join(", ")}`,
  );
}

/** A cluster that trusts the issuer of this one: the ServiceAccount's own token, for another audience, is the credential. */
async function readGeneric(from: CloudEntries, options: CloudOptions, signal: AbortSignal): Promise<RemoteCluster> {
  const { entries, namespace, fail } = from;
  const address = text(entries["address"]);
  if (address === undefined) throw fail("address is missing: give the https URL of the API server");
  const server = checkedUrl(address, { schemes: ["https"], fail: (problem) => fail(`address ${problem}`) });
  const caPem = text(entries["ca.crt"]);
  if (caPem !== undefined) checkedCertificates(caPem, (problem) => fail(`ca.crt ${problem}`));
  const account = federated(from, options);
  if (account === undefined)
    throw fail(
      "serviceAccountName is missing, and the controller's own identity is never used here: name a ServiceAccount of " +
        `namespace "${namespace}"`,
    );
  const audiences = await foreignAudiences(from, { account, otherwise: address, options }, signal);
  const authorization = keptToken(options, (minting) => options.access.mint(account, { audiences, signal: minting }));
  return reached({ server, caPem, authorization });
}

/** A cluster of EKS, with a token that is a signed request to STS. */
async function readAws(from: CloudEntries, options: CloudOptions, signal: AbortSignal): Promise<RemoteCluster> {
  const { entries, fail } = from;
  const { aws } = options;
  const cluster = parseEksArn(text(entries["cluster"]) ?? "");
  if (cluster === undefined)
    throw fail("cluster is no ARN of an EKS cluster: give arn:aws:eks:<region>:<account>:cluster/<name>");
  const given = { address: text(entries["address"]), caPem: text(entries["ca.crt"]) };
  const failAddress = (problem: string): Error => fail(`address ${problem}`);
  if (given.address !== undefined) checkedUrl(given.address, { schemes: ["https"], fail: failAddress });
  if (given.caPem !== undefined) checkedCertificates(given.caPem, (problem) => fail(`ca.crt ${problem}`));
  const account = federated(from, options);
  const login = await awsLogin(from, { cluster, account, options }, signal);
  const complete = given.address !== undefined && given.caPem !== undefined;
  // With the controller's own credentials a tenant must not choose who gets the token (spec 50 §2.2).
  const mustAgree = account === undefined && from.isTenants;
  const known =
    complete && !mustAgree
      ? undefined
      : await describeCluster(aws, { cluster, credentials: await login(signal) }, signal);
  if (mustAgree && known !== undefined) {
    if (given.address !== undefined && new URL(given.address).href !== URL.parse(known.endpoint)?.href)
      throw fail("address is not what AWS reports for cluster: leave it out, or name a ServiceAccount");
    if (given.caPem !== undefined && given.caPem !== known.caPem.trim())
      throw fail("ca.crt is not what AWS reports for cluster: leave it out, or name a ServiceAccount");
  }
  const server = checkedUrl(given.address ?? known?.endpoint ?? "", { schemes: ["https"], fail: failAddress });
  const authorization = keptToken(options, async (minting) =>
    eksToken(aws, { cluster, credentials: await login(minting) }),
  );
  return reached({ server, caPem: given.caPem ?? known?.caPem, authorization });
}

/** How credentials of AWS are had each time: of the role of a ServiceAccount, or the controller's own. */
async function awsLogin(
  from: CloudEntries,
  of: {
    readonly cluster: EksCluster;
    readonly account: ServiceAccountName | undefined;
    readonly options: CloudOptions;
  },
  signal: AbortSignal,
): Promise<(signal: AbortSignal) => Promise<AwsCredentials>> {
  const { cluster, account, options } = of;
  const { aws, access } = options;
  const noIdentity = (): Error =>
    from.fail("serviceAccountName is missing, and the controller has no identity of AWS: name a ServiceAccount");
  if (account === undefined)
    return async (logging) => {
      const own = await ambientCredentials(aws, cluster, logging);
      if (own === undefined) throw noIdentity();
      return own;
    };
  const audiences = await foreignAudiences(from, { account, otherwise: "sts.amazonaws.com", options }, signal);
  const annotations = await readAnnotations(access.controller, account, signal);
  const roleArn = asText(annotations[roleArnAnnotation]);
  if (roleArn === undefined)
    throw from.fail(
      `serviceAccountName is "${account.name}", whose ServiceAccount lacks the annotation ${roleArnAnnotation}: name a role there`,
    );
  return async (logging) => {
    const { token } = await access.mint(account, { audiences, signal: logging });
    return assumeRole(aws, { cluster, roleArn, token }, logging);
  };
}

const roleArnAnnotation = "eks.amazonaws.com/role-arn";

/** As the controller: a tenant needs no right on the ServiceAccount. */
async function readAnnotations(
  { client }: Access,
  account: ServiceAccountName,
  signal: AbortSignal,
): Promise<Readonly<Record<string, unknown>>> {
  try {
    const object = await client.send(getRequest(serviceAccounts, account), { signal });
    return asObject(at(object, "metadata", "annotations")) ?? {};
  } catch (error) {
    if (!isKubeError(error, "NotFound")) throw error;
    const shownName = `ServiceAccount "${account.namespace}/${account.name}"`;
    throw new IdentityError("ServiceAccountMissing", `${shownName} does not exist`, error);
  }
}

function reached(of: Pick<RemoteCluster, "server" | "caPem" | "authorization">): RemoteCluster {
  return {
    ...of,
    tlsServerName: undefined,
    insecureSkipTlsVerify: false,
    proxy: undefined,
    certificate: undefined,
    actsAs: undefined,
  };
}

/** Whom the ServiceAccount's token is for; never the API server here. */
async function foreignAudiences(
  { entries, fail }: CloudEntries,
  of: { readonly account: ServiceAccountName; readonly otherwise: string; readonly options: CloudOptions },
  signal: AbortSignal,
): Promise<readonly string[]> {
  const audiences = audiencesOf(entries["audiences"], fail) ?? [of.otherwise];
  const local = await of.options.access.localAudiences(of.account, { signal });
  const replayable = audiences.find((each) => isLocal(each, local));
  if (replayable === undefined) return audiences;
  throw fail(
    `audiences names "${shown(replayable)}", which the API server here accepts, so that whoever gets the token could use it here: ` +
      "name one of the target cluster alone",
  );
}

/** Tokens of the audience of any API server's in-cluster address are accepted by this one, too. */
function isLocal(audience: string, local: readonly string[]): boolean {
  return local.includes(audience) || audience.startsWith("https://kubernetes.default.svc");
}

/** The ServiceAccount whose federation is used; undefined: none is named. */
function federated({ entries, namespace, fail }: CloudEntries, options: CloudOptions): ServiceAccountName | undefined {
  const name = text(entries["serviceAccountName"]) ?? options.defaultServiceAccount;
  if (name === undefined) return undefined;
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(name))
    throw fail(`serviceAccountName is "${shown(name)}", which is no name of a ServiceAccount`);
  return { namespace, name };
}

function audiencesOf(list: string | undefined, fail: (problem: string) => Error): readonly string[] | undefined {
  const audiences = (list ?? "")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  if (audiences.length > mostAudiences) throw fail(`audiences has more than ${mostAudiences} lines`);
  if (!audiences.every((each) => isPrintable(each) && each.length <= 1_024))
    throw fail("audiences holds a line that is no printable text of up to 1,024 characters");
  return audiences.length === 0 ? undefined : audiences;
}

/** The value of an entry without the line break that YAML blocks end with; empty is absent. */
function text(value: string | undefined): string | undefined {
  const trimmed = value?.trim();
  return trimmed === "" ? undefined : trimmed;
}

/** `Bearer` with a token that is fetched when there is none, or little is left of its life; for all requests one. */
function keptToken(
  { clock }: Pick<CloudOptions, "clock">,
  fetch: (signal: AbortSignal) => Promise<MintedToken>,
): (signal: AbortSignal) => Promise<string> {
  const tokens = createTokenCache({
    clock,
    mint: (_account, { signal }) => fetch(signal),
    renewBefore: (lifeMs) => (1 - keptShare) * lifeMs,
  });
  const only = { namespace: "", name: "" };
  return async (signal) => `Bearer ${await tokens.get(only, { signal })}`;
}
