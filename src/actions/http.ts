import type { Action } from "../api/stage-set.ts";
import { deadline, DeadlineExceeded } from "../lib/abort.ts";
import type { GuardedRequest, GuardedResponse } from "../outbound/guard.ts";
import { OutboundError } from "../outbound/outbound-error.ts";
import { ActionError } from "./action-error.ts";
import type { Attempt } from "./context.ts";
import { readSecretKey } from "./secret-values.ts";

type Http = NonNullable<Action["http"]>;

/** Of one exchange, with redirects and body (spec 30 §2.2). */
const exchangeMs = 30_000;
/** Read of a response, and said of it (spec 30 §3.2). */
const mostReadBytes = 64 * 1024;
const mostShownBytes = 512;
/** Set by the connection, whatever a Secret says: RFC 9110 §7.6.1 and what frames the message. */
const ownHeaders = new Set([
  ...["host", "content-length", "connection", "keep-alive", "proxy-authenticate", "proxy-authorization"],
  ...["proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"],
]);
/** RFC 9110 §5.5, without what would begin another line. */
const headerValue = /^[\t\x20-\x7e\x80-\xff]*$/;

/** What of a request comes from Secrets, read once and only after the host has passed every check. */
interface SecretParts {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
  /** Every value, for what must not be shown. */
  readonly values: readonly string[];
}

/**
 * Sends the request and accepts what is expected.
 *
 * @throws {ActionError} with host and status; with text of the response only where the host was allowed by name
 */
export async function sendHttp(http: Http, attempt: Attempt): Promise<void> {
  const { context } = attempt;
  using bound = deadline(context.clock, { timeoutMs: exchangeMs, what: "the exchange", parent: attempt.signal });
  const bounded: Attempt = { ...attempt, signal: bound.signal };
  const host = URL.parse(http.url)?.host ?? "";
  let secret: SecretParts | undefined;
  try {
    const secretParts = async (): Promise<SecretParts> => (secret ??= await readSecretParts(http, bounded));
    await using response = await context.fetch(http.url, {
      signal: bound.signal,
      request: requestOf(http, { isAllowedHost: context.isAllowedHost, mayWrite: context.mayWrite, secretParts }),
    });
    if (isExpected(http, response.status)) return;
    const text = context.isAllowedHost === undefined ? "" : `: ${await shownText(response, secret)}`;
    const { status } = response;
    throw new ActionError(`${host} answered ${status}${text}`, {
      retry: status >= 400 && status < 500 && status !== 408 && status !== 429 ? "final" : "attempt",
      retryAfterMs: status === 429 || status === 503 ? retryAfterMs(response) : undefined,
    });
  } catch (error) {
    if (attempt.signal.aborted || error instanceof ActionError) throw error;
    if (error instanceof OutboundError)
      throw new ActionError(`${host}: ${error.message}`, {
        retry: error.reason === "Refused" ? "final" : "attempt",
        cause: error,
      });
    if (error instanceof DeadlineExceeded) throw new ActionError(`${host}: no answer within 30s`, { cause: error });
    throw error;
  }
}

function requestOf(
  { method = "POST", body, bodyFrom, headersFrom = [], expectedStatus = [] }: Http,
  o: {
    readonly isAllowedHost: ((host: string) => boolean) | undefined;
    readonly mayWrite: () => boolean;
    readonly secretParts: () => Promise<SecretParts>;
  },
): GuardedRequest {
  const usesSecrets = bodyFrom !== undefined || headersFrom.length > 0;
  return {
    method,
    ...(o.isAllowedHost === undefined ? {} : { isAllowedHost: o.isAllowedHost }),
    ...(body === undefined || body === "" || bodyFrom !== undefined ? {} : { body, headers: contentType(body, []) }),
    ...(usesSecrets
      ? {
          credential: async () => (await o.secretParts()).headers,
          secretBody: async () => (await o.secretParts()).body,
          secretScope: "host" as const,
        }
      : {}),
    refuse: () => (o.mayWrite() ? undefined : "the lease is not held"),
    acceptsRedirect: (status) => expectedStatus.includes(status),
  };
}

/** JSON is told as such, unless a header says what the body is. */
function contentType(body: string, names: readonly string[]): Readonly<Record<string, string>> {
  if (names.includes("content-type")) return {};
  try {
    JSON.parse(body);
    return { "content-type": "application/json" };
  } catch {
    return {};
  }
}

async function readSecretParts({ body, bodyFrom, headersFrom = [] }: Http, attempt: Attempt): Promise<SecretParts> {
  const headers: Record<string, string> = {};
  const values: string[] = [];
  for (const reference of headersFrom) {
    const value = (await readSecretKey(reference, attempt)).replace(/\r?\n$/, "");
    values.push(value);
    const name = (reference.key ?? "").toLowerCase();
    if (ownHeaders.has(name)) continue;
    if (!headerValue.test(value))
      throw new ActionError(
        `entry "${reference.key ?? ""}" of Secret "${reference.name}" has characters that no header may have`,
        { retry: "final" },
      );
    headers[name] = value;
  }
  const secretBody = bodyFrom === undefined ? undefined : await readSecretKey(bodyFrom, attempt);
  if (secretBody !== undefined) values.push(secretBody);
  const sent = secretBody ?? body ?? "";
  const type = sent === "" ? {} : contentType(sent, Object.keys(headers));
  return { headers: { ...type, ...headers }, body: secretBody, values };
}

function isExpected({ expectedStatus = [] }: Http, status: number): boolean {
  return expectedStatus.length === 0 ? status >= 200 && status <= 299 : expectedStatus.includes(status);
}

async function shownText(response: GuardedResponse, secret: SecretParts | undefined): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body) {
    chunks.push(chunk.subarray(0, mostReadBytes - bytes));
    bytes += chunk.length;
    if (bytes >= mostReadBytes) break;
  }
  let text = Buffer.concat(chunks).toString("utf8");
  // Long ones first: one may be a part of another.
  const values = (secret?.values ?? []).flatMap((value) => [value, value.trim()]).filter((value) => value !== "");
  for (const value of values.toSorted((a, b) => b.length - a.length)) text = text.replaceAll(value, "***");
  const trimmed = Buffer.from(text.trim())
    .subarray(0, mostShownBytes)
    .toString("utf8")
    .replace(/\ufffd+$/, "");
  return trimmed === "" ? "(empty)" : trimmed;
}

function retryAfterMs(response: GuardedResponse): number | undefined {
  const seconds = Number(response.header("retry-after") ?? "");
  return Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : undefined;
}
