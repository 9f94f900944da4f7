import type { Clock } from "../../lib/clock.ts";
import type { AccessProvider } from "../access.ts";
import { createTokenCache, type MintedToken, type ServiceAccountName } from "../tokens.ts";
import { checkedCertificates } from "./kubeconfig.ts";
import { checkedUrl, isPrintable, shown, type RemoteCluster } from "./remote-cluster.ts";

/** What a ConfigMap of `spec.kubeConfig.configMapRef` says. */
export interface CloudEntries {
  readonly entries: Readonly<Record<string, string>>;
  readonly namespace: string;
  /** Makes the error from a problem that names the entry. */
  readonly fail: (problem: string) => Error;
}

export interface CloudOptions {
  readonly access: Pick<AccessProvider, "mint" | "localAudiences">;
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
  const known = providers.some((each) => each === provider);
  throw fail(
    known
      ? `provider is "${provider}", which is not part of this build: use "generic", or a kubeconfig in spec.kubeConfig.secretRef`
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
  const audiences = audiencesOf(entries["audiences"], fail) ?? [address];
  const account = federated(from, options);
  if (account === undefined)
    throw fail(
      "serviceAccountName is missing, and the controller's own identity is never used here: name a ServiceAccount of " +
        `namespace "${namespace}"`,
    );
  const local = await options.access.localAudiences(account, { signal });
  const replayable = audiences.find((each) => isLocal(each, local));
  if (replayable !== undefined)
    throw fail(
      `audiences names "${shown(replayable)}", which the API server here accepts, so that whoever gets the token could use it here: ` +
        "name one of the target cluster alone",
    );
  return {
    server,
    caPem,
    tlsServerName: undefined,
    insecureSkipTlsVerify: false,
    proxy: undefined,
    certificate: undefined,
    authorization: keptToken(account, options, (minting) =>
      options.access.mint(account, { audiences, signal: minting }),
    ),
    actsAs: undefined,
  };
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
  account: ServiceAccountName,
  { clock }: Pick<CloudOptions, "clock">,
  fetch: (signal: AbortSignal) => Promise<MintedToken>,
): (signal: AbortSignal) => Promise<string> {
  const tokens = createTokenCache({
    clock,
    mint: (_account, { signal }) => fetch(signal),
    renewBefore: (lifeMs) => (1 - keptShare) * lifeMs,
  });
  return async (signal) => `Bearer ${await tokens.get(account, { signal })}`;
}
