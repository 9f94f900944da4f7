import type { Socket } from "node:net";
import { Client } from "undici";
import type { DenyOptions } from "../lib/address.ts";
import type { Clock } from "../lib/clock.ts";
import { checkedAddresses, checkedHost, ownAddress, type Resolve, systemResolve, translated } from "./checked-host.ts";
import { OutboundError } from "./outbound-error.ts";
import { connectPinned } from "./pinned-connect.ts";

const mostRedirects = 10;

/** An answer that is no redirect. Disposing closes the connection, read or not. */
export interface GuardedResponse extends AsyncDisposable {
  readonly status: number;
  /** A header by its lower-case name; the first, where it was sent more than once. */
  header(name: string): string | undefined;
  /**
   * The raw bytes, once; as slow and as many as the server likes: the caller bounds both.
   *
   * @throws {OutboundError} `Unreachable`, when the connection breaks
   */
  readonly body: AsyncIterable<Uint8Array>;
}

/** What a request carries beyond its URL, and where it may lead. */
export interface GuardedRequest {
  /** Default: GET. */
  readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD";
  readonly body?: string;
  /** Sent to every host, redirects included. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether a host, without port and without a dot at its end, may be asked; of redirects too. Default: every host. */
  readonly isAllowedHost?: (host: string) => boolean;
  /**
   * Headers that hold a secret: asked for once, after the first host has passed every check (spec 50 §1.1 rule 4). A
   * redirect to another host or port, or from https to http, is refused then. What it throws is thrown.
   */
  readonly credential?: (signal: AbortSignal) => Promise<Readonly<Record<string, string>>>;
  /** A body that holds a secret, asked for once, after {@link credential}; it replaces {@link body}. */
  readonly secretBody?: (signal: AbortSignal) => Promise<string | undefined>;
  /** Asked right before each hop is sent: why it must not be, if it must not. */
  readonly refuse?: () => string | undefined;
  /**
   * Where secrets may be sent on a redirect. `origin`, the default: to the same scheme, host and port. `host`: also from
   * http to https at the host's default ports.
   */
  readonly secretScope?: "origin" | "host";
  /** A redirect that is an answer, and not followed. Default: none is. */
  readonly acceptsRedirect?: (status: number) => boolean;
}

/**
 * GETs a URL, or does with it what `request` says, sending nothing else, by the rules of spec 50 §5. Up to ten redirects
 * are followed, each checked again; 301, 302 and 303 turn all but GET and HEAD into a GET without body.
 *
 * @throws {OutboundError}
 * @throws the signal's reason, when aborted
 */
export type GuardedFetch = (
  url: string,
  o: { readonly signal: AbortSignal; readonly request?: GuardedRequest },
) => Promise<GuardedResponse>;

export interface GuardOptions {
  /** `--dev-allow-loopback`. */
  readonly allowLoopback: boolean;
  readonly clock: Clock;
  /** The pod's own addresses: never to be reached from here. */
  readonly ownAddresses?: readonly string[];
  /** Default: the machine's resolver. */
  readonly resolve?: Resolve;
  /** Trusted for TLS instead of the machine's roots, PEM. */
  readonly caPem?: string;
}

interface Hop {
  readonly url: URL;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly headers: Readonly<Record<string, string>>;
  readonly method: NonNullable<GuardedRequest["method"]>;
  readonly body: string | undefined;
}

/** What a request carries that only its first host, once checked, may be told. */
interface Secret {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
}

/** A proxy in the environment is not used: it would connect where it likes. */
export function createGuardedFetch(options: GuardOptions): GuardedFetch {
  const { clock, caPem, resolve = systemResolve } = options;
  const deny: DenyOptions = {
    allowLoopback: options.allowLoopback,
    own: (options.ownAddresses ?? []).map((text) => ownAddress(text)),
  };
  return async (first, { signal, request = {} }) => {
    let text = first;
    let secret: Secret | undefined;
    let { method = "GET" } = request;
    let withBody = true;
    for (let redirects = 0; redirects <= mostRedirects; redirects++) {
      signal.throwIfAborted();
      const what = redirects === 0 ? "the URL" : "a redirect";
      const url = checkedUrl(text, what);
      if (secret !== undefined && !mayReceive(url, secret.url, request.secretScope ?? "origin"))
        throw new OutboundError("Refused", `${what} leads to another host, port or scheme, where no token is sent`);
      const target = checkedHost(url, { deny, what });
      if (request.isAllowedHost?.(url.hostname.replace(/\.$/, "")) === false)
        throw new OutboundError("Refused", `${what} leads to a host that --allowed-action-hosts does not allow`);
      const addresses = await checkedAddresses(target, { deny, what, resolve, clock, signal });
      if (request.credential !== undefined)
        secret ??= {
          url,
          headers: await request.credential(signal),
          body: await request.secretBody?.(signal),
        };
      const headers = { ...request.headers, ...secret?.headers };
      const body = withBody ? (secret?.body ?? request.body) : undefined;
      const hop = { url, name: target.name, addresses, headers: withBody ? headers : withoutBodyType(headers) };
      const refusal = request.refuse?.();
      if (refusal !== undefined) throw new OutboundError("Refused", `${what} is not asked: ${refusal}`);
      const response = await send({ ...hop, method, body }, { clock, caPem, signal });
      const { status } = response;
      const followed = isRedirect(status) && request.acceptsRedirect?.(status) !== true;
      const location = followed ? response.header("location") : undefined;
      if (location === undefined) return response;
      await response[Symbol.asyncDispose]();
      if (status < 304 && method !== "GET" && method !== "HEAD") {
        method = "GET";
        withBody = false;
      }
      const next = URL.parse(location, url.href);
      if (next === null) throw new OutboundError("Refused", "a redirect leads to something that is not a URL");
      text = next.href;
    }
    throw new OutboundError("Refused", `there are more than ${mostRedirects} redirects`);
  };
}

/** Default ports count as none: a host may lead from http to https, never back. */
function mayReceive(url: URL, first: URL, scope: "origin" | "host"): boolean {
  if (scope === "origin") return url.origin === first.origin;
  return url.host === first.host && (url.protocol === first.protocol || url.protocol === "https:");
}

function withoutBodyType(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name.toLowerCase() !== "content-type"));
}

function isRedirect(status: number): boolean {
  return [301, 302, 303, 307, 308].includes(status);
}

function checkedUrl(text: string, what: string): URL {
  const url = URL.parse(text);
  if (url === null) throw new OutboundError("Refused", `${what} is not a URL`);
  if (url.protocol !== "http:" && url.protocol !== "https:")
    throw new OutboundError("Refused", `${what} has scheme "${url.protocol.slice(0, -1)}", not http or https`);
  if (url.username !== "" || url.password !== "") throw new OutboundError("Refused", `${what} carries credentials`);
  return url;
}

interface Sending {
  readonly clock: Clock;
  readonly caPem: string | undefined;
  readonly signal: AbortSignal;
}

/** One request on a connection of its own: none is ever shared between hosts. */
async function send(
  { url, name, addresses, ...message }: Hop,
  { clock, caPem, signal }: Sending,
): Promise<GuardedResponse> {
  const secure = url.protocol === "https:";
  const port = url.port === "" ? (secure ? 443 : 80) : Number(url.port);
  const tls = secure ? (caPem === undefined ? {} : { caPem }) : undefined;
  let socket: Socket | undefined;
  try {
    socket = await connectPinned({ addresses, port, name, tls }, { clock, signal });
    return await exchange({ url, name, ...message, socket }, signal);
  } catch (error) {
    socket?.destroy();
    throw translated(error, { signal, doing: "reach the server" });
  }
}

async function exchange(
  { url, name, headers, method, body, socket }: Omit<Hop, "addresses"> & { readonly socket: Socket },
  signal: AbortSignal,
): Promise<GuardedResponse> {
  const origin = new URL(url.origin);
  // Without the dot at the end, which few servers know as theirs.
  if (!origin.hostname.startsWith("[")) origin.hostname = name;
  let unused: Socket | undefined = socket;
  const client = new Client(origin, {
    connect: (_options, callback) => {
      const given = unused;
      unused = undefined;
      // Later: the client overlooks an answer given while it asks.
      queueMicrotask(() => {
        if (given === undefined) callback(new Error("the connection was closed"), null);
        else callback(null, given);
      });
    },
    pipelining: 1,
    allowH2: false,
    // The caller's signal is the deadline.
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  const close = async (): Promise<void> => {
    await client.destroy();
    socket.destroy();
  };
  try {
    const answer = await client.request({
      method,
      ...(body === undefined ? {} : { body }),
      path: `${url.pathname}${url.search}`,
      headers: { "accept-encoding": "identity", ...headers },
      signal,
    });
    return {
      status: answer.statusCode,
      header: (wanted) => {
        const value = answer.headers[wanted];
        return Array.isArray(value) ? value[0] : value;
      },
      body: readBody(answer.body, signal),
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function* readBody(body: AsyncIterable<unknown>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of body) if (chunk instanceof Uint8Array) yield chunk;
  } catch (error) {
    throw translated(error, { signal, doing: "read the answer" });
  }
}
