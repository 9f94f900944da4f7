import { isReadyReason, reasonInfo, type ReadyReason } from "../../api/reasons.ts";
import { asArray, asObject, asText, at } from "../../lib/json.ts";
import { causeOf, type Cause, type CauseKind, type ConditionView, type JudgedCause } from "./cause.ts";
import {
  approveCommand,
  describeCommand,
  overrideBudgetCommand,
  reconcileCommand,
  updateNowCommand,
  type StageSetName,
} from "./commands.ts";

/** What each reason of Ready is about; those of stages are told by the stage. */
const kindOf: Readonly<Partial<Record<ReadyReason, CauseKind>>> = {
  Suspended: "suspended",
  InvalidSpec: "spec",
  Stalled: "dependency",
  DependencyNotReady: "dependency",
  SourceNotReady: "source",
  ArtifactNotFound: "source",
  ResolveFailed: "source",
  PreviousRevisionUnavailable: "rollback",
  UpdateDeferred: "window",
  BudgetExhausted: "budget",
  BudgetSourceUnavailable: "budget",
  RBACDenied: "connection",
  InvalidVersion: "version",
  DowngradeNotAllowed: "version",
  DowngradeRequiresMigration: "version",
  MigrationFailed: "migration",
  MigrationDirty: "migration",
  MigrationStageNotFound: "migration",
  MigrationArtifactInvalid: "migration",
  MigrationSourceNotVerified: "migration",
  MigrationSourceNotPinned: "migration",
  MigrationCoverageMissing: "migration",
  AwaitingApproval: "approval",
  ImageUnverified: "image",
  ActionDirty: "preAction",
  Soaking: "promotion",
  AwaitingPromotion: "promotion",
  PromotionBlocked: "promotion",
};

/** Who ends what, where the kind tells it. */
const clearedBy: Readonly<Partial<Record<CauseKind, string>>> = {
  spec: "whoever corrects the spec",
  dependency: "the StageSet it depends on, once it is Ready",
  source: "the source, once it offers a usable artifact",
  rollback: "whoever publishes that revision again, or leads elsewhere",
  window: "the update window, once it opens, or an override",
  budget: "the metric, once there is budget again, or an override",
  connection: "whoever grants what is missing, or makes the target reachable",
  version: "whoever corrects the version, or allows the downgrade",
  migration: "a try that succeeds, or whoever corrects the migration",
  approval: "whoever approves the version",
  preflight: "whoever corrects what is published, or its keys and variables",
  preAction: "a try that succeeds, or whoever corrects the action",
  image: "whoever signs the image, or corrects the policy",
  apply: "a try that succeeds, or whoever corrects the manifests",
  verify: "its objects, once they are ready",
  postAction: "a try that succeeds, or whoever corrects the action",
  prune: "a try that succeeds",
};

export function whoClears(kind: CauseKind): string | undefined {
  return clearedBy[kind];
}

/**
 * What the Ready condition says, unless it is about a stage at work; undefined: nothing is wrong. A hold leaves Ready
 * True for what is deployed: the record of what is held back tells it then.
 */
export function readyCause(of: StageSetName, status: unknown, ready: ConditionView): JudgedCause | undefined {
  if (ready.status === "True") return heldCause(of, status, ready);
  const { reason, message, reasonSince } = ready;
  const known = isReadyReason(reason) ? reason : undefined;
  const kind = (known === undefined ? undefined : kindOf[known]) ?? "apply";
  const state = known !== undefined && reasonInfo(known).class === "failure" ? "failing" : "waiting";
  const frozen = reason === "BudgetExhausted" ? frozenBudget(of, status) : undefined;
  const cause = causeOf({
    kind,
    stage: frozen?.stage,
    reason,
    message,
    since: frozen?.since ?? reasonSince,
    until: kind === "window" ? asText(at(status, "pendingUpdate", "nextWindowOpens")) : undefined,
    clearedBy: clearedBy[kind],
    command: commandFor(of, { kind, status }),
  });
  return { state, cause };
}

/** A new revision is held back from what is deployed. */
function heldCause(of: StageSetName, status: unknown, { message }: ConditionView): JudgedCause | undefined {
  if (!message.startsWith("Deployed; ")) return undefined;
  const recorded =
    windowCause(of, status) ??
    frozenBudget(of, status) ??
    causeOf({
      kind: "budget",
      reason: "BudgetSourceUnavailable",
      message,
      clearedBy: clearedBy.budget,
      command: overrideBudgetCommand(of),
    });
  return { state: "waiting", cause: { ...recorded, message: message.slice("Deployed; ".length) } };
}

/** The first error budget that freezes: the StageSet's own, else that of a stage. */
function frozenBudget(of: StageSetName, status: unknown): Cause | undefined {
  const own = budgetCause(of, at(status, "budgetFreeze"), undefined);
  if (own !== undefined) return own;
  for (const stage of asArray(at(status, "stages"))) {
    const cause = budgetCause(of, at(stage, "budgetFreeze"), asText(at(stage, "name")));
    if (cause !== undefined) return cause;
  }
  return undefined;
}

/** What update windows hold back, as it is on record. */
export function windowCause(of: StageSetName, status: unknown): Cause | undefined {
  const pending = asObject(at(status, "pendingUpdate"));
  if (pending === undefined) return undefined;
  const held = Object.entries(asObject(pending["revisions"]) ?? {}).map(
    ([source, revision]) => `${source} at ${String(revision)}`,
  );
  return causeOf({
    kind: "window",
    reason: "UpdateDeferred",
    message: held.length === 0 ? "update windows are closed" : `held back: ${held.toSorted().join(", ")}`,
    until: asText(pending["nextWindowOpens"]),
    clearedBy: clearedBy.window,
    command: updateNowCommand(of),
  });
}

/** An error budget that freezes, the StageSet's or a stage's; undefined also for a dry run. */
export function budgetCause(of: StageSetName, freeze: unknown, stage: string | undefined): Cause | undefined {
  const fields = asObject(freeze);
  if (fields === undefined || fields["dryRun"] === true) return undefined;
  const remaining = asText(fields["remaining"]) ?? "unknown";
  const resumes = asText(fields["resumeThreshold"]) ?? asText(fields["freezeThreshold"]) ?? "unknown";
  return causeOf({
    kind: "budget",
    stage,
    reason: "BudgetExhausted",
    message: `error budget is exhausted: ${remaining} remaining, resumes at ${resumes}`,
    since: asText(fields["since"]),
    clearedBy: clearedBy.budget,
    command: overrideBudgetCommand(of),
  });
}

/** A version that waits for somebody. */
export function approvalCause(of: StageSetName, status: unknown): Cause | undefined {
  const version = asText(at(status, "pendingVersion"));
  if (version === undefined) return undefined;
  return causeOf({
    kind: "approval",
    reason: "AwaitingApproval",
    message: `version ${version} waits for its approval`,
    clearedBy: clearedBy.approval,
    command: approveCommand(of, version),
  });
}

function commandFor(
  of: StageSetName,
  { kind, status }: { readonly kind: CauseKind; readonly status: unknown },
): string | undefined {
  switch (kind) {
    case "window":
      return updateNowCommand(of);
    case "budget":
      return overrideBudgetCommand(of);
    case "approval": {
      const version = asText(at(status, "pendingVersion"));
      return version === undefined ? describeCommand(of) : approveCommand(of, version);
    }
    case "spec":
    case "promotion":
      return describeCommand(of);
    default:
      return reconcileCommand(of);
  }
}
