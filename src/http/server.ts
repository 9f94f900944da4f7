import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { deadline } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { HttpHandler, HttpRequest, HttpResponse } from "./message.ts";

/** Bounds of one listener (spec 40 §8.3, 60 §3). */
const headerBytes = 16 * 1024;
const headerTimeoutMs = 5_000;
const requestTimeoutMs = 10_000;
const answerTimeoutMs = 5_000;
const keepAliveMs = 75_000;
const connections = 512;
const bodyBytes = 64 * 1024;
/** How long answers in flight have when the listener closes; the gate's take at most 3 s. */
const drainMs = 3_500;

export interface Listener extends AsyncDisposable {
  /** Where it listens, with the port that was chosen when 0 was asked for. */
  readonly address: { readonly host: string; readonly port: number };
}

export interface ListenOptions {
  readonly host: string | undefined;
  readonly port: number;
  readonly handler: HttpHandler;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Serves a handler over HTTP/1.1 until disposed; disposing stops accepting, lets answers in flight end and closes idle
 * connections at once.
 *
 * @throws {NodeJS.ErrnoException} when the address cannot be bound
 */
export async function listen(options: ListenOptions): Promise<Listener> {
  const server = createServer({
    maxHeaderSize: headerBytes,
    headersTimeout: headerTimeoutMs,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveMs,
    connectionsCheckingInterval: 1_000,
    insecureHTTPParser: false,
  });
  server.maxConnections = connections;
  server.on("request", (request, response) => serve(options, request, response));
  server.on("checkContinue", (request, response) => serve(options, request, response));
  server.on("clientError", refuseMalformed);
  await bind(server, options);
  // A TCP listener's address is never text.
  const { address, port } = server.address() as AddressInfo;
  return {
    address: { host: address, port },
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        // Whoever has not sent a whole request by then is not waiting for an answer.
        const giveUp = options.clock.timer(drainMs, () => server.closeAllConnections());
        server.close(() => {
          giveUp[Symbol.dispose]();
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
}

function bind(server: Server, { host, port }: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, ...(host === undefined || host === "" ? {} : { host }) }, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function serve(options: ListenOptions, incoming: IncomingMessage, outgoing: ServerResponse): void {
  const declared = Number(incoming.headers["content-length"] ?? "0");
  if (declared > bodyBytes) {
    send(outgoing, { status: 413, headers: { connection: "close" }, body: "" });
    return;
  }
  discard(incoming, outgoing);
  const request: HttpRequest = {
    method: incoming.method ?? "GET",
    target: incoming.url ?? "/",
    header: (name) => {
      const value = incoming.headers[name];
      return Array.isArray(value) ? value.join(", ") : value;
    },
  };
  answer(options, request, outgoing).catch((error: unknown) => {
    options.logger.error("cannot send an answer", { error: String(error) });
    outgoing.destroy();
  });
}

async function answer(options: ListenOptions, request: HttpRequest, outgoing: ServerResponse): Promise<void> {
  using limit = deadline(options.clock, { timeoutMs: answerTimeoutMs, what: "answering" });
  outgoing.once("close", () => limit.abort(new Error("the client is gone")));
  let response: HttpResponse;
  try {
    response = await options.handler(request, { signal: limit.signal });
  } catch (error) {
    if (outgoing.destroyed) return;
    options.logger.error("request handler failed", { error: error instanceof Error ? error.message : String(error) });
    response = { status: 500, headers: { "content-type": "text/plain; charset=utf-8" }, body: "internal error\n" };
  }
  send(outgoing, response);
}

function send(outgoing: ServerResponse, response: HttpResponse): void {
  if (outgoing.headersSent || outgoing.destroyed) return;
  const length = typeof response.body === "string" ? Buffer.byteLength(response.body) : response.body.byteLength;
  outgoing.writeHead(response.status, { ...response.headers, "content-length": length });
  outgoing.end(response.body);
}

/** Bodies mean nothing here: they are read away so that the connection can be used again, up to a bound. */
function discard(incoming: IncomingMessage, outgoing: ServerResponse): void {
  let read = 0;
  incoming.on("data", (chunk: Buffer) => {
    read += chunk.byteLength;
    if (read <= bodyBytes) return;
    incoming.removeAllListeners("data");
    send(outgoing, { status: 413, headers: { connection: "close" }, body: "" });
    incoming.socket.destroySoon();
  });
  incoming.on("error", () => outgoing.destroy());
}

function refuseMalformed(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  const status =
    error.code === "HPE_HEADER_OVERFLOW"
      ? "431 Request Header Fields Too Large"
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? "408 Request Timeout"
        : "400 Bad Request";
  const answer = `HTTP/1.1 ${status}\r\nConnection: close\r\nCache-Control: no-store\r\nContent-Length: 0\r\n\r\n`;
  socket.end(answer, () => socket.destroy());
}
