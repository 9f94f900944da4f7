import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import type { MetricSource } from "../../api/stage-set.ts";
import { metricRequest } from "../../domain/metrics/metric-request.ts";
import { readMetricAnswer, sourceError, type MetricAnswer } from "../../domain/metrics/metric-answer.ts";
import { quoteUrl } from "../../domain/validation/finding.ts";
import type { Access } from "../../identity/access.ts";
import { IdentityError } from "../../identity/identity-error.ts";
import { KubeError } from "../../kube/error.ts";
import { getRequest } from "../../kube/request.ts";
import { abortReason } from "../../lib/abort-reason.ts";
import { deadline, DeadlineExceeded } from "../../lib/abort.ts";
import { sleep, type Clock } from "../../lib/clock.ts";
import { createFairLimiter } from "../../lib/fair-limiter.ts";
import { asText, at } from "../../lib/json.ts";
import type { GuardedFetch, GuardedRequest, GuardedResponse } from "../../outbound/guard.ts";
import { OutboundError } from "../../outbound/outbound-error.ts";
import { secrets } from "../../kube/core-resources.ts";

/** Bounds of one query (spec 40 §3): all of it with redirects, body and retry; the wait before the retry; the body. */
const totalTimeoutMs = 30_000;
const retryAfterMs = 1_000;
const mostBytes = 1024 * 1024;
/** Queries at once, of the process and of one StageSet. */
const queriesAtOnce = 32;
const queriesPerOwner = 4;

/** Whose query it is. */
export interface MetricOwner {
  readonly namespace: string;
  /** The StageSet or FleetRollout; queries of one owner share its places. */
  readonly name: string;
  /** Identity S (spec 50 §1.1), as which the Secret with the token is read. Asked for only when there is one. */
  readonly access: (signal: AbortSignal) => Promise<Access>;
}

/**
 * Asks a metric source for its number (spec 40 §3). It may have to wait for its turn without bound, and takes 30 s at most
 * from then on: never to be awaited by a pass that has a place.
 *
 * @throws the signal's reason, when aborted; whatever else goes wrong is a `sourceError`
 */
export type ReadMetric = (
  source: MetricSource,
  o: { readonly owner: MetricOwner; readonly signal: AbortSignal },
) => Promise<MetricAnswer>;

export interface MetricReaderOptions {
  readonly fetch: GuardedFetch;
  readonly clock: Clock;
  /** `--allowed-action-hosts`; undefined: any host. */
  readonly isAllowedHost: ((host: string) => boolean) | undefined;
}

/** Why there is no number, as a text to show; `again`: the same request may do better in a moment. */
class Unreadable extends Error {
  readonly again: boolean;
  constructor(message: string, o: { readonly again: boolean } & ErrorOptions) {
    super(message, o);
    this.again = o.again;
  }
}

export function createMetricReader(options: MetricReaderOptions): ReadMetric {
  const { clock } = options;
  const turns = createFairLimiter({
    clock,
    // Only how many at once is bounded.
    burst: Infinity,
    perSecond: 1,
    places: queriesAtOnce,
    placesPerGroup: queriesPerOwner,
  });
  return async (source, { owner, signal }) => {
    const asked = metricRequest(source);
    if (asked === undefined) return sourceError("it does not name one URL to ask");
    using _turn = await turns.acquire(`${owner.namespace}/${owner.name}`, signal);
    using limit = deadline(clock, { timeoutMs: totalTimeoutMs, what: "the query", parent: signal });
    const { secretName } = asked;
    const request: GuardedRequest = {
      headers: { accept: "application/json", "accept-encoding": "gzip" },
      ...(options.isAllowedHost === undefined ? {} : { isAllowedHost: options.isAllowedHost }),
      ...(secretName === undefined
        ? {}
        : {
            credential: async (aborted) => ({ authorization: `Bearer ${await readToken(owner, secretName, aborted)}` }),
          }),
    };
    try {
      const body = await withOneRetry(clock, limit.signal, () =>
        ask(options.fetch, { url: asked.url, request }, limit.signal),
      );
      return readMetricAnswer(body, asked.reads);
    } catch (error) {
      signal.throwIfAborted();
      return sourceError(`${quoteUrl(asked.url)}: ${problemOf(error)}`);
    }
  };
}

function problemOf(error: unknown): string {
  if (error instanceof Unreadable || error instanceof DeadlineExceeded) return error.message;
  throw error;
}

/** A second try after what may pass: no connection, or an answer of 5xx. */
async function withOneRetry(clock: Clock, signal: AbortSignal, attempt: () => Promise<string>): Promise<string> {
  try {
    return await attempt();
  } catch (error) {
    if (!(error instanceof Unreadable) || !error.again) throw error;
  }
  await sleep(clock, retryAfterMs, signal);
  return attempt();
}

async function ask(
  fetch: GuardedFetch,
  { url, request }: { readonly url: string; readonly request: GuardedRequest },
  signal: AbortSignal,
): Promise<string> {
  await using response = await opened(() => fetch(url, { signal, request }));
  const { status } = response;
  if (status < 200 || status > 299)
    throw new Unreadable(`the server answered ${status}, want 2xx`, { again: status >= 500 });
  try {
    return await readText(response, signal);
  } catch (error) {
    if (error instanceof OutboundError) throw new Unreadable(error.message, { again: false, cause: error });
    throw error;
  }
}

async function opened(fetch: () => Promise<GuardedResponse>): Promise<GuardedResponse> {
  try {
    return await fetch();
  } catch (error) {
    if (!(error instanceof OutboundError)) throw error;
    throw new Unreadable(error.message, { again: error.retry === "backoff", cause: error });
  }
}

/** The body as it was before the server packed it. Little of it is unpacked at a time, so the bound holds for that too. */
async function readText(response: GuardedResponse, signal: AbortSignal): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const take = async (body: AsyncIterable<Uint8Array>): Promise<void> => {
    for await (const chunk of body) {
      bytes += chunk.length;
      if (bytes > mostBytes) throw new Unreadable(`the answer is larger than ${mostBytes} bytes`, { again: false });
      chunks.push(chunk);
    }
  };
  const encoding = response.header("content-encoding")?.toLowerCase() ?? "identity";
  if (encoding === "identity") await take(response.body);
  else if (encoding === "gzip") await unpack(response.body, take, signal);
  else throw new Unreadable("the answer has another content-encoding than gzip", { again: false });
  return Buffer.concat(chunks).toString("utf8");
}

async function unpack(
  body: AsyncIterable<Uint8Array>,
  take: (unpacked: AsyncIterable<Uint8Array>) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  try {
    await pipeline(body, createGunzip(), take, { signal });
  } catch (error) {
    if (signal.aborted) throw abortReason(signal);
    if (error instanceof Unreadable || error instanceof OutboundError) throw error;
    throw new Unreadable("the answer cannot be unpacked", { again: false, cause: error });
  }
}

async function readToken(owner: MetricOwner, name: string, signal: AbortSignal): Promise<string> {
  const described = `Secret "${owner.namespace}/${name}"`;
  const unreadable = (why: string, cause?: unknown): Unreadable =>
    new Unreadable(`Cannot read ${described}: ${why}`, { again: false, cause });
  let secret: unknown;
  try {
    const { client } = await owner.access(signal);
    secret = await client.send(getRequest(secrets, { namespace: owner.namespace, name }), { signal });
  } catch (error) {
    if (error instanceof KubeError && error.reason === "NotFound") throw unreadable("it does not exist", error);
    if (error instanceof KubeError || error instanceof IdentityError) throw unreadable(error.message, error);
    throw error;
  }
  const packed = asText(at(secret, "data", "token"));
  const token = packed === undefined ? "" : Buffer.from(packed, "base64").toString("utf8").trimEnd();
  if (token === "") throw unreadable('it has no entry "token", or an empty one');
  // What no header may hold would be refused with the text in the message.
  if (!/^[\x21-\x7e]+$/.test(token)) throw unreadable('its entry "token" has characters that no bearer token has');
  return token;
}
