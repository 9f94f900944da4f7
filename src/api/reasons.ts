import type { ConditionStatus } from "./condition-types.ts";

/**
 * What a reason means for counters, objectives and alerts (spec 60 §5): nothing to do, on the way, held because
 * somebody asked for it, waiting for what should come by itself, or failed.
 */
export type ReasonClass = "healthy" | "running" | "hold" | "waiting" | "failure";

/**
 * When the controller looks again without any event (spec 10 §6). `gate` is the gate's own time: a boundary, a
 * deadline or the gate's interval. `run` has no look of its own, because a run is under way.
 */
export type ReasonNext = "interval" | "retry" | "minute" | "backoff" | "gate" | "never" | "run";

export interface ReasonInfo {
  readonly class: ReasonClass;
  /** Status of the Ready condition. */
  readonly status: ConditionStatus;
  /**
   * The next look, where the cause does not choose: Succeeded looks at the gate's time while held; ResolveFailed backs
   * off after an API error; StageFailed waits the interval when retrying cannot help; PromotionBlocked waits for the
   * retry interval where the gate has no time.
   */
  readonly next: ReasonNext;
  /** `cause`: only where retrying cannot help. */
  readonly stalled: "always" | "never" | "cause";
}

function reason(
  group: ReasonClass,
  status: ConditionStatus,
  next: ReasonNext,
  stalled: ReasonInfo["stalled"] = "never",
): ReasonInfo {
  return { class: group, status, next, stalled };
}

/** Every reason of a StageSet's Ready condition. */
export const readyReasons = {
  Succeeded: reason("healthy", "True", "interval"),
  Suspended: reason("healthy", "False", "never"),
  Progressing: reason("running", "Unknown", "run"),
  UpdateDeferred: reason("hold", "False", "gate"),
  Soaking: reason("hold", "False", "gate"),
  AwaitingPromotion: reason("hold", "False", "retry"),
  AwaitingApproval: reason("hold", "False", "minute"),
  BudgetExhausted: reason("hold", "False", "gate"),
  SourceNotReady: reason("waiting", "False", "retry"),
  ArtifactNotFound: reason("waiting", "False", "retry"),
  DependencyNotReady: reason("waiting", "False", "retry"),
  StageProgressing: reason("waiting", "False", "retry"),
  StageFailed: reason("failure", "False", "backoff", "cause"),
  InvalidSpec: reason("failure", "False", "minute", "always"),
  ResolveFailed: reason("failure", "False", "minute"),
  RBACDenied: reason("failure", "False", "minute", "always"),
  Stalled: reason("failure", "False", "minute", "always"),
  ImageUnverified: reason("failure", "False", "minute", "always"),
  PromotionBlocked: reason("failure", "False", "gate"),
  PreviousRevisionUnavailable: reason("failure", "False", "retry", "always"),
  BudgetSourceUnavailable: reason("failure", "False", "gate"),
  ActionDirty: reason("failure", "False", "interval", "always"),
  InvalidVersion: reason("failure", "False", "minute", "always"),
  DowngradeNotAllowed: reason("failure", "False", "minute", "always"),
  DowngradeRequiresMigration: reason("failure", "False", "minute", "always"),
  MigrationFailed: reason("failure", "False", "backoff"),
  MigrationDirty: reason("failure", "False", "interval", "always"),
  MigrationStageNotFound: reason("failure", "False", "minute", "always"),
  MigrationArtifactInvalid: reason("failure", "False", "minute", "always"),
  MigrationSourceNotVerified: reason("failure", "False", "minute", "always"),
  MigrationSourceNotPinned: reason("failure", "False", "minute", "always"),
  MigrationCoverageMissing: reason("failure", "False", "minute", "always"),
} as const satisfies Readonly<Record<string, ReasonInfo>>;

export type ReadyReason = keyof typeof readyReasons;

/** What is known about a reason. */
export function reasonInfo(of: ReadyReason): ReasonInfo {
  return readyReasons[of];
}

export function isReadyReason(text: string): text is ReadyReason {
  return Object.hasOwn(readyReasons, text);
}

/** Whether Ready messages of this reason end with a link to its runbook. */
export function hasRunbookLink(of: ReadyReason): boolean {
  return of !== "Succeeded" && of !== "Suspended" && of !== "Progressing";
}

/** The id of a reason's runbook page. */
export function runbookId(of: ReadyReason): string {
  return of.toLowerCase();
}

/** Every reason of a FleetRollout's Ready condition, with its status. */
export const fleetReasons = {
  Progressing: "True",
  Completed: "True",
  Halted: "False",
  MembersUnassigned: "False",
  MembersAmbiguous: "False",
  MembersContested: "False",
  NoMembers: "False",
  InvalidSelector: "False",
  GateUnsupported: "False",
  InvalidSpec: "False",
} as const satisfies Readonly<Record<string, ConditionStatus>>;

export type FleetReason = keyof typeof fleetReasons;

/** Reasons of a StageLedger's BaselineValid condition, with its status. */
export const baselineReasons = { AllResolved: "True", Unresolved: "False" } as const satisfies Readonly<
  Record<string, ConditionStatus>
>;

export type EventType = "Normal" | "Warning";

/** Reasons only events have, with the type they have unless the spec's other chapters say otherwise. */
export const eventReasons = {
  DriftCorrected: "Warning",
  DriftContested: "Warning",
  RolledBack: "Warning",
  InventoryReconstructed: "Warning",
  PreflightFinding: "Warning",
  TeardownForced: "Warning",
  OnFailureAction: "Warning",
  OnRollbackAction: "Warning",
  RollbackStoreFailed: "Warning",
  MigrationStarted: "Normal",
  MigrationCompleted: "Normal",
  MigrationFailed: "Warning",
  MigrationsBaselined: "Normal",
  MigrationSourceMutable: "Warning",
  ActionSkipped: "Normal",
  LedgerAdopted: "Normal",
  LedgerInvalidated: "Normal",
  LedgerAnchorUnreadable: "Warning",
  BaselineInvalid: "Warning",
  ImageVerificationSkipped: "Warning",
  HelmHookApplied: "Warning",
  DriftCorrectionPaused: "Warning",
  MigrationChanged: "Warning",
  MigrationAheadOfVersion: "Warning",
  MigrationOrderInverted: "Warning",
  AnnotationIgnored: "Warning",
  PromotionUnused: "Normal",
  TargetChanged: "Warning",
  ImageVerificationExempted: "Normal",
} as const satisfies Readonly<Record<string, EventType>>;

export type EventReason = keyof typeof eventReasons;

/** Reasons only events about a FleetRollout have. */
export const fleetEventReasons = {
  Halted: "Warning",
  Completed: "Normal",
  WaveOpened: "Normal",
  MemberNotPaced: "Warning",
} as const satisfies Readonly<Record<string, EventType>>;

export type FleetEventReason = keyof typeof fleetEventReasons;
