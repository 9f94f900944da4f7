import { asArray, asNumber, asObject, asText, at } from "../lib/json.ts";

/** Why a request to an API server failed. `NotServed`: the server does not know the kind; `TooLarge`: over its body limit. */
export type KubeReason =
  | "Unauthorized"
  | "Forbidden"
  | "NotFound"
  | "AlreadyExists"
  | "Conflict"
  | "Invalid"
  | "Gone"
  | "TooManyRequests"
  | "ServerError"
  | "Timeout"
  | "Unreachable"
  | "BadRequest"
  | "TooLarge"
  | "NotServed"
  | "Other";

/** One entry of `details.causes` in a Status: the field at fault and the server's text about it. */
export interface StatusCause {
  readonly reason?: string;
  readonly message?: string;
  readonly field?: string;
}

/** The parts of a Kubernetes `Status` that decisions are made on. Absent fields were not sent. */
export interface KubeStatus {
  readonly message: string;
  readonly reason?: string;
  readonly details?: {
    readonly name?: string;
    readonly group?: string;
    readonly kind?: string;
    readonly causes: readonly StatusCause[];
    readonly retryAfterSeconds?: number;
  };
}

/**
 * A request an API server refused, or that got no answer.
 *
 * `message` is the server's own sentence where it sent one; it may quote the object, so callers reduce it before showing
 * it for objects that hold secrets (spec 50 §11.3). `retry: "backoff"` says the same request may succeed later.
 */
export class KubeError extends Error {
  override name = "KubeError";
  readonly reason: KubeReason;
  readonly retry: "backoff" | "never";
  /** Undefined when no answer arrived. */
  readonly httpStatus?: number;
  readonly status?: KubeStatus;
  /** How long the server asked to wait, in milliseconds. */
  readonly retryAfterMs?: number;
  /** The request may have taken effect although it failed: it was sent, and no refusal came back. */
  readonly afterSend: boolean;

  constructor(o: {
    readonly reason: KubeReason;
    readonly message: string;
    readonly httpStatus?: number | undefined;
    readonly status?: KubeStatus | undefined;
    readonly retryAfterMs?: number | undefined;
    readonly afterSend?: boolean;
    readonly cause?: unknown;
  }) {
    super(o.message, o.cause === undefined ? undefined : { cause: o.cause });
    this.reason = o.reason;
    this.retry = transient.has(o.reason) ? "backoff" : "never";
    if (o.httpStatus !== undefined) this.httpStatus = o.httpStatus;
    if (o.status !== undefined) this.status = o.status;
    if (o.retryAfterMs !== undefined) this.retryAfterMs = o.retryAfterMs;
    this.afterSend = o.afterSend ?? false;
  }
}

const transient: ReadonlySet<KubeReason> = new Set([
  "Conflict",
  "Gone",
  "TooManyRequests",
  "ServerError",
  "Timeout",
  "Unreachable",
]);

/** Whether the value is a {@link KubeError}, of the given reason when one is named. */
export function isKubeError(error: unknown, ...reasons: readonly KubeReason[]): error is KubeError {
  return error instanceof KubeError && (reasons.length === 0 || reasons.includes(error.reason));
}

/** Reads a `Status` body; undefined when the value is none. */
export function parseStatus(body: unknown): KubeStatus | undefined {
  const object = asObject(body);
  if (object === undefined || object["kind"] !== "Status") return undefined;
  const reason = asText(object["reason"]);
  const details = asObject(object["details"]);
  return {
    message: asText(object["message"]) ?? reason ?? "no message",
    ...(reason === undefined ? {} : { reason }),
    ...(details === undefined ? {} : { details: parseDetails(details) }),
  };
}

function parseDetails(details: Readonly<Record<string, unknown>>): NonNullable<KubeStatus["details"]> {
  const name = asText(details["name"]);
  const group = asText(details["group"]);
  const kind = asText(details["kind"]);
  const retryAfterSeconds = asNumber(details["retryAfterSeconds"]);
  return {
    ...(name === undefined ? {} : { name }),
    ...(group === undefined ? {} : { group }),
    ...(kind === undefined ? {} : { kind }),
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    causes: asArray(details["causes"]).map((cause): StatusCause => {
      const causeReason = asText(at(cause, "reason"));
      const message = asText(at(cause, "message"));
      const field = asText(at(cause, "field"));
      return {
        ...(causeReason === undefined ? {} : { reason: causeReason }),
        ...(message === undefined ? {} : { message }),
        ...(field === undefined ? {} : { field }),
      };
    }),
  };
}

/**
 * The error of an answer with a status of 300 or more.
 *
 * @param body what was parsed, or the text itself when the answer was no JSON
 */
export function errorOfAnswer(o: {
  readonly httpStatus: number;
  readonly body: unknown;
  readonly retryAfterMs?: number | undefined;
  readonly what: string;
}): KubeError {
  const status = parseStatus(o.body);
  const retryAfterSeconds = status?.details?.retryAfterSeconds;
  return new KubeError({
    reason: reasonOf(o.httpStatus, status),
    message: status?.message ?? `Cannot ${o.what}: the server answered ${o.httpStatus}`,
    httpStatus: o.httpStatus,
    status,
    retryAfterMs: o.retryAfterMs ?? (retryAfterSeconds === undefined ? undefined : retryAfterSeconds * 1000),
    // A server that fails after admission may have stored the object: etcd answers late.
    afterSend: o.httpStatus >= 500,
  });
}

function reasonOf(httpStatus: number, status: KubeStatus | undefined): KubeReason {
  switch (httpStatus) {
    case 400:
      return "BadRequest";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      // A path the server does not know is answered without naming an object; an absent object is named.
      return status?.details?.name === undefined ? "NotServed" : "NotFound";
    case 409:
      return status?.reason === "AlreadyExists" ? "AlreadyExists" : "Conflict";
    case 410:
      return "Gone";
    case 413:
      return "TooLarge";
    case 422:
      return "Invalid";
    case 429:
      return "TooManyRequests";
    case 504:
      return "Timeout";
    default:
      return httpStatus >= 500 ? "ServerError" : "Other";
  }
}
