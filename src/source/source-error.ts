/** Why an artifact cannot be had. `Moved`: 404 or 410, the source offers another by now. */
export type SourceReason =
  "Refused" | "Unreachable" | "Moved" | "DigestMismatch" | "TooLarge" | "Malformed" | "TimedOut";

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
