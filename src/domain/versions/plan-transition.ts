import type { ReadyReason } from "../../api/reasons.ts";
import type { Stage, StageSetStatus, VersionSpec } from "../../api/stage-set.ts";
import { matchesConstraint, parseConstraint } from "../formats/constraint.ts";
import { compareVersions, renderVersion, type Version } from "../formats/version.ts";
import { quote } from "../validation/finding.ts";
import { type Direction, readLedger, type Recorded, type Rung, type RungRecord, stepsOf } from "./migration-ledger.ts";

/** A migration that runs, and where. */
export interface PlannedMigration {
  readonly rung: Rung;
  readonly direction: Direction;
  /** The stage it names: whose identity its steps have. */
  readonly stage: string;
  /** The stage before whose pre actions it runs: the one it names, or for an unwinding an earlier one. */
  readonly placed: string;
  /** Entries of it under another digest exist: its steps run from the top. */
  readonly changed: boolean;
}

/** Why a version is not gone to. */
export interface VersionRefusal {
  readonly kind: "refused";
  readonly reason: ReadyReason;
  readonly message: string;
}

export interface TransitionPlan {
  readonly kind: "planned";
  /** Newest boundary first. */
  readonly unwind: readonly PlannedMigration[];
  /** Oldest boundary first. */
  readonly apply: readonly PlannedMigration[];
  /** Migrations of an abandoned upgrade that nobody may unwind: they stay, and so does what is on record of them. */
  readonly leftovers: readonly Rung[];
  /** A higher boundary runs before a lower one, because its stage comes earlier. */
  readonly inverted: { readonly higher: Rung; readonly lower: Rung } | undefined;
}

export interface TransitionInput {
  /** C of spec 30. */
  readonly deployed: Version;
  /** T. */
  readonly wanted: Version;
  readonly rules: Pick<VersionSpec, "allowDowngrade" | "requireMigrationCoverage">;
  readonly rungs: readonly Rung[];
  readonly recorded: Recorded;
  readonly stages: readonly Pick<Stage, "name" | "migrationAnchor">[];
}

/** Steps 5 to 8 of spec 30 §6: which boundaries are crossed, and before which stages. */
export function planTransition(input: TransitionInput): TransitionPlan | VersionRefusal {
  const { deployed, wanted, rules } = input;
  const records = readLedger(input.rungs, input.recorded);
  const { apply, unwind } = crossedBoundaries(input, records);
  const irreversible = unwind.find((rung) => stepsOf(rung, "down").length === 0);
  const downward = compareVersions(wanted, deployed) < 0;
  if (downward && rules.allowDowngrade !== true)
    return refused("DowngradeNotAllowed", input, "spec.version.allowDowngrade is not true");
  if (downward && irreversible !== undefined) {
    const { name, to } = irreversible.migration;
    return refused(
      "DowngradeRequiresMigration",
      input,
      `migration ${quote(name)} to ${to} has no down steps, which makes it irreversible`,
    );
  }
  const left = !downward && (rules.allowDowngrade !== true || irreversible !== undefined);
  const leftovers = left ? unwind : [];
  if (rules.requireMigrationCoverage === true && !isCovered(input, apply, records))
    return refused(
      "MigrationCoverageMissing",
      input,
      `no migration crosses into major version ${String(deployed.major + 1n)} or above, and spec.version.requireMigrationCoverage is true; add one, without actions if there is nothing to do`,
    );
  return place(input, { apply, unwind: left ? [] : unwind, leftovers, records });
}

/**
 * A and U of step 5. One that is half done counts as neither applied nor unwound, on whichever side of the deployed
 * version it leads to: the first step of a direction drops the entries of the other, so a restart after it sees that
 * step alone.
 */
export function crossedBoundaries(
  { deployed, wanted, rungs }: Pick<TransitionInput, "deployed" | "wanted" | "rungs">,
  records: ReadonlyMap<Rung, RungRecord> = new Map(),
): { readonly apply: readonly Rung[]; readonly unwind: readonly Rung[] } {
  const apply: Rung[] = [];
  const unwind: Rung[] = [];
  for (const rung of rungs) {
    const { up = "none", down = "none" } = records.get(rung) ?? {};
    const ahead = compareVersions(rung.to, deployed) > 0;
    const untouched = up === "none" && down === "none";
    const applied = up === "complete" || (!ahead && untouched);
    const unwound = down === "complete" || (ahead && untouched);
    if (compareVersions(rung.to, wanted) > 0) {
      if (!unwound) unwind.push(rung);
    } else if (!applied && (!ahead || up !== "none" || down === "begun" || isMeant(rung, deployed))) apply.push(rung);
  }
  // Stable: equal boundaries keep the order of the ladder.
  apply.sort((a, b) => compareVersions(a.to, b.to));
  unwind.sort((a, b) => compareVersions(b.to, a.to) || b.index - a.index);
  return { apply, unwind };
}

/** Whether a migration is for what is deployed; only versions below its boundary are asked about. */
export function isMeant({ migration: { from } }: Rung, deployed: Version): boolean {
  if (from === undefined) return true;
  const parsed = parseConstraint(from);
  return parsed.kind === "constraint" && matchesConstraint(parsed.constraint, deployed);
}

/** Step 7; only steps upwards over a major version ask for a migration. */
function isCovered(
  { deployed, wanted, rungs }: TransitionInput,
  apply: readonly Rung[],
  records: ReadonlyMap<Rung, RungRecord>,
): boolean {
  if (wanted.major <= deployed.major) return true;
  const done = rungs.filter((rung) => records.get(rung)?.up === "complete" && compareVersions(rung.to, wanted) <= 0);
  return [...apply, ...done].some(({ to }) => to.major > deployed.major);
}

/** Steps 8 and 9: where each one runs. An unwinding is moved to an earlier stage where a newer one would come after it. */
function place(
  { stages }: TransitionInput,
  selected: {
    readonly apply: readonly Rung[];
    readonly unwind: readonly Rung[];
    readonly leftovers: readonly Rung[];
    readonly records: ReadonlyMap<Rung, RungRecord>;
  },
): TransitionPlan | VersionRefusal {
  const positions = new Map<Rung, number>();
  for (const rung of [...selected.unwind, ...selected.apply]) {
    const position = stagePosition(stages, rung.migration.stage);
    if (position === undefined)
      return {
        kind: "refused",
        reason: "MigrationStageNotFound",
        message: `Cannot place migration ${quote(rung.migration.name)}: ${quote(rung.migration.stage ?? "")} is neither the migrationAnchor nor the name of a stage`,
      };
    positions.set(rung, position);
  }
  const at = (rung: Rung): number => positions.get(rung) ?? 0;
  const planned = (rung: Rung, direction: Direction, placed: number): PlannedMigration => ({
    rung,
    direction,
    stage: stages[at(rung)]?.name ?? "",
    placed: stages[placed]?.name ?? "",
    changed: selected.records.get(rung)?.changed ?? false,
  });
  let earliest = Infinity;
  const unwind: PlannedMigration[] = [];
  for (const rung of selected.unwind.toReversed()) {
    earliest = Math.min(earliest, at(rung));
    unwind.unshift(planned(rung, "down", earliest));
  }
  return {
    kind: "planned",
    unwind,
    apply: selected.apply.map((rung) => planned(rung, "up", at(rung))),
    leftovers: selected.leftovers,
    inverted: invertedOrder(selected.apply, stages),
  };
}

/** The first higher boundary that runs before a lower one, of migrations in ascending order. */
export function invertedOrder(apply: readonly Rung[], stages: TransitionInput["stages"]): TransitionPlan["inverted"] {
  let latest: { readonly rung: Rung; readonly position: number } | undefined;
  for (const rung of apply) {
    const position = stagePosition(stages, rung.migration.stage) ?? 0;
    if (latest !== undefined && position < latest.position && compareVersions(rung.to, latest.rung.to) > 0)
      return { higher: rung, lower: latest.rung };
    if (latest === undefined || position > latest.position) latest = { rung, position };
  }
  return undefined;
}

/** A migrationAnchor comes before a name; none stands for the first stage. */
function stagePosition(stages: TransitionInput["stages"], wanted: string | undefined): number | undefined {
  if (wanted === undefined) return stages.length > 0 ? 0 : undefined;
  const anchored = stages.findIndex(({ migrationAnchor }) => migrationAnchor === wanted);
  const position = anchored < 0 ? stages.findIndex(({ name }) => name === wanted) : anchored;
  return position < 0 ? undefined : position;
}

/** What runs before the pre actions of a stage, in order. */
export function migrationsBefore(plan: TransitionPlan, stage: string): readonly PlannedMigration[] {
  return [...plan.unwind, ...plan.apply].filter(({ placed }) => placed === stage);
}

/** `status.pendingMigrations`: what the next run executes. */
export function pendingMigrations(plan: TransitionPlan): NonNullable<StageSetStatus["pendingMigrations"]> {
  return [...plan.unwind, ...plan.apply].map(({ rung, direction, placed }) => {
    const { name, to, from } = rung.migration;
    const verbs = stepsOf(rung, direction).map(verbOf);
    return {
      name,
      to,
      ...(from === undefined ? {} : { from }),
      stage: placed,
      ...(verbs.length === 0 ? {} : { actions: verbs }),
      digest: rung.digest,
    };
  });
}

const verbs = ["patch", "http", "wait", "job", "delete", "apply"] as const;

/** What an action does, by the name of its member. */
export function verbOf(action: Readonly<Partial<Record<(typeof verbs)[number], unknown>>>): string {
  return verbs.find((verb) => action[verb] !== undefined) ?? "";
}

function refused(
  reason: ReadyReason,
  { deployed, wanted }: Pick<TransitionInput, "deployed" | "wanted">,
  cause: string,
): VersionRefusal {
  const message = `Cannot go from version ${renderVersion(deployed)} to ${renderVersion(wanted)}: ${cause}`;
  return { kind: "refused", reason, message };
}
