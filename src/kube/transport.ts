import { createHash } from "node:crypto";
import { createSecureContext, type SecureContext, type SecureContextOptions } from "node:tls";
import { Agent, ProxyAgent, type Dispatcher } from "undici";
import type { Clock } from "../lib/clock.ts";
import type { ClientCertificate } from "./credential.ts";
import type { ClusterEndpoint } from "./endpoint.ts";
import { createLimiter, requestsInFlight, type Limiter } from "./limiter.ts";

const connectTimeoutMs = 10_000;
const idleSocketMs = 60_000;
const maxAnswerBytes = 512 * 1024 * 1024;
// Urgent requests are sent beside the 64 that are counted.
const connections = requestsInFlight + 16;

/** The sockets of one (cluster, TLS identity); dispose gives them back. */
export interface Transport extends Disposable {
  readonly requests: Dispatcher;
  /** Separate, and without a bound: watches live long and must not starve requests. */
  readonly watches: Dispatcher;
  /** Shared by every identity on the cluster. */
  readonly limiter: Limiter;
}

/** Sockets of all clusters. Those of a client certificate are never shared: it would beat a tenant's token. */
export interface Transports extends AsyncDisposable {
  acquire(endpoint: ClusterEndpoint, certificate?: ClientCertificate): Transport;
}

/** Disposing closes every socket, requests in flight included. */
export function createTransports({ clock }: { readonly clock: Clock }): Transports {
  const shared = new Map<string, { users: number; readonly requests: Dispatcher; readonly watches: Dispatcher }>();
  const limiters = new Map<string, { users: number; readonly limiter: Limiter }>();
  const closing = new Set<Promise<void>>();
  const close = (dispatcher: Dispatcher): void => {
    const done = dispatcher.destroy().finally(() => closing.delete(done));
    closing.add(done);
  };
  return {
    acquire(endpoint, certificate) {
      const key = transportKey(endpoint, certificate);
      const sockets = shared.get(key) ?? {
        users: 0,
        requests: dispatcher({ endpoint, certificate, connections }),
        watches: dispatcher({ endpoint, certificate, connections: null }),
      };
      const share = limiters.get(endpoint.key) ?? {
        users: 0,
        limiter: createLimiter({ places: requestsInFlight, clock }),
      };
      shared.set(key, sockets);
      limiters.set(endpoint.key, share);
      sockets.users++;
      share.users++;
      let held = true;
      return {
        requests: sockets.requests,
        watches: sockets.watches,
        limiter: share.limiter,
        [Symbol.dispose]: () => {
          if (!held) return;
          held = false;
          if (--share.users === 0) limiters.delete(endpoint.key);
          if (--sockets.users > 0) return;
          shared.delete(key);
          close(sockets.requests);
          close(sockets.watches);
        },
      };
    },
    async [Symbol.asyncDispose]() {
      for (const sockets of shared.values()) {
        close(sockets.requests);
        close(sockets.watches);
      }
      shared.clear();
      await Promise.allSettled(closing);
    },
  };
}

function transportKey(endpoint: ClusterEndpoint, certificate: ClientCertificate | undefined): string {
  const parts = [
    endpoint.key,
    endpoint.server,
    endpoint.caPem,
    endpoint.tlsServerName,
    endpoint.insecureSkipTlsVerify,
    endpoint.proxyUrl,
    certificate?.certPem,
    certificate?.keyPem,
  ];
  // Hashed: a map key must not hold a private key.
  return createHash("sha256")
    .update(JSON.stringify(parts.map((part) => part ?? null)))
    .digest("hex");
}

function dispatcher({
  endpoint,
  certificate,
  connections: most,
}: {
  readonly endpoint: ClusterEndpoint;
  readonly certificate: ClientCertificate | undefined;
  readonly connections: number | null;
}): Dispatcher {
  const tls = {
    ...trust(endpoint, certificate),
    ...(endpoint.tlsServerName === undefined ? {} : { servername: endpoint.tlsServerName }),
    rejectUnauthorized: endpoint.insecureSkipTlsVerify !== true,
  };
  const common = {
    connections: most,
    pipelining: 1,
    // Several times slower through undici than a few HTTP/1.1 connections.
    allowH2: false,
    keepAliveTimeout: idleSocketMs,
    // The client owns every deadline.
    headersTimeout: 0,
    bodyTimeout: 0,
    maxResponseSize: most === null ? -1 : maxAnswerBytes,
  };
  if (endpoint.proxyUrl !== undefined) {
    return new ProxyAgent({ ...common, uri: endpoint.proxyUrl, requestTls: { ...tls, timeout: connectTimeoutMs } });
  }
  return new Agent({
    ...common,
    connect: { ...tls, timeout: connectTimeoutMs, keepAlive: true, keepAliveInitialDelay: 30_000 },
  });
}

type TlsTrust = { readonly secureContext: SecureContext } | Pick<SecureContextOptions, "ca" | "cert" | "key">;

/**
 * Parsed once for all connections: from the texts each of the thousand watches would parse them and keep 25 KB of its
 * own. Texts that cannot be parsed are left as they are, so that each connection fails and says so.
 */
function trust(endpoint: ClusterEndpoint, certificate: ClientCertificate | undefined): TlsTrust {
  const texts = {
    ...(endpoint.caPem === undefined ? {} : { ca: endpoint.caPem }),
    ...(certificate === undefined ? {} : { cert: certificate.certPem, key: certificate.keyPem }),
  };
  try {
    return { secureContext: createSecureContext(texts) };
  } catch {
    return texts;
  }
}
