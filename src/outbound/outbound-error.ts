/** Why a request got no answer. `Refused`: the URL, or an address it leads to, may never be asked. */
export type OutboundReason = "Refused" | "Unreachable" | "TimedOut";

/**
 * A guarded request that failed before an answer, or while its body was read.
 * The message names no address and no redirect target: it may be shown to whoever chose the URL.
 */
export class OutboundError extends Error {
  override name = "OutboundError";
  readonly reason: OutboundReason;
  readonly retry: "backoff" | "never";
  constructor(reason: OutboundReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
    this.retry = reason === "Refused" ? "never" : "backoff";
  }
}
