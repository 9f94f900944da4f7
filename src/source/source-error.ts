/**
 * Why an artifact cannot be had. `Refused`: the URL or where it leads is not allowed. `Moved`: 404 or 410, the source
 * offers another by now. `TooLarge`: over a cap of spec 50 §6. `Malformed`: not a gzipped tar of acceptable entries, or
 * not a digest.
 */
export type SourceReason =
  "Refused" | "Unreachable" | "Moved" | "DigestMismatch" | "TooLarge" | "Malformed" | "TimedOut";

/**
 * `message` may be shown in status: it names the expected digest at most. What was received instead is in `cause`, for
 * the log. `retry: "never"`: only another artifact or spec helps.
 */
export class SourceError extends Error {
  override name = "SourceError";
  readonly reason: SourceReason;
  readonly retry: "backoff" | "never";
  constructor(reason: SourceReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
    this.retry = reason === "Unreachable" || reason === "TimedOut" || reason === "Moved" ? "backoff" : "never";
  }
}
