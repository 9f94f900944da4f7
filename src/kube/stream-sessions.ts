import { connect, constants, sensitiveHeaders, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { isIP } from "node:net";
import { abortable } from "../lib/abortable.ts";
import { systemClock } from "../lib/clock.ts";
import type { TlsOptions } from "./tls.ts";

/** An answer whose head is there. */
export interface OpenAnswer {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: AsyncIterable<unknown> & {
    /** Throws away what is left. */
    dump(): Promise<unknown>;
    destroy(): unknown;
  };
}

export interface StreamRequest {
  readonly origin: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly signal: AbortSignal;
}

/** The server speaks HTTP/1.1 alone. */
export class NoHttp2 extends Error {
  override name = "NoHttp2";
}

/** Long-lived answers of one server as streams of few connections; disposing ends them all. */
export interface StreamSessions extends AsyncDisposable {
  /**
   * @throws {NoHttp2} when the server does not take HTTP/2; nothing was sent
   * @throws the error of the connection or the stream; the signal's reason, when aborted
   */
  open(request: StreamRequest): Promise<OpenAnswer>;
  /** Connections that are open. */
  readonly size: number;
}

/** The API server's own bound for one connection (`--http2-max-streams-per-connection`); a server's lower one counts. */
const mostStreams = 100;
const connectTimeoutMs = 10_000;
const idleMs = 60_000;
/** A connection on which this many pings in a row are not answered is dead, and with it every stream. */
const mostPingsUnanswered = 2;
const defaultPingEveryMs = 15_000;
/** Of one stream and of all together; the defaults of 64 KiB would make a first list wait for every round trip. */
const streamWindowBytes = 256 * 1024;
const sessionWindowBytes = 4 * 1024 * 1024;

interface Session {
  readonly http2: ClientHttp2Session;
  streams: number;
  /** What the server takes is not known yet. */
  opening: boolean;
  /** No stream may be added: the server goes away, or the connection is lost. */
  retired: boolean;
  idle: Disposable | undefined;
}

/**
 * One TLS connection costs some 90 KB, a stream of one 15 KB: identities that watch are as many as ServiceAccounts. Each
 * request carries its own token, as it would on a connection of its own. All times here are real ones, whatever clock the
 * rest runs on: it is the network that has to answer.
 */
export function createStreamSessions(o: { readonly tls: TlsOptions; readonly pingEveryMs?: number }): StreamSessions {
  const { tls, pingEveryMs = defaultPingEveryMs } = o;
  const sessions = new Set<Session>();
  const sockets = new Set<TLSSocket>();
  let connecting: Promise<Session> | undefined;
  let closed = false;

  const closeWhenIdle = (session: Session): void => {
    session.idle = systemClock.timer(idleMs, () => session.http2.close());
  };
  const left = (session: Session): void => {
    if (--session.streams === 0 && !session.retired) closeWhenIdle(session);
  };
  const retire = (session: Session): void => {
    session.retired = true;
    session.idle?.[Symbol.dispose]();
  };
  const connectAnew = async (origin: URL): Promise<Session> => {
    const socket = await openSocket({ origin, tls, sockets });
    const http2 = connect(origin, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: streamWindowBytes },
    });
    const session: Session = { http2, streams: 0, opening: true, retired: false, idle: undefined };
    const pings = keepAlive(http2, pingEveryMs);
    // Its streams report it.
    http2.on("error", () => retire(session));
    http2.on("goaway", () => retire(session));
    http2.once("close", () => {
      retire(session);
      pings[Symbol.dispose]();
      sessions.delete(session);
    });
    sessions.add(session);
    await settingsOf(http2);
    session.opening = false;
    // Whoever it was opened for may have given up.
    closeWhenIdle(session);
    http2.setLocalWindowSize(sessionWindowBytes);
    return session;
  };
  const hasRoom = ({ http2, opening, retired, streams }: Session): boolean =>
    !opening &&
    !retired &&
    !http2.closed &&
    streams < Math.min(mostStreams, http2.remoteSettings.maxConcurrentStreams ?? mostStreams);
  /** Counted at once: many wait for the same connection. */
  const take = (session: Session): Session => {
    session.idle?.[Symbol.dispose]();
    session.streams++;
    return session;
  };
  const withRoom = async (origin: URL, signal: AbortSignal): Promise<Session> => {
    for (;;) {
      if (closed) throw new Error("the connections are closed");
      for (const session of sessions) if (hasRoom(session)) return take(session);
      connecting ??= connectAnew(origin).finally(() => {
        connecting = undefined;
      });
      const fresh = await abortable(connecting, signal);
      if (hasRoom(fresh)) return take(fresh);
      if (fresh.streams === 0) throw new Error("the server takes no stream");
    }
  };
  return {
    async open({ origin, path, headers, signal }) {
      const session = await withRoom(new URL(origin), signal);
      const stream = session.http2.request(
        {
          [constants.HTTP2_HEADER_METHOD]: "GET",
          [constants.HTTP2_HEADER_PATH]: path,
          ...headers,
          // Kept out of the tables of header compression, which requests of all identities share.
          [sensitiveHeaders]: ["authorization"],
        },
        { endStream: true, signal },
      );
      stream.once("close", () => left(session));
      return answerOf(stream);
    },
    get size() {
      return sessions.size;
    },
    async [Symbol.asyncDispose]() {
      closed = true;
      for (const { http2, idle } of sessions) {
        idle?.[Symbol.dispose]();
        http2.destroy();
      }
      await Promise.all([...sockets].map((socket) => closing(socket)));
    },
  };
}

function closing(socket: TLSSocket): Promise<void> {
  return new Promise((resolve) => {
    socket.once("close", () => resolve());
    socket.destroy();
  });
}

/** Resolves once TLS is up and HTTP/2 agreed on. */
function openSocket(o: {
  readonly origin: URL;
  readonly tls: TlsOptions;
  readonly sockets: Set<TLSSocket>;
}): Promise<TLSSocket> {
  const { hostname, port } = o.origin;
  const host = hostname.replace(/^\[|\]$/g, "");
  return new Promise((resolve, reject) => {
    const socket = connectTls({
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...o.tls,
      host,
      port: port === "" ? 443 : Number(port),
      ALPNProtocols: ["h2", "http/1.1"],
    });
    o.sockets.add(socket);
    socket.setKeepAlive(true, 30_000);
    const timer = systemClock.timer(connectTimeoutMs, () =>
      socket.destroy(Object.assign(new Error("connect timeout"), { code: "UND_ERR_CONNECT_TIMEOUT" })),
    );
    socket.once("close", () => {
      o.sockets.delete(socket);
      timer[Symbol.dispose]();
      reject(new Error("the connection was closed"));
    });
    socket.on("error", reject);
    socket.once("secureConnect", () => {
      timer[Symbol.dispose]();
      if (socket.alpnProtocol === "h2") {
        resolve(socket);
        return;
      }
      reject(new NoHttp2("the server does not speak HTTP/2"));
      socket.destroy();
    });
  });
}

/** The first frame of a server says how many streams it takes (RFC 9113 §3.4). */
function settingsOf(http2: ClientHttp2Session): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = systemClock.timer(connectTimeoutMs, () => http2.destroy(new Error("no settings came")));
    http2.once("remoteSettings", () => {
      timer[Symbol.dispose]();
      resolve();
    });
    http2.once("error", reject);
    http2.once("close", () => {
      timer[Symbol.dispose]();
      reject(new Error("the connection was closed"));
    });
  });
}

function keepAlive(http2: ClientHttp2Session, everyMs: number): Disposable {
  let unanswered = 0;
  let timer: Disposable;
  const ping = (): void => {
    if (http2.destroyed) return;
    if (unanswered >= mostPingsUnanswered) {
      http2.destroy(new Error("pings are not answered"));
      return;
    }
    unanswered++;
    http2.ping((error) => {
      if (error === null) unanswered = 0;
    });
    timer = systemClock.timer(everyMs, ping);
  };
  timer = systemClock.timer(everyMs, ping);
  return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
}

function answerOf(stream: ClientHttp2Stream): Promise<OpenAnswer> {
  return new Promise((resolve, reject) => {
    // Stays: an error of a stream that nobody reads any more is nobody's.
    stream.on("error", reject);
    stream.once("close", () => reject(new Error("the stream ended without an answer")));
    stream.once("response", (headers) => {
      const { [constants.HTTP2_HEADER_STATUS]: statusCode = 0, ...rest } = headers;
      resolve({ statusCode: Number(statusCode), headers: rest, body: bodyOf(stream) });
    });
  });
}

function bodyOf(stream: ClientHttp2Stream): OpenAnswer["body"] {
  return {
    [Symbol.asyncIterator]: () => chunksOf(stream),
    dump: () => {
      stream.close(constants.NGHTTP2_CANCEL);
      return Promise.resolve();
    },
    destroy: () => stream.destroy(),
  };
}

/** A stream whose connection is lost ends as if it had been read to its end: only its code tells. */
async function* chunksOf(stream: ClientHttp2Stream): AsyncGenerator<Buffer> {
  for await (const chunk of stream) yield chunk as Buffer; // A stream without encoding yields buffers.
  if (stream.rstCode !== constants.NGHTTP2_NO_ERROR)
    throw Object.assign(new Error(`the stream was reset with code ${stream.rstCode}`), {
      code: "ERR_HTTP2_STREAM_RESET",
    });
}
