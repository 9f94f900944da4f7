import { isAuthorizationRefusal } from "../kube/refusal.ts";

/** Why an identity could not be used. */
export type IdentityReason =
  "ServiceAccountMissing" | "TokenForbidden" | "TokenFailed" | "CredentialRefused" | "OwnServiceAccount";

/**
 * A ServiceAccount could not be assumed; the message names it. Spec 50 §1.6 says what becomes of each reason:
 * `TokenForbidden` and `OwnServiceAccount` are `RBACDenied`, the others fail the stage.
 */
export class IdentityError extends Error {
  override name = "IdentityError";
  readonly reason: IdentityReason;
  readonly retry: "backoff" | "never";

  constructor(reason: IdentityReason, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
    this.retry = reason === "OwnServiceAccount" ? "never" : "backoff";
  }
}

/** Whether only a grant, or another name in the spec, can help: `RBACDenied`, of identities and of requests alike. */
export function isDenied(error: unknown): boolean {
  if (!(error instanceof IdentityError)) return isAuthorizationRefusal(error);
  return error.reason === "TokenForbidden" || error.reason === "OwnServiceAccount";
}
