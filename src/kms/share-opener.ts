import { DecryptionError } from "../build/decryption-error.ts";
import type { WantedDocument } from "../build/decryptor.ts";
import type { OpenedShares, WantedGroup } from "../build/sops/data-key.ts";
import type { CloudKey } from "../build/sops/sops-metadata.ts";
import { SopsProblem } from "../build/sops/sops-problem.ts";
import { openWithAws, type AwsEndpoints } from "./aws.ts";
import { openWithAzure } from "./azure.ts";
import {
  awsCredentials,
  azureClient,
  gcpToken,
  vaultToken,
  type Ambient,
  type CredentialSources,
  type Federation,
} from "./credentials.ts";
import { openWithGcp } from "./gcp.ts";
import type { KmsTransport } from "./kms-request.ts";
import { openWithVault } from "./vault.ts";

/** Services asked in one reconcile (spec 50 §3.1). */
const mostCalls = 200;

export interface ShareRequest {
  readonly documents: readonly WantedDocument[];
  readonly entries: ReadonlyMap<string, string>;
  /** Undefined: the controller's own credentials. */
  readonly federation: Federation | undefined;
  /** Counts on from pass to stage to stage. */
  readonly calls: { count: number };
  readonly signal: AbortSignal;
}

/**
 * Has services open what they alone can: one share for each group that a document needs.
 *
 * @throws {DecryptionError} naming the first document that stays closed
 * @throws the signal's reason, when aborted
 */
export type ShareOpener = (request: ShareRequest) => Promise<OpenedShares>;

export function createShareOpener(o: { readonly transport: KmsTransport; readonly ambient: Ambient }): ShareOpener {
  return async ({ documents, entries, federation, calls, signal }) => {
    const sources: CredentialSources = { entries, identity: federation ?? o.ambient };
    const { AWS_ENDPOINT_URL_KMS, AWS_ENDPOINT_URL_STS } = o.ambient.environment;
    const endpoints = { kms: AWS_ENDPOINT_URL_KMS, sts: AWS_ENDPOINT_URL_STS };
    const context: OpenContext = { transport: o.transport, endpoints, sources, calls, signal };
    const opened = new Map<string, Uint8Array>();
    for (const document of documents) await openDocument(context, document, opened);
    return opened;
  };
}

interface OpenContext {
  readonly transport: KmsTransport;
  readonly endpoints: AwsEndpoints;
  readonly sources: CredentialSources;
  readonly calls: { count: number };
  readonly signal: AbortSignal;
}

async function openDocument(
  context: OpenContext,
  { path, groups, missing }: WantedDocument,
  opened: Map<string, Uint8Array>,
): Promise<void> {
  let found = 0;
  const problems: SopsProblem[] = [];
  for (const group of groups) {
    if (found === missing) return;
    const known = opened.has(group.name);
    const share = known ? undefined : await openGroup(context, group, problems);
    if (share !== undefined) opened.set(group.name, share);
    if (known || share !== undefined) found++;
  }
  if (found === missing) return;
  // What may pass says more than what will not.
  const order = ["KMS unavailable", "malformed", "KMS denied", "no usable key"] as const;
  const worst = order.find((each) => problems.some((problem) => problem.class === each)) ?? "no usable key";
  throw new DecryptionError(
    path,
    worst,
    problems
      .map(({ message }) => message)
      .join("; ")
      .slice(0, 2_000),
  );
}

async function openGroup(
  context: OpenContext,
  { keys }: WantedGroup,
  problems: SopsProblem[],
): Promise<Uint8Array | undefined> {
  for (const key of keys) {
    try {
      if (++context.calls.count > mostCalls)
        throw new SopsProblem("malformed", `more than ${mostCalls} calls of services in one reconcile`);
      return await openWith(context, key);
    } catch (error) {
      if (!(error instanceof SopsProblem)) throw error;
      problems.push(error);
    }
  }
  return undefined;
}

function openWith({ transport, endpoints, sources, signal }: OpenContext, key: CloudKey): Promise<Uint8Array> {
  switch (key.kind) {
    case "aws": {
      const context = { transport, endpoints, signal };
      return openWithAws(context, key, (region) => awsCredentials(sources, context, region));
    }
    case "gcp":
      return openWithGcp({ transport, signal }, key, () => gcpToken(sources, { transport, signal }));
    case "azure":
      return openWithAzure({ transport, signal }, key, () => azureClient(sources, signal));
    case "vault":
      return openWithVault(transport, key, { token: vaultToken(sources, key.address), signal });
  }
}
