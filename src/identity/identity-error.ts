import { isKubeError } from "../kube/error.ts";
import { isAuthorizationRefusal, isNamespaceTerminating } from "../kube/refusal.ts";

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

/**
 * Why a teardown cannot go on as an identity: it lacks a right, it cannot be had any more (spec 20 §12.7), or something
 * that may pass. In a namespace that is going no token is minted any more.
 */
export function refusalOf(error: unknown): "authorization" | "credential" | "other" {
  if (isDenied(error)) return "authorization";
  if (!(error instanceof IdentityError)) return isKubeError(error, "Unauthorized") ? "credential" : "other";
  return error.reason === "TokenFailed" && !isNamespaceTerminating(error.cause) ? "other" : "credential";
}
