import type { Stage, StageSetStatus } from "../../api/stage-set.ts";
import { isRunOf, type ActionCall, type ActionOutcome, type ActionRun } from "../actions/action-run.ts";
import { lastCompletion } from "../actions/last-completion.ts";
import { failure, imageFailure, stageFailure, type Failure } from "../failure.ts";
import { renderVersion } from "../formats/version.ts";
import { dirtyAfter } from "../holds/dirty-halt.ts";
import { quote } from "../validation/finding.ts";
import { completionKey, stepKey, stepsLeft, stepsOf, withCompletion, withStep } from "../versions/migration-ledger.ts";
import { migrationsBefore, type PlannedMigration } from "../versions/plan-transition.ts";
import { actionTokens, requirements } from "./action-step.ts";
import { begin, connect } from "./begin.ts";
import { endFailed } from "./finish.ts";
import { actionSkip } from "./image-skip.ts";
import { stageIdentity } from "./plan.ts";
import { withRecorded } from "./migration-record.ts";
import type { ReleaseVersion } from "./release-version.ts";
import type { PassEvent, Step } from "./step.ts";
import { record, runMemory, type StageTurn } from "./turn.ts";

/** One migration in the turn of the stage it is placed at. */
interface MigrationTurn {
  readonly turn: StageTurn;
  readonly version: ReleaseVersion;
  readonly planned: PlannedMigration;
}

/**
 * The next step of the migrations that are placed before the stage, in their order (spec 30 §8); undefined when none is
 * left. The stage has begun, on record, before the first of them, and each is on record before the next.
 */
export function migrationStep(turn: StageTurn): Step | undefined {
  const { state, plan, goal } = turn;
  const { version, spec } = plan;
  if (version?.plan === undefined || !goal.acts) return undefined;
  const [planned] = migrationsBefore(version.plan, goal.stage);
  if (planned === undefined) return undefined;
  const { defaultServiceAccount } = state.options;
  const named: Partial<Stage> = spec.stages.find(({ name }) => name === planned.stage) ?? {};
  const as = stageIdentity(spec, named, defaultServiceAccount);
  return connect(turn, as) ?? begin(turn, "as rendered before") ?? runStep({ turn, version, planned }, as);
}

function runStep(migration: MigrationTurn, as: ActionCall["as"]): Step {
  const { turn, version, planned } = migration;
  const { state, goal, identity } = turn;
  const { rung, direction } = planned;
  const [action] = stepsLeft(rung, direction, version.recorded);
  if (action === undefined) return complete(migration);
  const after = withStep(version.rungs, version.recorded, { rung, direction, action });
  const kept = new Set([...after.migrations, ...after.actions]);
  const call: ActionCall = {
    ...{ stage: goal.stage, list: direction, action, as },
    revision: identity.revision,
    // A pin that moves after a crash would else have another Job made of the step.
    ledgerKey: renderVersion(rung.to),
    tokens: actionTokens(state, goal.stage),
    after: lastCompletion(action, state.stored),
    generation: state.snapshot.generation,
    uid: state.snapshot.uid,
    ...actionSkip(state, {
      stage: goal.stage,
      identity,
      isSourced: state.snapshot.spec?.migrationsSourceRef !== undefined,
    }),
    migration: {
      key: completionKey(rung, "up"),
      entry: stepKey(rung, direction, action),
      drops: [...version.recorded.migrations, ...version.recorded.actions].filter((entry) => !kept.has(entry)),
    },
  };
  const { action: run } = state.memory;
  if (run?.outcome?.kind === "failed" && isRunOf(run, call)) return fail(migration, run, run.outcome);
  const progress = runMemory(turn);
  return {
    kind: "do",
    effect: { kind: "action", stage: goal.stage, call },
    requires: requirements(turn),
    remember: {
      action: { call, outcome: undefined },
      failureCounted: false,
      // What a step changes may be what the stage is rendered from: it is read after it.
      run: progress && { ...progress, begun: false },
    },
    events: isFirst(migration) ? [...startEvents(migration)] : [],
  };
}

/** Nothing of this direction is on record. */
function isFirst({ version, planned: { rung, direction } }: MigrationTurn): boolean {
  return stepsLeft(rung, direction, version.recorded).length === stepsOf(rung, direction).length;
}

/** Every step is on record: so is the migration, by the same write or one that follows at once. */
function complete(migration: MigrationTurn): Step {
  const { turn, version, planned } = migration;
  const { rung, direction } = planned;
  const completed = record(turn, {}, {});
  if (completed.write.kind !== "status") throw new TypeError("a record of a stage is of its status");
  const recorded = withCompletion(version.rungs, version.recorded, { rung, direction });
  const status = withoutPending(withRecorded(completed.write.status, recorded), planned);
  const started = stepsOf(rung, direction).length === 0 ? [...startEvents(migration)] : [];
  const note = `${textOf(migration)} is completed`;
  return {
    ...completed,
    write: { kind: "status", status },
    events: [...started, { type: "Normal", reason: "MigrationCompleted", note, once: undefined }],
    joinsNext: "once prepared",
  };
}

function withoutPending(status: StageSetStatus, { rung }: PlannedMigration): StageSetStatus {
  const { pendingMigrations = [], ...rest } = status;
  const left = pendingMigrations.filter(({ name }) => name !== rung.migration.name);
  return left.length === 0 ? rest : { ...rest, pendingMigrations: left };
}

function* startEvents({ version, planned }: MigrationTurn): Generator<PassEvent> {
  if (planned.changed) {
    const { name } = planned.rung.migration;
    const note = `migration ${quote(name)} was changed since some of its steps ran: all of its steps run, from the first`;
    yield { type: "Warning", reason: "MigrationChanged", note, once: `changed ${completionKey(planned.rung, "up")}` };
  }
  yield { type: "Normal", reason: "MigrationStarted", note: `${textOf({ version, planned })} runs`, once: undefined };
}

/** What Events call it: direction, name and boundary. */
function textOf({ version, planned }: Pick<MigrationTurn, "version" | "planned">): string {
  const { rung, direction, placed } = planned;
  const { name, to } = rung.migration;
  const of = direction === "down" ? "rollback of migration" : "migration";
  return `${of} ${quote(name)} to ${to}, before stage ${quote(placed)}${version.origin === "" ? "," : version.origin}`;
}

/** A failed step, told when the pass ends; the one that halts every migration, with the record that does. */
function fail(migration: MigrationTurn, run: ActionRun, outcome: Extract<ActionOutcome, { kind: "failed" }>): Step {
  const { turn } = migration;
  const why = whyFailed(migration, run, outcome);
  const ended = endFailed(turn.state, why);
  const cause = why.stage?.cause ?? why.message;
  const note = `${textOf(migration)} failed: ${cause}`;
  const told: PassEvent = { type: "Warning", reason: "MigrationFailed", note, once: undefined };
  if (ended.kind === "end") return { ...ended, outcome: { ...ended.outcome, events: [...ended.outcome.events, told] } };
  const halts =
    ended.kind === "record" &&
    ended.write.kind === "status" &&
    (ended.write.status.migrationFailureCount ?? 0) >= dirtyAfter;
  return halts ? { ...ended, events: [told] } : ended;
}

function whyFailed(
  { turn, planned }: MigrationTurn,
  run: ActionRun,
  outcome: Extract<ActionOutcome, { kind: "failed" }>,
): Failure {
  if (outcome.class === "source") return failure("SourceNotReady", outcome.cause);
  const { rung, direction } = planned;
  const name = `${direction === "down" ? "rollback of " : ""}${quote(rung.migration.name)}`;
  const cause = `${name}, action ${quote(run.call.action.name)}: ${outcome.cause}`;
  const stage = { name: turn.goal.stage, operation: "migration", cause } as const;
  if (outcome.class === "permanent") return stageFailure(stage, "authorization");
  if (outcome.class === "image") return imageFailure(stage, "refused");
  if (outcome.class === "unknownImage") return imageFailure(stage, "unknown");
  return { ...stageFailure(stage), reason: "MigrationFailed", counts: "migration" };
}
