import { createKubeClient, type KubeClient } from "../kube/client.ts";
import type { Credential } from "../kube/credential.ts";
import { createDiscovery, type Discovery } from "../kube/discovery.ts";
import type { ClusterEndpoint } from "../kube/endpoint.ts";
import type { Transports } from "../kube/transport.ts";
import { abortable } from "../lib/abortable.ts";
import type { Clock } from "../lib/clock.ts";
import { asText, at } from "../lib/json.ts";
import type { Counter } from "../lib/telemetry.ts";
import { IdentityError } from "./identity-error.ts";
import { audiencesOf, mintToken } from "./mint-token.ts";
import { createTokenCache, type MintedToken, type ServiceAccountName, type TokenCache } from "./tokens.ts";

/** One identity on one cluster, ready to use. */
export interface Access {
  /** `<cluster>/<identity>`. */
  readonly key: string;
  readonly client: KubeClient;
  /** Shared by all identities of the cluster; read as the controller. */
  readonly discovery: Discovery;
  /**
   * Proves that the identity can be assumed: its token is held, or minted now.
   *
   * @throws {IdentityError} as the first request would
   */
  connect(signal: AbortSignal): Promise<void>;
}

/** The controller itself, or a ServiceAccount of the own cluster assumed by TokenRequest. */
export type IdentityName = { readonly namespace: string; readonly serviceAccountName: string } | "controller";

export interface AccessProvider {
  readonly controller: Access;
  /**
   * Mints nothing yet: a missing ServiceAccount shows with the first request.
   *
   * @throws {IdentityError} `OwnServiceAccount` when a ServiceAccount is named that is the controller's own
   */
  access(id: IdentityName, o: { readonly signal: AbortSignal }): Promise<Access>;
  /**
   * A new token of a ServiceAccount for somebody else than the API server, asked for as the controller; nothing is kept.
   *
   * @throws {IdentityError} as the first request as this ServiceAccount would
   */
  mint(
    account: ServiceAccountName,
    o: { readonly audiences: readonly string[]; readonly signal: AbortSignal },
  ): Promise<MintedToken>;
  /** Whom tokens are for that the own API server accepts, by what it gives such a ServiceAccount and the controller. */
  localAudiences(account: ServiceAccountName, o: { readonly signal: AbortSignal }): Promise<readonly string[]>;
  /** Drops the token and connection state of a ServiceAccount no StageSet uses any more. */
  release(namespace: string, name: string): void;
}

export interface AccessOptions {
  readonly endpoint: ClusterEndpoint;
  /** The controller's own. */
  readonly credential: Credential;
  readonly transports: Transports;
  readonly clock: Clock;
  readonly userAgent?: string | undefined;
  readonly requests?: Counter | undefined;
  readonly traceparent?: (() => string | undefined) | undefined;
  /** False refuses every write of every identity: the lease is not held (spec 20 E6). Mints are no writes. */
  readonly mayWrite?: (() => boolean) | undefined;
}

/** Opens no connection until the first request. Disposing gives the sockets back. */
export function createAccessProvider(options: AccessOptions): AccessProvider & AsyncDisposable {
  const { endpoint, clock } = options;
  const { mayWrite, ...plain } = options;
  const client = createKubeClient({ ...options, identity: "controller" });
  const minter = createKubeClient({ ...plain, identity: "controller" });
  const discovery = createDiscovery({ client, clock });
  const controller: Access = {
    key: `${endpoint.key}/controller`,
    client,
    discovery,
    connect: () => Promise.resolve(),
  };
  const tokens = createTokenCache({ clock, mint: (account, { signal }) => mintToken(minter, { account }, signal) });
  const tenants = new Map<string, Access & AsyncDisposable>();
  let given: readonly string[] | undefined;
  const own = rememberSuccess(() => ownServiceAccount(minter));
  // Always verified, whatever the controller's own configuration says; without its client certificate.
  const verified: ClusterEndpoint = { ...endpoint, insecureSkipTlsVerify: false };

  const tenant = (account: ServiceAccountName): Access & AsyncDisposable => {
    const identity = `system:serviceaccount:${account.namespace}:${account.name}`;
    const credential = tenantCredential(tokens, account);
    const tenantClient = createKubeClient({ ...plain, endpoint: verified, credential, identity, mayWrite });
    return {
      key: `${endpoint.key}/${identity}`,
      client: tenantClient,
      discovery,
      connect: async (signal) => {
        await tokens.get(account, { signal });
      },
      [Symbol.asyncDispose]: () => tenantClient[Symbol.asyncDispose](),
    };
  };
  const refuseOwn = async ({ namespace, name }: ServiceAccountName, signal: AbortSignal): Promise<void> => {
    const key = `${namespace}/${name}`;
    if ((await abortable(own(), signal)) !== key) return;
    throw new IdentityError(
      "OwnServiceAccount",
      `ServiceAccount "${key}" is the controller's own and cannot be named by a StageSet`,
    );
  };
  return {
    controller,
    async access(id, { signal }) {
      if (id === "controller") return controller;
      const account = { namespace: id.namespace, name: id.serviceAccountName };
      const key = `${account.namespace}/${account.name}`;
      const known = tenants.get(key);
      if (known !== undefined) return known;
      await refuseOwn(account, signal);
      const made = tenants.get(key) ?? tenant(account);
      tenants.set(key, made);
      return made;
    },
    async mint(account, { audiences, signal }) {
      await refuseOwn(account, signal);
      return mintToken(minter, { account, audiences }, signal);
    },
    async localAudiences(account, { signal }) {
      await refuseOwn(account, signal);
      // The server gives every ServiceAccount the same.
      given ??= audiencesOf((await mintToken(minter, { account }, signal)).token);
      const { authorization } = await options.credential.authorize({ signal });
      const ownToken = typeof authorization === "string" ? authorization.replace(/^Bearer /, "") : "";
      return [...new Set([...(given ?? []), ...(audiencesOf(ownToken) ?? [])])];
    },
    release(namespace, name) {
      // Its sockets are shared with other tenants and with requests of its own that still run: only the token goes.
      tenants.delete(`${namespace}/${name}`);
      tokens.evict({ namespace, name });
    },
    async [Symbol.asyncDispose]() {
      for (const access of [...tenants.values(), client, minter]) await access[Symbol.asyncDispose]();
      tenants.clear();
    },
  };
}

function tenantCredential(tokens: TokenCache, account: ServiceAccountName): Credential {
  const scheme = "Bearer ";
  return {
    authorize: async ({ signal }) => ({ authorization: `${scheme}${await tokens.get(account, { signal })}` }),
    renew: ({ authorization }) => {
      if (typeof authorization !== "string") return false;
      tokens.evict(account, authorization.slice(scheme.length));
      return true;
    },
    explain: (refusal) =>
      new IdentityError(
        "CredentialRefused",
        `a fresh token of ServiceAccount "${account.namespace}/${account.name}" was refused: it may be gone, or its namespace terminating`,
        refusal,
      ),
  };
}

/** `<namespace>/<name>` when the controller itself is a ServiceAccount of the cluster. */
async function ownServiceAccount(client: KubeClient): Promise<string | undefined> {
  const review = await client.send({
    method: "POST",
    path: "/apis/authentication.k8s.io/v1/selfsubjectreviews",
    contentType: "application/json",
    body: JSON.stringify({ apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" }),
  });
  const user = asText(at(review, "status", "userInfo", "username"));
  const [, namespace, name] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(user ?? "") ?? [];
  return namespace === undefined || name === undefined ? undefined : `${namespace}/${name}`;
}

/** Runs `read` until it succeeds once; callers meanwhile share one run. */
function rememberSuccess<T>(read: () => Promise<T>): () => Promise<T> {
  let current: Promise<T> | undefined;
  return () => {
    current ??= read().catch((error: unknown) => {
      current = undefined;
      throw error;
    });
    return current;
  };
}
