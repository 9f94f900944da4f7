import { isKubeError } from "../kube/error.ts";
import { isAuthorizationRefusal, isNamespaceTerminating } from "../kube/refusal.ts";

/** Why an identity could not be used. */
export type IdentityReason =
  | "ServiceAccountMissing"
  | "TokenForbidden"
  | "TokenFailed"
  | "CredentialRefused"
  | "OwnServiceAccount"
  /** What `spec.kubeConfig` names cannot be used as it is. */
  | "TargetInvalid"
  /** What `spec.kubeConfig` names, or an entry of it, does not exist. */
  | "TargetMissing"
  /** The API server that `spec.kubeConfig` leads to refused the credential. */
  | "TargetUnauthorized"
  /** It, or what issues its credential, gives no answer. */
  | "TargetUnreachable";

/**
 * A ServiceAccount could not be assumed, or the cluster of `spec.kubeConfig` not be reached as one; the message names what
 * is at fault. Spec 50 §1.6 and §2 say what becomes of each reason: `TokenForbidden` and `OwnServiceAccount` are
 * `RBACDenied`, `TargetInvalid` is `InvalidSpec`, the others fail the stage.
 */
export class IdentityError extends Error {
  override name = "IdentityError";
  readonly reason: IdentityReason;
  readonly retry: "backoff" | "never";

  constructor(reason: IdentityReason, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
    this.retry = reason === "OwnServiceAccount" || reason === "TargetInvalid" ? "never" : "backoff";
  }
}

/** What has to do with the cluster of `spec.kubeConfig`, not with the identity that uses it. */
const ofTarget: ReadonlySet<IdentityReason> = new Set([
  "TargetInvalid",
  "TargetMissing",
  "TargetUnauthorized",
  "TargetUnreachable",
]);

/** Whether only a grant, or another name in the spec, can help: `RBACDenied`, of identities and of requests alike. */
export function isDenied(error: unknown): boolean {
  if (!(error instanceof IdentityError)) return isAuthorizationRefusal(error);
  return error.reason === "TokenForbidden" || error.reason === "OwnServiceAccount";
}

/**
 * Why a teardown cannot go on as an identity: it lacks a right, it cannot be had any more (spec 20 §12.7), or something
 * that may pass, such as a kubeconfig that is gone or wrong (spec 50 §1.6). In a namespace that is going no token is minted
 * any more.
 */
export function refusalOf(error: unknown): "authorization" | "credential" | "other" {
  if (isDenied(error)) return "authorization";
  if (!(error instanceof IdentityError)) return isKubeError(error, "Unauthorized") ? "credential" : "other";
  if (ofTarget.has(error.reason)) return "other";
  return error.reason === "TokenFailed" && !isNamespaceTerminating(error.cause) ? "other" : "credential";
}
