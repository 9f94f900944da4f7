import {
  eventReasons,
  hasRunbookLink,
  readyReasons,
  runbookId,
  type EventReason,
  type ReasonClass,
  type ReasonNext,
} from "../src/api/reasons.ts";
import { reasonsWithRunbook } from "../src/api/runbook.ts";
import { environmentName } from "../src/main/flag-syntax.ts";
import { flagSections } from "../src/main/flags.ts";
import { describeFlag, shapeOf } from "../src/main/help.ts";
import { createMetrics } from "../src/observe/metrics.ts";

const written = (command: string): string => `<!-- Written by "${command}"; change it in the code. -->`;
const cell = (text: string): string => text.replaceAll("|", "\\|");

function table(head: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map((row) => line(row.map(cell)))];
}

/** Every flag, as `--help` has it. */
export function renderFlagReference(command: string): string {
  const lines = [
    written(command),
    "# Flags",
    "",
    "Of `stageset-controller`. Each can also be given in the environment; the flag wins, and an empty variable is unset. Wrong values, and",
    "values of features a build does not have, end the process with exit code 2 before it contacts anything, all of them listed.",
  ];
  for (const { title, flags } of flagSections)
    lines.push(
      "",
      `## ${title}`,
      "",
      ...table(
        ["Flag", "Variable", "Meaning"],
        flags.map((flag) => [
          `\`--${flag.name}${shapeOf(flag)}\``,
          `\`${environmentName(flag.name)}\``,
          describeFlag(flag),
        ]),
      ),
    );
  return [...lines, ""].join("\n");
}

/** Every family the process exports; those of StageSets come from the leader, but for `stageset_stage_ready`. */
export function renderMetricReference(command: string): string {
  const metrics = createMetrics({ version: "", commit: "", workers: 1 });
  metrics.stageReady(() => []);
  metrics.memoryPressure(() => 0);
  metrics.queue.read(() => ({ depth: 0, running: 0, runningMs: () => [] }));
  const rows = metrics
    .families()
    .toSorted((a, b) => Number(b.name.startsWith("stageset_")) - Number(a.name.startsWith("stageset_")))
    .map(({ name, type, labels, help }) => [
      `\`${name}\``,
      type,
      labels.map((label) => `\`${label}\``).join(", "),
      help,
    ]);
  return [
    written(command),
    "# Metrics",
    "",
    "`GET /metrics` on port 8080, in the Prometheus text format or, when asked for, OpenMetrics. Series about StageSets are exported by the",
    "replica that leads; `stageset_stage_ready` by every replica, so aggregate it with `max by (namespace, stageset, stage)`. The label `namespace` is the",
    "StageSet's: scrape with `honor_labels: true`.",
    "",
    ...table(["Family", "Type", "Labels", "Meaning"], rows),
    "",
  ].join("\n");
}

const classNames: Readonly<Record<ReasonClass, string>> = {
  healthy: "healthy: nothing to do",
  running: "running: a release is under way",
  hold: "hold: somebody asked for it",
  waiting: "waiting: should end by itself",
  failure: "failure",
};
const nextNames: Readonly<Record<ReasonNext, string>> = {
  interval: "`spec.interval`",
  retry: "`spec.retryInterval`",
  minute: "a minute",
  backoff: "1 s, doubling up to `spec.retryInterval`",
  gate: "the gate's own time",
  never: "never",
  run: "with the run",
};

/** Every reason of a StageSet's Ready condition. */
export function renderReasonReference(command: string): string {
  const rows = Object.entries(readyReasons).map(([reason, info]) => [
    reasonsWithRunbook.some((each) => each === reason)
      ? `[\`${reason}\`](../runbooks/${reason.toLowerCase()}.md)`
      : `\`${reason}\``,
    info.status,
    classNames[info.class],
    nextNames[info.next],
  ]);
  const linked = reasonsWithRunbook.filter(hasRunbookLink).map(runbookId).length;
  return [
    written(command),
    "# Reasons",
    "",
    `Of the \`Ready\` condition of a StageSet. Messages of ${linked} of them end with a link to their runbook. "Looks again" is when the controller`,
    "looks again without any event; a change of what it waits for starts it at once.",
    "",
    ...table(["Reason", "Status", "Class", "Looks again"], rows),
    "",
  ].join("\n");
}

const occasions: Readonly<Record<EventReason, string>> = {
  DriftCorrected: "objects were changed or removed from outside and put right; their number, then their names",
  DriftContested: "another writer keeps undoing what a stage applies; which object and which fields",
  RolledBack: "the last good revisions were restored",
  InventoryReconstructed: "a lost inventory was rebuilt from labels; nothing is pruned in that pass",
  PreflightFinding: "what a later stage of a release would be refused now, and may not be when its turn comes",
  TeardownForced: "the finalizer was dropped although objects may remain; how long it took and the last error",
  OnFailureAction: "an action on failure did not succeed",
  OnRollbackAction: "an action on rollback did not succeed",
  RollbackStoreFailed: "content could not be stored for a rollback",
  MigrationStarted: "a migration starts",
  MigrationCompleted: "a migration is done",
  MigrationFailed: "a migration failed",
  MigrationsBaselined: "the version was recorded at adoption and nothing was run",
  MigrationSourceMutable: "migrations come from a source that is not pinned",
  ActionSkipped: "an action of this version was not run again for a new revision",
  LedgerAdopted: "a ledger that was there before is used",
  LedgerInvalidated: "what an action was recorded for is gone; it runs again",
  LedgerAnchorUnreadable: "the object an action is recorded for cannot be read",
  BaselineInvalid: "a baseline names no action that runs once in a lifetime",
  ImageVerificationSkipped: "images were not verified because somebody broke the glass",
  HelmHookApplied: "a Helm hook was applied as an ordinary object",
  DriftCorrectionPaused: "the content of a stage that is held back cannot be had",
  MigrationChanged: "a migration differs from the one that was run",
  MigrationAheadOfVersion: "a migration was run that is above the version",
  MigrationOrderInverted: "migrations are not in the order of their versions",
  AnnotationIgnored: "an annotation or control is malformed, too long, or names an unknown stage",
  PromotionUnused: "there was nothing to promote, or its pin has changed (then a Warning)",
  TargetChanged: "`kubeConfig` names another cluster",
  ImageVerificationExempted: "a policy leaves images out",
};

/** Every reason of an Event. */
export function renderEventReference(command: string): string {
  return [
    written(command),
    "# Events",
    "",
    "`events.k8s.io/v1`, reported by `stageset-controller` about the StageSet; `action` equals `reason`, notes are at most 1024 bytes. A change of the",
    "`Ready` status or reason is one Event with that [reason](reasons.md): Normal if Ready is `True`, else Warning; none for `Progressing`. The annotation",
    "`stages.metio.wtf/revision` tells what the StageSet was pinned to. An Event that says the same about the same object again within ten minutes is",
    "counted and not written again. With `--events-addr` each is also posted as JSON in the shape of Flux' notifications; a Flux `Alert` cannot select",
    "StageSets.",
    "",
    ...table(
      ["Reason", "Type", "When"],
      Object.entries(eventReasons).map(([reason, type]) => [
        `\`${reason}\``,
        type,
        // The keys of both are the same.
        occasions[reason as EventReason],
      ]),
    ),
    "",
  ].join("\n");
}
