import { reasonInfo } from "../../api/reasons.ts";
import type { StageSetSpec, StageSetStatus } from "../../api/stage-set.ts";
import { deepEqual } from "../../lib/equal.ts";
import { renderVersion } from "../formats/version.ts";
import type { Failure } from "../failure.ts";
import type { GoalInput, Hold } from "../holds/hold.ts";
import { cannotRelease } from "../holds/not-built.ts";
import { minuteMs } from "../timing.ts";
import { decideVersion, type VersionDecision } from "../versions/decide-version.ts";
import { recordedOf, rungsOf, type Rung } from "../versions/migration-ledger.ts";
import { pendingMigrations, type TransitionPlan } from "../versions/plan-transition.ts";
import { quote } from "../validation/finding.ts";
import { planGoals, type Goals } from "./goals.ts";
import { factOf } from "./plan.ts";
import type { ReleaseVersion } from "./release-version.ts";
import type { PassState, SourcedLadder } from "./state.ts";
import type { PassEvent, Step } from "./step.ts";
import { isUnchecked, stageVersionsRecord, takeoverRecord } from "./takeover.ts";
import { wantedVersion } from "./wanted-version.ts";

/** What the version holds, or what has to be done before that is known and on record. */
export type VersionStep =
  { readonly kind: "version"; readonly goals: Goals; readonly version: ReleaseVersion | undefined } | Step;

/**
 * Plans the version (spec 30 §6, spec 40 §1 step 9) from the artifacts that `goals`, those without it, put in effect: a
 * stage that is held causes no transition. What is refused or not approved is an entry hold.
 */
export function versionStep(state: PassState, given: GoalInput, goals: Goals): VersionStep {
  const { spec } = given;
  const settled = stageVersionsRecord(state);
  if (settled !== undefined) return settled;
  if (spec.version === undefined)
    return (
      pendingRecord(state, { version: undefined, plan: undefined }) ?? { kind: "version", goals, version: undefined }
    );
  const unchecked = isUnchecked(state);
  const input: GoalInput = unchecked ? { ...given, unchecked: true } : given;
  const unknown = (): VersionStep => ({
    kind: "version",
    goals: unchecked ? planGoals({ ...input, versionHold: goals.hold ?? uncheckedHold(input) }) : goals,
    version: undefined,
  });
  if (goals.halt !== undefined || goals.standstill) return unknown();
  const wanted = wantedVersion(state, spec.version, goals);
  if (wanted.kind === "step") return wanted.step;
  if (wanted.kind === "unknown") return unknown();
  if (wanted.kind === "refused") {
    const { message } = wanted;
    return hold(state, { input, goals }, { kind: "refused", reason: "InvalidVersion", message });
  }
  const { text } = wanted;
  const decision = decide(state, { spec, wanted, rungs: undefined });
  if (decision.kind !== "needsLadder") return decided(state, { input, goals, text, ...noLadder }, decision);
  const missing = cannotRelease(input);
  if (missing !== undefined) return held(input, missing);
  const ladder = ladderOf(state, spec);
  if (ladder.kind === "need") return ladder;
  if (ladder.kind === "refused") {
    const { reason, message } = ladder.why;
    return hold(state, { input, goals }, { kind: "refused", reason, message });
  }
  const { rungs, origin } = ladder;
  return (
    takeoverRecord(state, rungs) ??
    decided(state, { input: given, goals, text, rungs, origin }, decide(state, { spec, wanted, rungs }))
  );
}

/** What is said where nothing else holds. */
function uncheckedHold({ now }: GoalInput): Hold {
  const message = "which of another controller's migrations ran is looked at once the version to go to is known";
  return { kind: "refusal", reason: "InvalidVersion", message, until: now + minuteMs };
}

const noLadder = { rungs: [], origin: "" } as const;

type Ladder =
  | ({ readonly kind: "ladder" } & SourcedLadder)
  | { readonly kind: "refused"; readonly why: Failure }
  | Extract<Step, { kind: "need" }>;

/** The migrations of the spec, or of the artifact it names. */
function ladderOf(state: PassState, spec: StageSetSpec): Ladder {
  if (spec.migrationsSourceRef === undefined) return { kind: "ladder", rungs: inlineRungs(spec), origin: "" };
  const key = { kind: "ladder" } as const;
  const fact = factOf(state, key);
  if (fact === undefined) return { kind: "need", facts: [key] };
  if (fact.kind === "failed") return { kind: "refused", why: fact.failure };
  if (fact.kind !== "ladder") throw new TypeError("the ladder fact is of another kind");
  return "refused" in fact ? { kind: "refused", why: fact.refused } : { kind: "ladder", ...fact.ladder };
}

interface Judged {
  readonly input: GoalInput;
  readonly goals: Goals;
}

function decide(
  { snapshot, stored: { status } }: PassState,
  from: {
    readonly spec: StageSetSpec;
    readonly wanted: { readonly text: string; readonly origin: string };
    readonly rungs: readonly Rung[] | undefined;
  },
): VersionDecision {
  const { spec, wanted, rungs } = from;
  return decideVersion({
    rules: spec.version ?? {},
    wanted,
    directed: false,
    deployed: status.version,
    annotations: snapshot.annotations,
    recorded: recordedOf(status),
    stageVersions: (status.stages ?? []).flatMap(({ ledgerVersion }) => ledgerVersion ?? []),
    stages: spec.stages,
    rungs,
  });
}

function decided(
  state: PassState,
  judged: Judged & SourcedLadder & { readonly text: string },
  decision: VersionDecision,
): VersionStep {
  const { input, text, rungs, origin } = judged;
  switch (decision.kind) {
    case "needsLadder":
      throw new TypeError("the ladder was read, and is asked for again");
    case "refused":
    case "held":
      return hold(state, judged, decision);
    case "adoption":
    case "run": {
      const plan = decision.kind === "run" ? decision.plan : undefined;
      const recorded = recordedOf(state.stored.status);
      const key = renderVersion(decision.wanted);
      const version = { text, key, adopted: decision.kind === "adoption", plan, rungs, origin, recorded };
      return (
        pendingRecord(state, { version: undefined, plan }) ?? {
          kind: "version",
          goals: planGoals({ ...input, version: key }),
          version,
        }
      );
    }
  }
}

function hold(
  state: PassState,
  { input }: Judged,
  decision: Extract<VersionDecision, { readonly kind: "refused" | "held" }>,
): VersionStep {
  // What only somebody else's object can mend is looked at as a source is.
  const waits = decision.kind === "refused" && reasonInfo(decision.reason).class === "waiting";
  const until = input.now + (waits ? input.retryMs : minuteMs);
  if (decision.kind === "refused")
    return (
      pendingRecord(state, { version: undefined, plan: undefined }) ??
      held(input, { kind: "refusal", reason: decision.reason, message: decision.message, until })
    );
  return (
    pendingRecord(state, { version: renderVersion(decision.wanted), plan: decision.plan }) ??
    held(input, { kind: "refusal", reason: "AwaitingApproval", message: decision.message, until })
  );
}

function held(input: GoalInput, versionHold: Hold): VersionStep {
  return { kind: "version", goals: planGoals({ ...input, versionHold }), version: undefined };
}

/** `pendingVersion` and `pendingMigrations` (steps 9 and 10 of spec 30 §6); undefined when they are on record. */
function pendingRecord(
  { stored: { status } }: PassState,
  { version, plan }: { readonly version: string | undefined; readonly plan: TransitionPlan | undefined },
): Extract<Step, { kind: "record" }> | undefined {
  const migrations = plan === undefined ? [] : pendingMigrations(plan);
  if (version === status.pendingVersion && deepEqual(migrations, status.pendingMigrations ?? [])) return undefined;
  const { pendingVersion: _version, pendingMigrations: _migrations, ...rest } = status;
  const next: StageSetStatus = {
    ...rest,
    ...(version === undefined ? {} : { pendingVersion: version }),
    ...(migrations.length === 0 ? {} : { pendingMigrations: migrations }),
  };
  return {
    kind: "record",
    write: { kind: "status", status: next },
    events: plan === undefined ? [] : [...planEvents(plan)],
    joinsNext: "once prepared",
  };
}

function* planEvents({ inverted, leftovers }: TransitionPlan): Generator<PassEvent> {
  if (inverted !== undefined) {
    const { higher, lower } = inverted;
    const of = ({ migration: { name, to } }: Rung): string => `${quote(name)} to ${to}`;
    const note = `migration ${of(higher)} runs before ${of(lower)}, because its stage comes earlier`;
    yield { type: "Warning", reason: "MigrationOrderInverted", note, once: `inverted ${note}` };
  }
  if (leftovers.length > 0) {
    const names = leftovers.map(({ migration: { name, to } }) => `${quote(name)} to ${to}`).join(", ");
    const note = `of an abandoned upgrade these migrations stay applied, ahead of the deployed version: ${names}`;
    yield { type: "Warning", reason: "MigrationAheadOfVersion", note, once: undefined };
  }
}

/** Digests of a ladder are asked for in every step; nothing but the list itself is remembered. */
const known = new WeakMap<object, readonly Rung[]>();

function inlineRungs({ migrations = [] }: StageSetSpec): readonly Rung[] {
  const rungs = known.get(migrations) ?? rungsOf(migrations);
  known.set(migrations, rungs);
  return rungs;
}
