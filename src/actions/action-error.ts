import type { ActionFailureClass } from "../domain/actions/action-run.ts";

/**
 * Why an attempt of an action failed. The message is for status, and without Secret values. `final`: another attempt cannot
 * help (spec 30 §2.2).
 */
export class ActionError extends Error {
  override name = "ActionError";
  readonly retry: "attempt" | "final";
  /** `permanent`: a right, or a kind, is missing; `source`: of the action, in another namespace (spec 30 §2.3). */
  readonly class: ActionFailureClass;
  /** What the server asked to wait before another attempt, ms. */
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    o: {
      readonly retry?: "attempt" | "final";
      readonly class?: ActionFailureClass;
      readonly retryAfterMs?: number | undefined;
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, o.cause === undefined ? undefined : { cause: o.cause });
    this.class = o.class ?? "ordinary";
    this.retry = o.retry ?? (["permanent", "image", "unknownImage"].includes(this.class) ? "final" : "attempt");
    this.retryAfterMs = o.retryAfterMs;
  }
}
