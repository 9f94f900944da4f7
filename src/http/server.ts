import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { deadline, Shutdown } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/telemetry.ts";
import { boundConnections } from "./connections.ts";
import { createPacer } from "./pacer.ts";
import type { HttpHandler, HttpRequest, HttpResponse, StreamSink } from "./message.ts";
import { boundUnsent, type SlowReaderBounds, type UnsentAnswers } from "./unsent.ts";

/** Bounds of one listener (spec 40 §8.3, 60 §3). */
const headerBytes = 16 * 1024;
const headerTimeoutMs = 5_000;
const requestTimeoutMs = 10_000;
const answerTimeoutMs = 5_000;
const keepAliveMs = 75_000;
/** API servers drop idle connections after 90 s; whoever drops them first loses requests that are on their way. */
const tlsKeepAliveMs = 120_000;
const connections = 512;
/** How long a client may go on to send a body that was refused. */
const lingerMs = 1_000;
/** Of connections that the kernel holds until they are accepted; beyond it clients try again a second later. */
const backlog = 2_048;
/** Requests one connection may send ahead of their answers, unless the listener has a bound of its own; clients in use send none. */
const aheadPerConnection = 8;
/**
 * Requests one listener takes up, and answers it sends, in one turn of the event loop. Few: libuv accepts one connection a
 * turn, and the engine waits for the turn's end.
 */
const answersPerTurn = 4;
/** Of bodies that nobody reads. */
const ignoredBodyBytes = 64 * 1024;
/** Of all bodies that are being read at once by one listener; what comes beyond is told to come again. */
const allBodiesBytes = 128 * 1024 * 1024;
/** How long answers in flight have when the listener closes; the gate's take at most 3 s. */
const drainMs = 3_500;

export interface Listener extends AsyncDisposable {
  /** Where it listens, with the port that was chosen when 0 was asked for. */
  readonly address: { readonly host: string; readonly port: number };
  /** From now on each answer closes its connection, so that clients are gone before the listener is. */
  drain(): void;
}

/** A certificate and its key, PEM. */
export interface TlsPair {
  readonly certPem: string;
  readonly keyPem: string;
}

/** What a listener serves over TLS; `pair` is read again after each call of what was subscribed. */
export interface TlsSource {
  readonly pair: () => TlsPair;
  readonly subscribe: (changed: () => void) => Disposable;
}

export interface ListenOptions {
  readonly host: string | undefined;
  readonly port: number;
  readonly handler: HttpHandler;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Absent: plain HTTP. At least TLS 1.2; connections outlive a change of the pair. */
  readonly tls?: TlsSource;
  /** Headers of every answer, also of those the handler has no part in: bad requests, and its own failures. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Bodies up to this size are read and given to the handler, larger ones answered 413; absent: none is read. */
  readonly maxBodyBytes?: number;
  /** Requests one connection may have unanswered; default 8. One more closes it. */
  readonly unansweredPerConnection?: number;
  /** Absent: answers are small, and wait for as long as their connection does. */
  readonly slowReaders?: SlowReaderBounds;
}

/**
 * Serves a handler over HTTP/1.1 until disposed; disposing stops accepting, lets answers in flight end and closes idle
 * connections at once.
 *
 * @throws {NodeJS.ErrnoException} when the address cannot be bound
 */
export async function listen(options: ListenOptions): Promise<Listener> {
  const settings = {
    maxHeaderSize: headerBytes,
    headersTimeout: headerTimeoutMs,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: options.tls === undefined ? keepAliveMs : tlsKeepAliveMs,
    connectionsCheckingInterval: 1_000,
    insecureHTTPParser: false,
  };
  const { tls } = options;
  const server = tls === undefined ? createServer(settings) : createTlsServer({ ...settings, ...secureContext(tls) });
  using changes = new DisposableStack();
  if (tls !== undefined && "setSecureContext" in server)
    changes.use(tls.subscribe(() => server.setSecureContext(secureContext(tls))));
  const bounded =
    "setSecureContext" in server
      ? undefined
      : boundConnections(server, {
          limit: connections,
          atOnce: backlog,
          unansweredPerConnection: options.unansweredPerConnection ?? aheadPerConnection,
          clock: options.clock,
        });
  if (bounded === undefined) server.maxConnections = connections;
  let draining = false;
  server.prependListener("request", (_request, response: ServerResponse) => {
    if (draining) response.setHeader("connection", "close");
  });
  const pace = createPacer(answersPerTurn);
  const streams = new Set<AbortController>();
  const unsent = options.slowReaders && boundUnsent(options.slowReaders, options.clock);
  const serving: Serving = { ...options, paceAnswer: createPacer(answersPerTurn), streams, unsent };
  const bodies: Bodies = { limit: options.maxBodyBytes, held: 0 };
  const take = (request: IncomingMessage, response: ServerResponse): void => {
    const { socket } = request;
    const admission = bounded?.began(socket) ?? "taken";
    if (admission === "crowded")
      send(options, response, { status: 503, headers: { connection: "close", "retry-after": "1" }, body: "" });
    if (admission !== "taken") return;
    response.once("close", () => bounded?.ended(socket));
    pace(() => serve(serving, request, { outgoing: response, bodies }));
  };
  server.on("request", take);
  server.on("checkContinue", (request, response: ServerResponse) => {
    if (bodies.limit !== undefined) response.writeContinue();
    take(request, response);
  });
  server.on("checkExpectation", (_request, response: ServerResponse) =>
    send(options, response, { status: 417, headers: { connection: "close" }, body: "" }),
  );
  server.on("clientError", (error, socket) => refuseMalformed(options, error, socket));
  await bind(server, options);
  // A TCP listener's address is never text.
  const { address, port } = server.address() as AddressInfo;
  const following = changes.move();
  return {
    address: { host: address, port },
    drain: () => {
      draining = true;
    },
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        following.dispose();
        for (const stream of streams) stream.abort(new Shutdown("the listener closes"));
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

function secureContext(tls: TlsSource): {
  readonly cert: string;
  readonly key: string;
  readonly minVersion: "TLSv1.2";
} {
  const { certPem, keyPem } = tls.pair();
  return { cert: certPem, key: keyPem, minVersion: "TLSv1.2" };
}

function bind(server: Server | TlsServer, { host, port }: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, backlog, ...(host === undefined || host === "" ? {} : { host }) }, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

interface Exchange {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
}

interface Serving extends ListenOptions {
  /** Answers that go on. */
  readonly streams: Set<AbortController>;
  readonly paceAnswer: (job: () => void) => void;
  readonly unsent: UnsentAnswers | undefined;
}

/** Bodies of one listener that are in memory. */
interface Bodies {
  readonly limit: number | undefined;
  held: number;
}

function serve(
  options: Serving,
  incoming: IncomingMessage,
  { outgoing, bodies }: Omit<Exchange, "incoming"> & { readonly bodies: Bodies },
): void {
  if (outgoing.destroyed) return;
  const declared = Number(incoming.headers["content-length"] ?? "0");
  if (declared > (bodies.limit ?? ignoredBodyBytes)) {
    refuseBody(options, 413, { incoming, outgoing });
    return;
  }
  const request: HttpRequest = {
    method: incoming.method ?? "GET",
    target: incoming.url ?? "/",
    header: (name) => {
      const value = incoming.headers[name];
      return Array.isArray(value) ? value.join(", ") : value;
    },
  };
  const fail = (error: unknown): void => {
    options.logger.error("cannot send an answer", { error: String(error) });
    outgoing.destroy();
  };
  if (bodies.limit === undefined) {
    discard(options, { incoming, outgoing });
    answer(options, request, outgoing).catch(fail);
    return;
  }
  collect(options, { incoming, outgoing, limit: bodies.limit, shared: bodies }, (body, done) => {
    answer(options, { ...request, body }, outgoing)
      .catch(fail)
      .finally(done);
  });
}

async function answer(options: Serving, request: HttpRequest, outgoing: ServerResponse): Promise<void> {
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
  await new Promise<void>((resolve) => options.paceAnswer(resolve));
  if (response.stream === undefined || request.method === "HEAD") send(options, outgoing, response);
  else stream(options, outgoing, { response, open: response.stream });
}

/** Sends the headers and leaves the rest to the handler, for as long as the client stays and the listener is open. */
function stream(
  { headers, streams }: Serving,
  outgoing: ServerResponse,
  { response, open }: { readonly response: HttpResponse; readonly open: (sink: StreamSink) => void },
): void {
  if (outgoing.headersSent || outgoing.destroyed) return;
  const ended = new AbortController();
  streams.add(ended);
  outgoing.once("close", () => {
    streams.delete(ended);
    ended.abort(new Error("the client is gone"));
  });
  // A client that is slow must not keep the listener from closing.
  const end = (): void => {
    if (outgoing.writableNeedDrain) outgoing.destroy();
    else outgoing.end();
  };
  ended.signal.addEventListener("abort", end, { once: true });
  outgoing.on("error", () => outgoing.destroy());
  outgoing.writeHead(response.status, { ...headers, ...response.headers });
  outgoing.flushHeaders();
  open({
    write: (text) => !outgoing.destroyed && !outgoing.writableEnded && outgoing.write(text),
    onDrain: (call) => void outgoing.once("drain", call),
    end,
    signal: ended.signal,
  });
}

/** Clients leave too much of earlier answers untaken. */
const busy: HttpResponse = { status: 503, headers: { "retry-after": "5" }, body: "" };

function send(
  { headers, unsent }: { readonly headers?: ListenOptions["headers"]; readonly unsent?: UnsentAnswers | undefined },
  outgoing: ServerResponse,
  response: HttpResponse,
): void {
  if (outgoing.headersSent || outgoing.destroyed) return;
  const { body } = response;
  const length = typeof body === "string" ? Buffer.byteLength(body) : body.byteLength;
  // Bytes are those of a file that is in memory anyway.
  if (typeof body === "string" && unsent?.admit(outgoing, length) === false) {
    send({ ...(headers && { headers }) }, outgoing, busy);
    return;
  }
  outgoing.writeHead(response.status, { ...headers, ...response.headers, "content-length": length });
  outgoing.end(body);
  unsent?.watch(outgoing);
}

/** Reads a body whole; `use` is called once with it, unless it is too large or the client goes away. */
function collect(
  options: ListenOptions,
  { incoming, outgoing, limit, shared }: Exchange & { readonly limit: number; readonly shared: Bodies },
  use: (body: Uint8Array, done: () => void) => void,
): void {
  const chunks: Buffer[] = [];
  let read = 0;
  let released = false;
  const release = (): void => {
    if (!released) shared.held -= read;
    released = true;
  };
  const refuse = (status: number): void => {
    incoming.removeAllListeners("end");
    chunks.length = 0;
    release();
    refuseBody(options, status, { incoming, outgoing });
  };
  incoming.on("data", (chunk: Buffer) => {
    if (released) return;
    read += chunk.byteLength;
    shared.held += chunk.byteLength;
    if (read > limit) refuse(413);
    else if (shared.held > allBodiesBytes) refuse(503);
    else chunks.push(chunk);
  });
  incoming.once("end", () => use(Buffer.concat(chunks), release));
  incoming.on("error", () => outgoing.destroy());
  outgoing.once("close", release);
}

/** Bodies mean nothing here: they are read away so that the connection can be used again, up to a bound. */
function discard(options: ListenOptions, { incoming, outgoing }: Exchange): void {
  let read = 0;
  incoming.on("data", (chunk: Buffer) => {
    read += chunk.byteLength;
    if (read > ignoredBodyBytes) refuseBody(options, 413, { incoming, outgoing });
  });
  incoming.on("error", () => outgoing.destroy());
}

/**
 * Says no to a body that is still on its way. The connection is closed only when the client has stopped, or a moment later:
 * closing with unread bytes resets it, and the client may never see the answer (RFC 9112 §9.6).
 */
function refuseBody({ clock, headers }: ListenOptions, status: number, { incoming, outgoing }: Exchange): void {
  incoming.removeAllListeners("data");
  incoming.resume();
  if (outgoing.headersSent || outgoing.destroyed) return;
  outgoing.writeHead(status, { ...headers, connection: "close", "retry-after": "1", "content-length": 0 });
  outgoing.flushHeaders();
  const giveUp = clock.timer(lingerMs, () => void outgoing.end());
  incoming.once("end", () => void outgoing.end());
  outgoing.once("close", () => giveUp[Symbol.dispose]());
}

function refuseMalformed(
  { headers = { "cache-control": "no-store" } }: ListenOptions,
  error: NodeJS.ErrnoException,
  socket: Duplex,
): void {
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
  const lines = Object.entries({ ...headers, connection: "close", "content-length": "0" });
  const answer = `HTTP/1.1 ${status}\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
  socket.end(answer, () => socket.destroy());
}
