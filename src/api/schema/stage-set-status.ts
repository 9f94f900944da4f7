import { choice, flag, format, int32, int64, list, object, optional, text, textMap, time } from "./field.ts";
import { budgetFreeze, conditions, snapshotStages } from "./shared.ts";

export const stagePhases = ["Pending", "Applying", "Pruning", "Verifying", "Ready", "Failed"] as const;

const promotionState = () =>
  object("Where the stage stands at its promotion gate; keyed to the applied revision.", {
    phase: optional(text("Soaking, Analyzing, Blocked, AwaitingManual or Promoted.")),
    since: optional(time("When the stage was first seen ready at this revision, past its post actions.")),
    soakUntil: optional(time("When the soak ends.")),
    windowStart: optional(time("When the first apply of this revision began: earlier events do not count.")),
    analysisFailures: optional(int32("Failed evaluations in a row.")),
    restartCheck: optional(text("Restart check that blocks.")),
    observedRestarts: optional(int32("Restarts that check has counted.")),
    restartBaseline: optional(
      list(
        object("Restarts of one check's pods when counting began.", {
          name: text("Name of the check."),
          restarts: optional(int32("Restarts of all its pods.")),
          time: optional(time("When they were counted.")),
          pods: optional(
            list(
              object("Restarts of one pod.", {
                uid: text("UID of the pod."),
                restarts: optional(int32("Restarts of its containers.")),
              }),
              "Restarts of each pod.",
            ),
          ),
        }),
        "Restarts before counting began; it survives revisions and is reset by a promotion.",
      ),
    ),
    eventCheck: optional(text("Event check that blocks.")),
    observedEvents: optional(int32("Events that check has counted.")),
    abortedRevision: optional(text("Revision the gate rolled back from.")),
    abortedDigest: optional(text("Digest of the artifact the gate rolled back from.")),
    lastAnalysis: optional(
      object("The last evaluation of the analysis.", {
        time: optional(time("When it was made.")),
        passed: optional(flag("Whether all checks passed.")),
        checks: optional(
          list(
            object("Result of one check.", {
              name: text("Name of the check."),
              value: optional(format("decimal", "Value that was read.")),
              ok: optional(flag("Whether the value is within its bounds.")),
              error: optional(text("Why no value was read.")),
            }),
            "Result of each check.",
          ),
        ),
      }),
    ),
  });

const stageStatus = () =>
  object("State of one stage.", {
    name: text("Name of the stage."),
    phase: optional(choice(stagePhases, "What is being done with the stage.")),
    appliedRevision: optional(text("Last revision of which every object was accepted.")),
    appliedDigest: optional(text("Digest of the artifact of that revision.")),
    enteredRevision: optional(text("Revision the stage last began, written before its first side effect.")),
    enteredDigest: optional(text("Digest of the artifact of that revision.")),
    entriesCount: optional(int64("Objects in the inventory.")),
    shards: optional(int32("StageInventory objects that hold the inventory.")),
    message: optional(text("What is going on, for people; at most 8192 characters.")),
    executedActions: optional(list(text("Name of an action."), "Revision actions completed at ledgerRevision.")),
    ledgerRevision: optional(text("Revision executedActions belongs to.")),
    executedVersionActions: optional(list(text("Name of an action."), "Version actions completed at ledgerVersion.")),
    ledgerVersion: optional(text("Version executedVersionActions belongs to.")),
    lastHandledReconcileAt: optional(text("Last handled token of the reconcile-stage annotation.")),
    promotionState: optional(promotionState()),
    lastHandledPromotion: optional(text("Last consumed token of the promote annotation.")),
    pendingPromotion: optional(
      object("A promotion that was asked for and is bound to what it promotes.", {
        token: optional(text("Token of the promote annotation.")),
        revision: optional(text("Revision it promotes.")),
        digest: optional(text("Digest of the artifact it promotes.")),
      }),
    ),
    budgetFreeze: optional(budgetFreeze("Freeze of this stage by its error budget.")),
    verifiedImages: optional(
      list(
        object("A verified image.", {
          image: optional(text("Image as the manifest has it.")),
          digest: optional(text("Digest that was verified.")),
          revision: optional(text("Revision of the stage it was verified for.")),
        }),
        "Images whose signatures were verified, at most 256.",
      ),
    ),
    waitingFor: optional(
      list(
        object("An object that is not ready.", {
          kind: text("Kind of the object."),
          namespace: optional(text("Namespace of the object.")),
          name: text("Name of the object."),
          status: optional(text("Readiness of the object.")),
          message: optional(text("What it lacks, and why if its pods tell it.")),
          since: optional(time("Since when it is waited for.")),
        }),
        "What the stage waits for now, at most 10 objects.",
      ),
    ),
  });

export const stageStatusSchema = stageStatus();

const pendingMigrations = () =>
  list(
    object("A migration the next run executes.", {
      name: text("Name of the migration."),
      to: text("Version the migration leads to."),
      from: optional(text("Versions the migration is for.")),
      stage: optional(text("Stage before which it runs.")),
      actions: optional(
        list(text("What an action does: patch, http, wait, job, delete or apply."), "Its actions, in order."),
      ),
      digest: optional(text("Digest of the migration.")),
    }),
    "Migrations the next run executes, in order.",
  );

const overrides = {
  lastHandledUpdateOverride: optional(text("Last consumed token of the update-now annotation.")),
  updateOverrideFor: optional(text("What that token lets through.")),
  lastHandledBudgetOverride: optional(text("Last consumed token of the budget-override annotation.")),
  budgetOverrideFor: optional(text("What that token lets through.")),
  lastHandledResetScope: optional(text("Last consumed token of the reset-scope annotation.")),
  lastHandledRollbackTo: optional(text("Last handled value of the rollback-to annotation.")),
};

const history = {
  lastAppliedSnapshot: optional(snapshotStages("Artifacts of the last fully successful run, to roll back to.")),
  snapshotHistory: optional(
    list(
      object("Artifacts of one successful run.", {
        version: optional(text("Version that was deployed.")),
        generation: optional(int64("Generation of the spec.")),
        appliedAt: optional(time("When the run ended.")),
        stages: optional(snapshotStages("Artifact of each stage.")),
      }),
      "Earlier successful runs, newest first.",
    ),
  ),
  rollback: optional(
    object("The rollback in progress, or the last one.", {
      phase: optional(choice(["InProgress", "Done"], "Whether it is over.")),
      trigger: optional(text("What asked for it.")),
      failedFor: optional(text("What failed and was rolled back from.")),
      fromVersion: optional(text("Version it leads away from.")),
      toVersion: optional(text("Version it leads back to.")),
      attempts: optional(int32("Runs towards what failed.")),
      time: optional(time("When the phase began.")),
    }),
  ),
};

export const stageSetStatus = () =>
  object("What the controller has observed and done.", {
    observedGeneration: optional(int64("Generation of the spec the status describes.")),
    conditions: optional(conditions()),
    lastHandledReconcileAt: optional(text("Last handled value of the reconcile.fluxcd.io/requestedAt annotation.")),
    lastAttemptedRevisions: optional(
      textMap("Revisions of the current or last started run, by `<namespace>/<name>` of the source."),
    ),
    lastAppliedRevisions: optional(textMap("Revisions of the last fully successful run, by source.")),
    stages: optional(list(stageStatus(), "State of each stage, in the order of the spec.")),
    version: optional(text("Deployed version.")),
    pendingVersion: optional(text("Version that waits for an approval.")),
    pendingMigrations: optional(pendingMigrations()),
    executedMigrations: optional(
      list(text("`name@digest` of a migration."), "Migrations completed in the transition under way."),
    ),
    lastActionCompletion: optional(
      text(
        "Stamp of the last completion of an action on record; a Job that was complete before it counts for no run after it.",
      ),
    ),
    executedMigrationActions: optional(
      list(text("`name@digest/action` of a migration's action."), "Migration actions completed in that transition."),
    ),
    migrationFailureCount: optional(int32("Failures of migrations in a row; 5 halt all migrations.")),
    actionFailureCount: optional(int32("Passes in a row ended by a failed Lifetime action; 5 halt all actions.")),
    pendingUpdate: optional(
      object("What a closed window holds back.", {
        revisions: optional(textMap("Revisions that wait, by source.")),
        nextWindowOpens: optional(time("When updates are next allowed.")),
      }),
    ),
    budgetFreeze: optional(budgetFreeze("Freeze of the whole roll-out by its error budget.")),
    imageVerificationSkip: optional(
      object("Revisions whose images are not verified.", {
        token: optional(text("Value of the skip-image-verification annotation.")),
        generation: optional(
          int64("Of the spec when the value was first seen; its actions are verified once it is another."),
        ),
        revisions: optional(textMap("Revision by stage.")),
        digests: optional(textMap("Digest of the artifact by stage: a revision may be published anew.")),
      }),
    ),
    ...overrides,
    ...history,
  });

export const stageSetStatusSchema = stageSetStatus();
