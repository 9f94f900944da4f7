import type { Clock } from "../../lib/clock.ts";
import { createKubeClient, type KubeClient, type KubeClientOptions } from "../../kube/client.ts";
import { impersonating, type Credential, type Impersonation } from "../../kube/credential.ts";
import { createDiscovery, type Discovery } from "../../kube/discovery.ts";
import type { ClusterEndpoint } from "../../kube/endpoint.ts";
import { isKubeError, KubeError } from "../../kube/error.ts";
import { IdentityError } from "../identity-error.ts";
import type { RemoteCluster } from "./remote-cluster.ts";

/** Spec 50 §2.3; the connect timeout is every transport's. */
const patience = { firstByteMs: 30_000, wholeMs: 60_000 } as const;

/**
 * After a request has waited so long in vain, the others of this connection are spared that for a while: a pass that has
 * many to send would wait for each of them.
 */
const slowMs = 5_000;
const sparedMs = 10_000;

/** Every connection to clusters of `spec.kubeConfig` is made with these. */
export type ConnectionOptions = Pick<
  KubeClientOptions,
  "transports" | "userAgent" | "requests" | "traceparent" | "mayWrite"
> & { readonly clock: Clock };

/**
 * One credential on one remote cluster. Sockets are opened by the first request and shared with no other connection. A
 * retired one closes them after its last use, and serves whoever still holds it over new ones.
 */
export interface RemoteConnection extends Pick<KubeClient, "send" | "stream" | "cluster"> {
  /** Host and port, for messages. */
  readonly host: string;
  readonly discovery: Discovery;
  /** Nobody new is given it. Twice is harmless. */
  retire(): void;
  /** Sockets may be open. */
  readonly isOpen: boolean;
}

export interface ConnectionTarget {
  readonly cluster: RemoteCluster;
  readonly endpoint: ClusterEndpoint;
  /** Acts as this user instead of whom the kubeconfig names (spec 50 §2). */
  readonly actsAs: Impersonation | undefined;
  readonly identity: string;
}

export function createConnection(target: ConnectionTarget, options: ConnectionOptions): RemoteConnection {
  const { endpoint, cluster } = target;
  const { clock } = options;
  const { host } = cluster.server;
  const credential = credentialOf(target);
  let client: (KubeClient & AsyncDisposable) | undefined;
  let users = 0;
  let retired = false;
  let sparedUntil = -Infinity;

  const closeUnused = (): void => {
    if (!retired || users > 0 || client === undefined) return;
    const unused = client;
    client = undefined;
    // Gives the transport back, which closes its sockets on its own.
    unused[Symbol.asyncDispose]().then(undefined, () => undefined);
  };
  /** Holds the sockets open until it is disposed. */
  const use = (): { readonly client: KubeClient } & Disposable => {
    client ??= createKubeClient({ ...options, endpoint, credential, identity: target.identity, patience });
    users++;
    return {
      client,
      [Symbol.dispose]: () => {
        users--;
        closeUnused();
      },
    };
  };
  const spare = (): void => {
    if (clock.monotonic() >= sparedUntil) return;
    throw unreachable(host, "it did not answer just now");
  };
  /** `startedAt` is when the request was sent. */
  const told = (error: unknown, startedAt: number): unknown => {
    if (isKubeError(error) && error.httpStatus !== undefined) sparedUntil = -Infinity;
    if (!isSilence(error)) return error;
    if (clock.monotonic() - startedAt >= slowMs) sparedUntil = clock.monotonic() + sparedMs;
    return unreachable(host, error.message, error);
  };
  const connection: Omit<RemoteConnection, "discovery"> = {
    cluster: endpoint.key,
    host,
    async send(request, sendOptions) {
      spare();
      using used = use();
      const startedAt = clock.monotonic();
      try {
        const answer = await used.client.send(request, sendOptions);
        sparedUntil = -Infinity;
        return answer;
      } catch (error) {
        throw told(error, startedAt);
      }
    },
    async *stream(request, streamOptions) {
      using used = use();
      const startedAt = clock.monotonic();
      try {
        yield* used.client.stream(request, streamOptions);
      } catch (error) {
        throw told(error, startedAt);
      }
    },
    retire() {
      retired = true;
      closeUnused();
    },
    get isOpen() {
      return client !== undefined;
    },
  };
  const discovery = createDiscovery({ client: { ...connection, identity: target.identity }, clock });
  // Not spread: `isOpen` must go on being read.
  return Object.assign(connection, { discovery });
}

function credentialOf({ cluster, actsAs }: ConnectionTarget): Credential {
  const { authorization, certificate } = cluster;
  const own: Credential = {
    ...(certificate === undefined ? {} : { certificate }),
    authorize: async ({ signal }) =>
      authorization === undefined ? {} : { authorization: await authorization(signal) },
    explain: (refusal) =>
      new IdentityError(
        "TargetUnauthorized",
        `the target cluster "${cluster.server.host}" refused the credential: ${refusal.message}`,
        refusal,
      ),
  };
  const as = actsAs ?? cluster.actsAs;
  return as === undefined ? own : impersonating(own, as);
}

/** No answer came, so nothing is known of the cluster. */
function isSilence(error: unknown): error is KubeError {
  return isKubeError(error, "Timeout", "Unreachable") && error.httpStatus === undefined;
}

function unreachable(host: string, why: string, cause?: KubeError): KubeError {
  return new KubeError({
    reason: cause?.reason ?? "Unreachable",
    message: `target cluster unreachable: "${host}": ${why}`,
    afterSend: cause?.afterSend ?? false,
    cause,
  });
}
