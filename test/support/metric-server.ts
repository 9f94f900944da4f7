import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";

/** A request as it came. */
export interface MetricQuery {
  /** With the query string. */
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
}

export interface MetricReply {
  /** Default 200. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/** What a metric source asks: an HTTP server on a free port of 127.0.0.1. */
export interface MetricServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Every request so far, oldest first. */
  readonly queries: readonly MetricQuery[];
  /** Queries that have no answer yet. */
  readonly open: number;
  /** Says what is answered from now on; one that never settles keeps the client waiting. */
  reply(by: (query: MetricQuery) => MetricReply | Promise<MetricReply>): void;
}

export async function startMetricServer(
  options: { readonly tls?: { readonly keyPem: string; readonly certPem: string }; readonly host?: string } = {},
): Promise<MetricServer> {
  const { tls, host = "127.0.0.1" } = options;
  let by: Parameters<MetricServer["reply"]>[0] = () => ({ status: 404 });
  let open = 0;
  const queries: MetricQuery[] = [];
  const answer = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const query = { path: incoming.url ?? "", headers: incoming.headers };
    queries.push(query);
    open++;
    outgoing.once("close", () => open--);
    const { status = 200, headers = {}, body = "" } = await by(query);
    outgoing.writeHead(status, { "content-type": "application/json", ...headers });
    outgoing.end(body);
  };
  const listener: RequestListener = (incoming, outgoing) => {
    answer(incoming, outgoing).catch(() => outgoing.destroy());
  };
  const server =
    tls === undefined ? createServer(listener) : createTlsServer({ key: tls.keyPem, cert: tls.certPem }, listener);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, host, resolve);
  });
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    url: `${tls === undefined ? "http" : "https"}://${host}:${port}`,
    port,
    queries,
    get open() {
      return open;
    },
    reply: (next) => void (by = next),
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** What Prometheus answers a query with. */
export function promAnswer(resultType: string, result: unknown): MetricReply {
  return { body: JSON.stringify({ status: "success", data: { resultType, result } }) };
}

/** One sample with this value. */
export function promValue(value: string | number): MetricReply {
  return promAnswer("vector", [{ metric: {}, value: [1_700_000_000.123, String(value)] }]);
}
