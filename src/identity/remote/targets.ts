import { createHash } from "node:crypto";
import { targetName, type KubeConfigReference } from "../../domain/target.ts";
import type { ClusterEndpoint } from "../../kube/endpoint.ts";
import type { HostGuard } from "../../outbound/host-guard.ts";
import { OutboundError } from "../../outbound/outbound-error.ts";
import type { Access, AccessProvider, IdentityName } from "../access.ts";
import { IdentityError } from "../identity-error.ts";
import type { AwsOptions } from "./aws.ts";
import { readCloudCluster } from "./cloud.ts";
import { createConnection, type ConnectionOptions, type RemoteConnection } from "./connection.ts";
import { createConnectionCache, type ConnectionName } from "./connection-cache.ts";
import { readKubeConfig } from "./kubeconfig.ts";
import { readReference, type ReadReference } from "./reference.ts";
import { renewingAccess } from "./renewing-access.ts";
import { invalidTarget, type RemoteCluster } from "./remote-cluster.ts";

/**
 * A tenant's server may say anything, and what it says is held in memory and parsed while nothing else runs. An object in
 * etcd has up to 1.5 MiB, and rarely more than some KiB.
 */
const maxAnswerBytes = 8 * 1024 * 1024;
const maxPageItems = 100;

export interface TargetRequest {
  /** The StageSet. */
  readonly owner: { readonly namespace: string; readonly name: string };
  readonly reference: KubeConfigReference;
  /** The stage identity (spec 50 §1.1). */
  readonly identity: IdentityName;
}

/** Identities on the clusters that StageSets name with `spec.kubeConfig`. */
export interface TargetProvider {
  /**
   * Reads the reference anew, as the identity; nothing is sent to the cluster yet. What was given before goes on with what
   * was read then, until the cluster refuses it.
   *
   * @throws {IdentityError} `TargetMissing`, `TargetInvalid`, and those of the identity
   * @throws {KubeError} when the reference cannot be read
   */
  access(request: TargetRequest, o: { readonly signal: AbortSignal }): Promise<Access>;
  /** The StageSet is gone. */
  release(owner: TargetRequest["owner"]): void;
  /** Connections that are kept. */
  readonly size: number;
}

export interface TargetOptions extends ConnectionOptions {
  readonly access: Pick<AccessProvider, "access" | "mint" | "localAudiences" | "controller">;
  /** How the APIs of AWS are reached, and as whom without a ServiceAccount. */
  readonly aws: AwsOptions;
  /** For API servers, and for proxies, which are never on loopback. */
  readonly guards: { readonly server: HostGuard; readonly proxy: HostGuard };
  /** `--allowed-kubeconfig-hosts`; undefined: every host that is not denied. */
  readonly isAllowedHost: ((host: string) => boolean) | undefined;
  /** `--default-kubeconfig-service-account`. */
  readonly defaultServiceAccount: string | undefined;
  /** `--insecure-kubeconfig-tls`. */
  readonly insecureTls: boolean;
  /**
   * YAML or JSON of up to 1 MiB from a tenant as a value. It must not hold up the others.
   *
   * @throws anything, when it is none
   */
  readonly parseYaml: (text: string, o: { readonly queue: string; readonly signal: AbortSignal }) => Promise<unknown>;
}

export function createTargetProvider(options: TargetOptions): TargetProvider & Disposable {
  const cache = createConnectionCache(options);
  let made = 0;

  const connect = (name: ConnectionName, cluster: RemoteCluster): RemoteConnection => {
    const user = accountUser(name);
    return createConnection(
      {
        cluster,
        endpoint: endpointOf(cluster, { isolation: `${++made}`, guards: options.guards }),
        actsAs: user === undefined ? undefined : { user },
        identity: user ?? "controller",
      },
      options,
    );
  };
  const open = async ({ owner, reference, identity }: TargetRequest, signal: AbortSignal): Promise<Opened> => {
    const { namespace } = owner;
    const local = await options.access.access(identity, { signal });
    const read = await readReference(local, { namespace, reference }, signal);
    const account = identity === "controller" ? undefined : identity.serviceAccountName;
    const name: ConnectionName = { namespace, reference: targetName(reference), account };
    const use = { version: read.version, owner: `${namespace}/${owner.name}` };
    const known = cache.get(name, use);
    if (known !== undefined) return { name, version: read.version, connection: known };
    const cluster = await readCluster(read, { namespace, isTenants: account !== undefined, signal });
    return { name, version: read.version, connection: cache.add(name, use, connect(name, cluster)) };
  };
  const readCluster = async (
    { where, content }: ReadReference,
    o: { readonly namespace: string; readonly isTenants: boolean; readonly signal: AbortSignal },
  ): Promise<RemoteCluster> => {
    const fail = (problem: string): IdentityError => invalidTarget(where, problem);
    if (content.kind === "cloud") {
      const { entries } = content;
      const cloud = await readCloudCluster({ ...o, entries, fail }, options, o.signal);
      await checkHosts(cloud, { fields: { server: "address", proxy: "" }, fail, signal: o.signal });
      return cloud;
    }
    let config: unknown;
    try {
      config = await options.parseYaml(content.text, { queue: o.namespace, signal: o.signal });
    } catch {
      o.signal.throwIfAborted();
      // The parser's own message quotes the text.
      throw fail("is no YAML: give a kubeconfig");
    }
    const cluster = readKubeConfig(config, { insecureTls: options.insecureTls, fail });
    const fields = { server: "clusters[].cluster.server", proxy: "clusters[].cluster.proxy-url" };
    await checkHosts(cluster, { fields, fail, signal: o.signal });
    return cluster;
  };
  const checkHosts = async (
    { server, proxy }: RemoteCluster,
    o: {
      readonly fields: Readonly<Record<"server" | "proxy", string>>;
      readonly fail: (problem: string) => IdentityError;
      readonly signal: AbortSignal;
    },
  ): Promise<void> => {
    const { guards, isAllowedHost } = options;
    const { fields, fail, signal } = o;
    const urls = [
      { url: server, field: fields.server, guard: guards.server },
      ...(proxy === undefined ? [] : [{ url: proxy, field: fields.proxy, guard: guards.proxy }]),
    ];
    for (const { url, field, guard } of urls) {
      if (isAllowedHost?.(url.hostname.replace(/^\[|\]$|\.$/g, "")) === false)
        throw fail(`${field} leads to a host that --allowed-kubeconfig-hosts does not allow`);
      try {
        await guard.check(url, { what: field, signal });
      } catch (error) {
        if (!(error instanceof OutboundError)) throw error;
        if (error.reason === "Refused") throw fail(error.message);
        // A proxy may know names that nobody knows here.
        if (proxy !== undefined && url === server) continue;
        throw new IdentityError(
          "TargetUnreachable",
          `target cluster unreachable: "${url.host}": ${error.message}`,
          error,
        );
      }
    }
  };

  return {
    async access(request, { signal }) {
      const opened = await open(request, signal);
      const user = accountUser(opened.name);
      return renewingAccess(opened.connection, {
        key: JSON.stringify([opened.name, opened.version]),
        identity: user ?? "controller",
        renew: async (refused, renewal) => {
          cache.drop(opened.name, refused);
          return (await open(request, renewal)).connection;
        },
      });
    },
    release: ({ namespace, name }) => cache.release(`${namespace}/${name}`),
    get size() {
      return cache.size;
    },
    [Symbol.dispose]: () => cache[Symbol.dispose](),
  };
}

interface Opened {
  readonly name: ConnectionName;
  readonly version: string;
  readonly connection: RemoteConnection;
}

/** Whom the connection acts as by header; undefined: whom the credential is for. */
function accountUser({ namespace, account }: ConnectionName): string | undefined {
  return account === undefined ? undefined : `system:serviceaccount:${namespace}:${account}`;
}

/** Equal keys share the bound on requests in flight: whatever a tenant may choose on the way to the server is part of it. */
function endpointOf(
  cluster: RemoteCluster,
  { isolation, guards }: { readonly isolation: string; readonly guards: TargetOptions["guards"] },
): ClusterEndpoint {
  const { server, caPem, tlsServerName, insecureSkipTlsVerify, proxy } = cluster;
  const way = [server.href, caPem, tlsServerName, insecureSkipTlsVerify, proxy?.href].map((part) => part ?? null);
  return {
    key: `remote/${createHash("sha256").update(JSON.stringify(way)).digest("hex")}`,
    server: server.href,
    ...(caPem === undefined ? {} : { caPem }),
    ...(tlsServerName === undefined ? {} : { tlsServerName }),
    ...(insecureSkipTlsVerify ? { insecureSkipTlsVerify } : {}),
    ...(proxy === undefined ? {} : { proxyUrl: proxy.href }),
    isolation,
    lookup: (proxy === undefined ? guards.server : guards.proxy).lookup,
    maxAnswerBytes,
    maxPageItems,
  };
}
