import type { ReadyReason } from "../api/reasons.ts";

/** The operation a stage failed in, as Ready messages spell it (spec 20 §10). */
export type StageOperation =
  | "connect to target cluster"
  | "configure decryption"
  | "fetch artifact"
  | "decrypt"
  | "resolve postBuild variables"
  | "build"
  | "image verification"
  | "record inventory"
  | "conflict policy"
  | "apply"
  | "verify"
  | "pre-action"
  | "post-action"
  | "migration"
  | "migration halted (dirty)"
  | "action halted (dirty)"
  | "prune";

/**
 * When the controller looks again without any event (spec 10 §6): `backoff` is B, `minute` M, `interval` I, `retry` R,
 * `soon` after 5, 10, 20 and 40 s and then M (spec 50 §4.4), `never` only for Suspended.
 */
export type NextLook = "backoff" | "minute" | "soon" | "interval" | "retry" | "never";

/** Why a pass ended without success, in the words status carries. */
export interface Failure {
  readonly reason: ReadyReason;
  /** Ready message without the runbook suffix. The same problem always gives the same text. */
  readonly message: string;
  readonly next: NextLook;
  /** Set when one stage failed: its entry becomes `Failed` with `<operation>: <cause>`. */
  readonly stage?: StageFailure;
  /** Retrying cannot help; `Stalled` instead of `Reconciling`. */
  readonly terminal: boolean;
  /** A Lifetime action, or a migration, failed: five such passes in a row are a dirty halt (spec 30 §4.5). */
  readonly counts?: "action" | "migration";
}

export interface StageFailure {
  readonly name: string;
  readonly operation: StageOperation;
  readonly cause: string;
}

/** A failure that belongs to no stage; the next look follows from the reason. */
export function failure(reason: ReadyReason, message: string, next: NextLook = nextLookOf(reason)): Failure {
  return { reason, message, next, terminal: false };
}

/** A failure of one stage. `kind` is the failure class of spec 20 §10. */
export function stageFailure(
  stage: StageFailure,
  kind: "ordinary" | "authorization" | "terminal" = "ordinary",
): Failure {
  return {
    reason: kind === "authorization" ? "RBACDenied" : "StageFailed",
    message: `stage "${stage.name}" ${stage.operation}: ${stage.cause}`,
    next: kind === "authorization" ? "minute" : kind === "terminal" ? "interval" : "backoff",
    stage,
    terminal: kind === "terminal",
  };
}

/** An image that is not verified: `unknown` when nobody could tell, and may be able to soon (spec 50 §4.4). */
export function imageFailure(stage: StageFailure, verdict: "refused" | "unknown"): Failure {
  return {
    ...stageFailure(stage),
    reason: "ImageUnverified",
    next: verdict === "unknown" ? "soon" : "minute",
  };
}

function nextLookOf(reason: ReadyReason): NextLook {
  switch (reason) {
    case "SourceNotReady":
    case "ArtifactNotFound":
    case "DependencyNotReady":
    case "StageProgressing":
    case "AwaitingPromotion":
    case "PreviousRevisionUnavailable":
      return "retry";
    case "Suspended":
      return "never";
    case "Succeeded":
    case "MigrationDirty":
    case "ActionDirty":
      return "interval";
    case "StageFailed":
    case "MigrationFailed":
      return "backoff";
    default:
      return "minute";
  }
}
