import { createHash } from "node:crypto";
import { Agent, ProxyAgent, type Dispatcher } from "undici";
import type { Clock } from "../lib/clock.ts";
import type { ClientCertificate } from "./credential.ts";
import type { ClusterEndpoint } from "./endpoint.ts";
import { createLimiter, requestsInFlight, type Limiter } from "./limiter.ts";
import { createStreamSessions, NoHttp2, type OpenAnswer, type StreamRequest } from "./stream-sessions.ts";
import { tlsOptions } from "./tls.ts";

const connectTimeoutMs = 10_000;
const idleSocketMs = 60_000;
// Urgent requests are sent beside the 64 that are counted.
const connections = requestsInFlight + 16;

/** The sockets of one (cluster, TLS identity); dispose gives them back. */
export interface Transport extends Disposable {
  readonly requests: Dispatcher;
  /** Separate, and without a bound: watches live long and must not starve requests. */
  readonly watches: Streams;
  /** Shared by every identity on the cluster. */
  readonly limiter: Limiter;
}

/** Answers that live long. */
export interface Streams {
  /** @throws whatever the connection does; the signal's reason or an error that stands for it, when aborted */
  open(request: StreamRequest): Promise<OpenAnswer>;
}

interface Sockets {
  users: number;
  readonly requests: Dispatcher;
  readonly watches: ClosableStreams;
}

interface ClosableStreams extends Streams {
  destroy(): Promise<void>;
}

/** Sockets of all clusters. Those of a client certificate are never shared: it would beat a tenant's token. */
export interface Transports extends AsyncDisposable {
  acquire(endpoint: ClusterEndpoint, certificate?: ClientCertificate): Transport;
}

/** Disposing closes every socket, requests in flight included. */
export function createTransports({ clock }: { readonly clock: Clock }): Transports {
  const shared = new Map<string, Sockets>();
  const limiters = new Map<string, { users: number; readonly limiter: Limiter }>();
  const closing = new Set<Promise<void>>();
  const close = (sockets: { destroy(): Promise<void> }): void => {
    const done = sockets.destroy().finally(() => closing.delete(done));
    closing.add(done);
  };
  return {
    acquire(endpoint, certificate) {
      const key = transportKey(endpoint, certificate);
      const sockets = shared.get(key) ?? {
        users: 0,
        requests: dispatcher({ endpoint, certificate, connections }),
        watches: streams(endpoint, certificate),
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
    endpoint.isolation,
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
  const tls = tlsOptions(endpoint, certificate);
  const common = {
    connections: most,
    pipelining: 1,
    // Several times slower through undici than a few HTTP/1.1 connections.
    allowH2: false,
    keepAliveTimeout: idleSocketMs,
    // The client owns every deadline, and the bounds of what is read.
    headersTimeout: 0,
    bodyTimeout: 0,
    maxResponseSize: -1,
  };
  if (endpoint.proxyUrl !== undefined) {
    const { lookup } = endpoint;
    return new ProxyAgent({
      ...common,
      uri: endpoint.proxyUrl,
      proxyTls: { timeout: connectTimeoutMs, ...(lookup === undefined ? {} : { lookup }) },
      requestTls: { ...tls, timeout: connectTimeoutMs },
    });
  }
  return new Agent({
    ...common,
    connect: { ...tls, timeout: connectTimeoutMs, keepAlive: true, keepAliveInitialDelay: 30_000 },
  });
}

/**
 * Over HTTP/2, where the server takes it: connections cost more memory than all else that is kept of a watch. Else over
 * a connection for each, as through proxies.
 */
function streams(endpoint: ClusterEndpoint, certificate: ClientCertificate | undefined): ClosableStreams {
  const single = dispatcher({ endpoint, certificate, connections: null });
  const mayShare = endpoint.proxyUrl === undefined && endpoint.server.startsWith("https:");
  const sessions = createStreamSessions({ tls: tlsOptions(endpoint, certificate) });
  let shares = mayShare;
  return {
    async open(request) {
      if (shares)
        try {
          return await sessions.open(request);
        } catch (error) {
          if (!(error instanceof NoHttp2)) throw error;
          shares = false;
        }
      const answer = await single.request({ ...request, method: "GET" });
      // An aborted body reports its error to the loop that reads it, and here when nobody does.
      answer.body.on("error", () => undefined);
      return answer;
    },
    async destroy() {
      await Promise.all([single.destroy(), sessions[Symbol.asyncDispose]()]);
    },
  };
}
