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
import { deadline, DeadlineExceeded } from "../lib/abort.ts";
import type { KmsTransport } from "./kms-request.ts";
import { openWithVault } from "./vault.ts";

/** Services asked in one reconcile (spec 50 §3.1). */
const mostCalls = 200;
/** Longest that services may take for all that one render asks of them, ms: as long as a build (spec 20 §5). */
const mostMs = 60_000;

/** What was asked of services in a pass, or in an attempt of an action. */
export interface AskedServices {
  count: number;
  /** Hosts that did not answer in time. */
  readonly silent: Set<string>;
}

export function askedNothing(): AskedServices {
  return { count: 0, silent: new Set() };
}

/** What services have taken of the time of one render, ms. */
export interface SpentTime {
  ms: number;
}

export interface ShareRequest {
  readonly documents: readonly WantedDocument[];
  readonly entries: ReadonlyMap<string, string>;
  /** Undefined: the controller's own credentials. */
  readonly federation: Federation | undefined;
  /** Goes on from stage to stage. */
  readonly calls: AskedServices;
  /** Goes on from round to round of one render. */
  readonly spent: SpentTime;
  readonly signal: AbortSignal;
}

/**
 * Has services open what they alone can: one share for each group that a document needs.
 *
 * @throws {DecryptionError} naming the first document that stays closed; `KMS unavailable` after 60 s
 * @throws the signal's reason, when aborted
 */
export type ShareOpener = (request: ShareRequest) => Promise<OpenedShares>;

export function createShareOpener(o: { readonly transport: KmsTransport; readonly ambient: Ambient }): ShareOpener {
  return async ({ documents, entries, federation, calls, spent, signal }) => {
    const { clock } = o.transport;
    const startedAt = clock.monotonic();
    const timeoutMs = Math.max(0, mostMs - spent.ms);
    using limit = deadline(clock, { timeoutMs, what: "opening with services", parent: signal });
    const sources: CredentialSources = { entries, identity: federation ?? o.ambient, parsed: new Map() };
    const { AWS_ENDPOINT_URL_KMS, AWS_ENDPOINT_URL_STS } = o.ambient.environment;
    const endpoints = { kms: AWS_ENDPOINT_URL_KMS, sts: AWS_ENDPOINT_URL_STS };
    const transport = { ...o.transport, silent: calls.silent };
    const context: OpenContext = { transport, endpoints, sources, calls, signal: limit.signal };
    const opened = new Map<string, Uint8Array>();
    try {
      for (const document of documents) await openDocument(context, document, opened);
    } finally {
      spent.ms += clock.monotonic() - startedAt;
    }
    return opened;
  };
}

interface OpenContext {
  readonly transport: KmsTransport;
  readonly endpoints: AwsEndpoints;
  readonly sources: CredentialSources;
  readonly calls: AskedServices;
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
    const share = known ? undefined : await inTime(context, path, () => openGroup(context, group, problems));
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

/** That the time of the render is out is told of the document; that the pass ends is not. */
async function inTime<Result>({ signal }: OpenContext, path: string, ask: () => Promise<Result>): Promise<Result> {
  try {
    return await ask();
  } catch (error) {
    if (!signal.aborted || !(signal.reason instanceof DeadlineExceeded)) throw error;
    throw new DecryptionError(path, "KMS unavailable", "services took longer than 60 s for all that was asked of them");
  }
}

async function openGroup(
  context: OpenContext,
  { keys }: WantedGroup,
  problems: SopsProblem[],
): Promise<Uint8Array | undefined> {
  for (const key of keys) {
    context.signal.throwIfAborted();
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
