import type { Dispatcher } from "undici";
import { abortReason } from "../lib/abort-reason.ts";
import { deadline, DeadlineExceeded, linkSignals } from "../lib/abort.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import type { Counter } from "../lib/telemetry.ts";
import type { AuthHeaders, Credential } from "./credential.ts";
import type { ClusterEndpoint } from "./endpoint.ts";
import { asObject } from "../lib/json.ts";
import { errorOfAnswer, KubeError } from "./error.ts";
import { createLineParser } from "./line-parser.ts";
import { readBody } from "./read-body.ts";
import type { KubeRequest } from "./request.ts";
import type { OpenAnswer } from "./stream-sessions.ts";
import { createTransports, type Transport, type Transports } from "./transport.ts";

export interface SendOptions {
  readonly signal?: AbortSignal | undefined;
  /** Bounds the wait for a place among the requests in flight, and then the request itself; default 30,000. */
  readonly timeoutMs?: number | undefined;
  /** Skips the queue of the 64 requests in flight per cluster; for the lease and gate reads, which are few. */
  readonly urgent?: boolean | undefined;
  /** Called once when the headers of an answer arrived, whatever its status. */
  readonly onAnswer?: ((answer: Answer) => void) | undefined;
}

/** What is known of an answer before its body. */
export interface Answer {
  readonly httpStatus: number;
  /** The `Date` header, epoch milliseconds, whole seconds. */
  readonly dateMs?: number;
  /** `Warning` header texts, unquoted. */
  readonly warnings: readonly string[];
}

export interface StreamOptions {
  readonly signal: AbortSignal;
  /** Called when the server accepted the request; values may come much later. */
  readonly onOpen?: (() => void) | undefined;
}

/** One identity on one cluster. */
export interface KubeClient {
  /** Which cluster: a part of every cache, watch and inventory key. */
  readonly cluster: string;
  /** `controller` or `system:serviceaccount:<namespace>:<name>`. */
  readonly identity: string;
  /**
   * Sends one request, once (a 401 is repeated once when the credential can be renewed), and parses the answer.
   *
   * @throws {KubeError} every refusal and loss
   * @throws the credential's own error when none can be had
   * @throws the signal's reason, when aborted
   */
  send(request: KubeRequest, options?: SendOptions): Promise<unknown>;
  /**
   * One parsed JSON value per line, until the server ends the stream. Aborting ends it with the signal's reason.
   *
   * @throws {KubeError} as {@link KubeClient.send}; `Unreachable` when the connection is lost
   */
  stream(request: KubeRequest, options: StreamOptions): AsyncIterable<unknown>;
}

const defaultTimeoutMs = 30_000;
const defaultMaxAnswerBytes = 512 * 1024 * 1024;
/** Of a refusal: more than any reason takes. What a server goes on sending must neither be held nor waited for. */
const maxRefusalBytes = 64 * 1024;
const refusalMs = 10_000;

export interface KubeClientOptions {
  readonly endpoint: ClusterEndpoint;
  readonly credential: Credential;
  readonly identity: string;
  /** Shared sockets; absent: the client has its own and closes them when disposed. */
  readonly transports?: Transports | undefined;
  readonly clock?: Clock | undefined;
  readonly userAgent?: string | undefined;
  /** `rest_client_requests_total{code,method,host}`; `code` is `<error>` when no answer arrived. */
  readonly requests?: Counter | undefined;
  /** The `traceparent` header of the work that sends a request; undefined outside a kept trace (W3C Trace Context). */
  readonly traceparent?: (() => string | undefined) | undefined;
  /** Asked right before each request but GET; false refuses it unsent. For the lease (spec 20 E6). */
  readonly mayWrite?: (() => boolean) | undefined;
  /** Default: 30 s for the whole request. */
  readonly patience?: Patience | undefined;
}

/** How long one request may take, ms; a caller's own bound goes before `wholeMs`. */
export interface Patience {
  /** Until the headers of the answer are there; undefined: as long as the whole request. */
  readonly firstByteMs: number | undefined;
  readonly wholeMs: number;
}

/** Opens no connection until the first request; disposing aborts what is in flight. */
export function createKubeClient(options: KubeClientOptions): KubeClient & AsyncDisposable {
  const clock = options.clock ?? systemClock;
  const transports = options.transports ?? createTransports({ clock });
  const transport = transports.acquire(options.endpoint, options.credential.certificate);
  const context: Context = { ...options, clock, transport, base: new URL(options.endpoint.server) };
  return {
    cluster: options.endpoint.key,
    identity: options.identity,
    send: (request, sendOptions = {}) => send(context, request, sendOptions),
    stream: (request, streamOptions) => stream(context, request, streamOptions),
    async [Symbol.asyncDispose]() {
      transport[Symbol.dispose]();
      if (options.transports === undefined) await transports[Symbol.asyncDispose]();
    },
  };
}

interface Context extends KubeClientOptions {
  readonly clock: Clock;
  readonly transport: Transport;
  readonly base: URL;
}

/** `signal` is the caller's with a deadline added. */
interface Wait {
  readonly signal: AbortSignal;
  readonly caller: AbortSignal | undefined;
}

async function send(context: Context, request: KubeRequest, options: SendOptions): Promise<unknown> {
  const timeoutMs = options.timeoutMs ?? context.patience?.wholeMs ?? defaultTimeoutMs;
  using held = new DisposableStack();
  if (options.urgent !== true) held.use(await waitForPlace(context, request, { ...options, timeoutMs }));
  using limit = deadline(context.clock, {
    timeoutMs,
    what: describe(request),
    ...(options.signal === undefined ? {} : { parent: options.signal }),
  });
  const wait: Wait = { signal: limit.signal, caller: options.signal };
  const abort = (reason: Error): void => limit.abort(reason);
  const response = await openSoon(context, request, { wait, abort });
  options.onAnswer?.(answerOf(response));
  // Redirects are not followed: what was sent is for this server alone, the token above all (spec 50 §5).
  if (response.statusCode >= 300) throw await readRefusal(context, request, { response, wait, abort });
  const text = await readAnswer(context, request, { response, wait });
  if (text === "") return undefined;
  return parseBody(request, response, text);
}

/** Within the time that the first byte has, where it has less than the whole request. */
async function openSoon(
  context: Context,
  request: KubeRequest,
  { wait, abort }: { readonly wait: Wait; readonly abort: (reason: Error) => void },
): Promise<OpenAnswer> {
  const firstByteMs = context.patience?.firstByteMs;
  using held = new DisposableStack();
  if (firstByteMs !== undefined)
    held.use(context.clock.timer(firstByteMs, () => abort(new DeadlineExceeded(describe(request), firstByteMs))));
  return await open(context, request, { wait, over: "requests" });
}

async function waitForPlace(
  context: Context,
  request: KubeRequest,
  options: SendOptions & { readonly timeoutMs: number },
): Promise<Disposable> {
  const { limiter } = context.transport;
  if (limiter.waiting === 0 && limiter.inFlight === 0) return limiter.acquire(options.signal);
  using limit = deadline(context.clock, {
    timeoutMs: options.timeoutMs,
    what: `waiting to ${describe(request)}`,
    ...(options.signal === undefined ? {} : { parent: options.signal }),
  });
  try {
    return await limiter.acquire(limit.signal);
  } catch (error) {
    if (options.signal?.aborted === true) throw error;
    throw new KubeError({
      reason: "Timeout",
      message: `Cannot ${describe(request)}: too many requests are in flight`,
      cause: error,
    });
  }
}

async function* stream(context: Context, request: KubeRequest, options: StreamOptions): AsyncGenerator {
  using linked = linkSignals(options.signal);
  const wait: Wait = { signal: linked.signal, caller: options.signal };
  const abort = (reason: Error): void => linked.abort(reason);
  const response = await openStream(context, request, { wait, abort });
  if (response.statusCode >= 300) throw await readRefusal(context, request, { response, wait, abort });
  options.onOpen?.();
  const parser = createLineParser(context.endpoint.maxAnswerBytes);
  try {
    for await (const chunk of response.body) {
      if (chunk instanceof Uint8Array) yield* parser.push(chunk);
    }
  } catch (error) {
    throw translate(context, request, { error, wait });
  } finally {
    response.body.destroy();
  }
  if (parser.pending > 0) {
    throw new KubeError({
      reason: "Unreachable",
      message: `Cannot ${describe(request)}: the stream was cut`,
      afterSend: true,
    });
  }
}

async function openStream(
  context: Context,
  request: KubeRequest,
  { wait, abort }: { readonly wait: Wait; readonly abort: (reason: Error) => void },
): Promise<OpenAnswer> {
  using held = new DisposableStack();
  held.use(
    context.clock.timer(defaultTimeoutMs, () => abort(new DeadlineExceeded(describe(request), defaultTimeoutMs))),
  );
  return await open(context, request, { wait, over: "watches" });
}

/** Sends, and once more with a renewed credential after a 401: authentication comes before any effect. */
async function open(
  context: Context,
  request: KubeRequest,
  { wait, over }: { readonly wait: Wait; readonly over: keyof Pick<Transport, "requests" | "watches"> },
): Promise<OpenAnswer> {
  const headers = await authorize(context, request, wait);
  const response = await dispatch(context, request, { wait, over, headers });
  if (response.statusCode !== 401 || context.credential.renew?.(headers) !== true) return response;
  await response.body.dump();
  const renewed = await authorize(context, request, wait);
  return dispatch(context, request, { wait, over, headers: renewed });
}

async function authorize(context: Context, request: KubeRequest, wait: Wait): Promise<AuthHeaders> {
  try {
    return await context.credential.authorize({ signal: wait.signal });
  } catch (error) {
    throw error === wait.signal.reason ? translate(context, request, { error, wait, sent: false }) : error;
  }
}

async function dispatch(
  context: Context,
  request: KubeRequest,
  o: { readonly wait: Wait; readonly over: "requests" | "watches"; readonly headers: AuthHeaders },
): Promise<OpenAnswer> {
  const { mayWrite } = context;
  const refuse = (): KubeError | undefined =>
    mayWrite?.() === false
      ? new KubeError({ reason: "Other", message: `Cannot ${describe(request)}: the lease is not held` })
      : undefined;
  const guarded = request.method !== "GET" && mayWrite !== undefined;
  const refusal = guarded ? refuse() : undefined;
  if (refusal !== undefined) throw refusal;
  const { requests, watches } = context.transport;
  const dispatcher = guarded ? requests.compose(refuseLate(refuse)) : requests;
  const traceparent = context.traceparent?.();
  const count = (code: string): void =>
    context.requests?.add({ code, method: request.method, host: context.base.host });
  try {
    const sent = {
      origin: context.base.origin,
      path: pathOf(context, request),
      headers: {
        accept: request.accept ?? "application/json",
        "user-agent": context.userAgent ?? "stageset-controller",
        ...(traceparent === undefined ? {} : { traceparent }),
        ...(request.contentType === undefined ? {} : { "content-type": request.contentType }),
        ...o.headers,
      },
      signal: o.wait.signal,
    };
    const body = request.body === undefined ? {} : { body: request.body };
    const response =
      o.over === "watches"
        ? await watches.open(sent)
        : await dispatcher.request({ ...sent, ...body, method: request.method });
    count(String(response.statusCode));
    if (response.statusCode === 429) context.transport.limiter.throttle();
    return response;
  } catch (error) {
    count("<error>");
    throw translate(context, request, { error, wait: o.wait });
  }
}

/** Asks once more when a socket is at hand: the process may have been paused while the request waited for one. */
function refuseLate(refuse: () => Error | undefined): Dispatcher.DispatcherComposeInterceptor {
  return (dispatch) => (options, handler) =>
    dispatch(options, {
      onRequestStart: (controller, started: unknown) => {
        handler.onRequestStart?.(controller, started);
        const refusal = refuse();
        if (refusal !== undefined) controller.abort(refusal);
      },
      onRequestUpgrade: (...given) => handler.onRequestUpgrade?.(...given),
      onResponseStart: (...given) => handler.onResponseStart?.(...given),
      onResponseData: (...given) => handler.onResponseData?.(...given),
      onResponseEnd: (...given) => handler.onResponseEnd?.(...given),
      onResponseError: (...given) => handler.onResponseError?.(...given),
    });
}

function pathOf({ base, endpoint }: Context, request: KubeRequest): string {
  const prefix = base.pathname.replace(/\/+$/, "");
  const search = new URLSearchParams(request.query);
  // Whoever asks for pages follows them, however many objects each has.
  const { maxPageItems = Infinity } = endpoint;
  if (Number(search.get("limit") ?? 0) > maxPageItems) search.set("limit", String(maxPageItems));
  const query = search.size === 0 ? "" : `?${search.toString()}`;
  return `${prefix}${request.path}${query}`;
}

async function readAnswer(
  context: Context,
  request: KubeRequest,
  { response, wait }: { readonly response: OpenAnswer; readonly wait: Wait },
): Promise<string> {
  const maxBytes = context.endpoint.maxAnswerBytes ?? defaultMaxAnswerBytes;
  const read = await readUpTo(maxBytes, context, request, { response, wait });
  if (read.isWhole) return read.text;
  throw new KubeError({
    reason: "TooLarge",
    message: `Cannot ${describe(request)}: the answer of "${context.base.host}" is larger than ${Math.floor(maxBytes / 1024 / 1024)} MiB`,
    afterSend: true,
  });
}

/** The error of a refused request. `abort` ends the request. */
async function readRefusal(
  context: Context,
  request: KubeRequest,
  o: { readonly response: OpenAnswer; readonly wait: Wait; readonly abort: (reason: Error) => void },
): Promise<Error> {
  using held = new DisposableStack();
  held.use(context.clock.timer(refusalMs, () => o.abort(new DeadlineExceeded(describe(request), refusalMs))));
  const { text } = await readUpTo(maxRefusalBytes, context, request, o);
  return refused(context, request, o.response, text);
}

async function readUpTo(
  maxBytes: number,
  context: Context,
  request: KubeRequest,
  { response, wait }: { readonly response: OpenAnswer; readonly wait: Wait },
): Promise<Awaited<ReturnType<typeof readBody>>> {
  try {
    return await readBody(response.body, maxBytes);
  } catch (error) {
    throw translate(context, request, { error, wait });
  }
}

function parseBody(request: KubeRequest, response: OpenAnswer, text: string): unknown {
  try {
    const body: unknown = isJson(response) ? JSON.parse(text) : undefined;
    if (asObject(body) !== undefined) return body;
  } catch {
    // The parser's own message quotes the body, which may be a Secret.
  }
  throw new KubeError({
    reason: "Other",
    message: `Cannot ${describe(request)}: the answer is no JSON object`,
    afterSend: true,
  });
}

function isJson(response: OpenAnswer): boolean {
  return String(response.headers["content-type"] ?? "").includes("json");
}

function refused(context: Context, request: KubeRequest, response: OpenAnswer, text: string): Error {
  let body: unknown = text;
  if (isJson(response)) {
    try {
      body = JSON.parse(text) as unknown;
    } catch {
      body = text;
    }
  }
  const retryAfter = Number(response.headers["retry-after"]);
  const error = errorOfAnswer({
    httpStatus: response.statusCode,
    body,
    retryAfterMs: Number.isFinite(retryAfter) && retryAfter >= 0 ? retryAfter * 1000 : undefined,
    what: describe(request),
  });
  return error.reason === "Unauthorized" ? (context.credential.explain?.(error) ?? error) : error;
}

function answerOf(response: OpenAnswer): Answer {
  const date = Date.parse(String(response.headers["date"]));
  return {
    httpStatus: response.statusCode,
    ...(Number.isNaN(date) ? {} : { dateMs: date }),
    warnings: warningsOf(response.headers["warning"]),
  };
}

/** Texts of `Warning: 299 - "text"` headers (RFC 7234 §5.5). */
function warningsOf(header: string | readonly string[] | undefined): readonly string[] {
  if (header === undefined) return [];
  const joined = typeof header === "string" ? header : header.join(", ");
  return [...joined.matchAll(/\d{3} \S+ "((?:[^"\\]|\\.)*)"/g)].map((match) =>
    (match[1] ?? "").replace(/\\(.)/g, "$1"),
  );
}

/** Codes of failures before the request left: the server cannot have acted on it. */
const neverSent: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "ERR_TLS_CERT_ALTNAME_INVALID",
  "CERT_HAS_EXPIRED",
]);

function translate(
  context: Context,
  request: KubeRequest,
  { error, wait, sent = true }: { readonly error: unknown; readonly wait: Wait; readonly sent?: boolean },
): Error {
  if (error instanceof KubeError) return error;
  if (wait.caller?.aborted === true) return abortReason(wait.caller);
  if (wait.signal.aborted) {
    return new KubeError({
      reason: "Timeout",
      message: `Cannot ${describe(request)}: "${context.base.host}" did not answer in time`,
      afterSend: sent,
      cause: wait.signal.reason,
    });
  }
  const code = codeOf(error);
  return new KubeError({
    reason: code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT" ? "Timeout" : "Unreachable",
    message: `Cannot ${describe(request)}: "${context.base.host}" is unreachable (${code})`,
    afterSend: !neverSent.has(code),
    cause: error,
  });
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return "unknown";
  if ("code" in error && typeof error.code === "string") return error.code;
  return error.cause === undefined ? error.name : codeOf(error.cause);
}

/** Method and path; the query may hold a selector with free text. */
function describe(request: KubeRequest): string {
  return `${request.method} ${request.path}`;
}
