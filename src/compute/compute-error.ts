/** Why a job gave no result. `Failed`: it threw, which is a bug; `Overloaded`: too many were waiting already. */
export type ComputeReason = "TimedOut" | "Crashed" | "OutOfMemory" | "Failed" | "Overloaded";

/** A job ended without a result. Never quotes the job's input: it may be secret. */
export class ComputeError extends Error {
  override name = "ComputeError";
  readonly reason: ComputeReason;
  /** The same input runs out of memory, or into the bug, again; the rest may be load. */
  readonly retry: "backoff" | "never";
  constructor(reason: ComputeReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
    this.retry = reason === "OutOfMemory" || reason === "Failed" ? "never" : "backoff";
  }
}
