import type { Action, Migration, StageSetStatus } from "../../api/stage-set.ts";
import { parseVersion, type Version } from "../formats/version.ts";
import { migrationDigest } from "./migration-digest.ts";

/** A migration of a valid ladder with what planning asks of it again and again. */
export interface Rung {
  readonly migration: Migration;
  readonly to: Version;
  readonly digest: string;
  /** Position in the ladder: the order of equal boundaries. */
  readonly index: number;
}

export type Direction = "up" | "down";

/** What status has on record of the transition under way: `executedMigrations` and `executedMigrationActions`. */
export interface Recorded {
  readonly migrations: readonly string[];
  readonly actions: readonly string[];
}

/** What a status has on record. */
export function recordedOf({ executedMigrations, executedMigrationActions }: StageSetStatus): Recorded {
  return { migrations: executedMigrations ?? [], actions: executedMigrationActions ?? [] };
}

/** The members of a status that have it on record; without entries there are none. */
export function ledgerFields({
  migrations,
  actions,
}: Recorded): Pick<StageSetStatus, "executedMigrations" | "executedMigrationActions"> {
  return {
    ...(migrations.length === 0 ? {} : { executedMigrations: migrations }),
    ...(actions.length === 0 ? {} : { executedMigrationActions: actions }),
  };
}

export const nothingRecorded: Recorded = { migrations: [], actions: [] };

/** What is on record of one migration, each direction under any digest; `complete` needs the digest it has now. */
export interface RungRecord {
  readonly up: Progress;
  readonly down: Progress;
  /** Entries under another digest exist: its steps run from the top. */
  readonly changed: boolean;
}

export type Progress = "none" | "begun" | "complete";

/**
 * @throws {RangeError} a boundary is no version: the ladder was not validated
 */
export function rungsOf(migrations: readonly Migration[]): readonly Rung[] {
  return migrations.map((migration, index) => {
    const to = parseVersion(migration.to);
    if (to === undefined) throw new RangeError(`migration "${migration.name}" leads to no version`);
    return { migration, to, digest: migrationDigest(migration), index };
  });
}

/** The entry of `executedMigrations` that says that a direction is complete (spec 30 §8). */
export function completionKey(rung: Rung, direction: Direction): string {
  return direction === "up" ? keyOf(rung) : `${keyOf(rung)}/down`;
}

/** The entry of `executedMigrationActions` that says that a step is done. */
export function stepKey(rung: Rung, direction: Direction, action: Pick<Action, "name">): string {
  return `${completionKey(rung, direction)}/${action.name}`;
}

/** The steps of a direction, in order. */
export function stepsOf({ migration }: Rung, direction: Direction): readonly Action[] {
  return (direction === "up" ? migration.actions : migration.down) ?? [];
}

/** Those that are not on record as done. */
export function stepsLeft(rung: Rung, direction: Direction, recorded: Recorded): readonly Action[] {
  const done = new Set(recorded.actions);
  return stepsOf(rung, direction).filter((action) => !done.has(stepKey(rung, direction, action)));
}

/** What is on record of each migration of the ladder. Takes time in proportion to the ladder and the entries. */
export function readLedger(rungs: readonly Rung[], recorded: Recorded): ReadonlyMap<Rung, RungRecord> {
  const found = new Map<Rung, RungRecord>();
  for (const rung of rungs) found.set(rung, { up: "none", down: "none", changed: false });
  for (const { rung, direction, exact, complete } of entriesOf(rungs, recorded)) {
    const before = found.get(rung);
    if (before === undefined) continue;
    const progress = exact && complete ? "complete" : before[direction] === "none" ? "begun" : before[direction];
    found.set(rung, { ...before, [direction]: progress, changed: before.changed || !exact });
  }
  return found;
}

/** Records a step as done: the first entry of one direction drops the migration's entries of the other. */
export function withStep(
  rungs: readonly Rung[],
  recorded: Recorded,
  { rung, direction, action }: { readonly rung: Rung; readonly direction: Direction; readonly action: Action },
): Recorded {
  const kept = without(rungs, recorded, (entry) => entry.rung === rung && entry.direction !== direction);
  return { ...kept, actions: withEntry(kept.actions, stepKey(rung, direction, action)) };
}

/** Records a direction as complete; what is left of other digests and of the other direction goes. */
export function withCompletion(
  rungs: readonly Rung[],
  recorded: Recorded,
  { rung, direction }: { readonly rung: Rung; readonly direction: Direction },
): Recorded {
  const stale = (entry: Entry): boolean => entry.rung === rung && (entry.direction !== direction || !entry.exact);
  const kept = without(rungs, recorded, stale);
  return { ...kept, migrations: withEntry(kept.migrations, completionKey(rung, direction)) };
}

/** What stays on record after a fully successful run: that of migrations that lead beyond its version. */
export function afterRun(rungs: readonly Rung[], recorded: Recorded, leftovers: readonly Rung[]): Recorded {
  if (leftovers.length === 0) return nothingRecorded;
  const kept = [...entriesOf(rungs, recorded)].filter(({ rung }) => leftovers.includes(rung));
  const texts = new Set(kept.map(({ text }) => text));
  return only(recorded, (text) => texts.has(text));
}

/**
 * Entries that no migration of the ladder would have written as it is now: at a takeover they leave open what ran
 * (spec 30 §4.5).
 */
export function unmatchedEntries(rungs: readonly Rung[], recorded: Recorded): readonly string[] {
  const known = exactEntries(rungs);
  return [
    ...recorded.migrations.filter((text) => !known.migrations.has(text)),
    ...recorded.actions.filter((text) => !known.actions.has(text)),
  ];
}

interface Entry {
  readonly text: string;
  readonly rung: Rung;
  readonly direction: Direction;
  /** Under the digest the migration has now. */
  readonly exact: boolean;
  readonly complete: boolean;
}

/**
 * Which migrations the entries are of. A name can look like the beginning of another one's entry, so an entry that one
 * migration would write as it is now counts for no other.
 */
function* entriesOf(rungs: readonly Rung[], recorded: Recorded): Generator<Entry> {
  const byName = new Map(rungs.map((rung) => [rung.migration.name, rung]));
  const known = exactEntries(rungs);
  for (const list of ["migrations", "actions"] as const)
    for (const text of recorded[list]) {
      const owner = known[list].get(text);
      for (const match of text.matchAll(/@([0-9a-f]{12})(?=\/|$)/g)) {
        const rung = byName.get(text.slice(0, match.index));
        if (rung === undefined || (owner !== undefined && owner !== rung)) continue;
        const rest = text.slice(match.index + match[0].length);
        const down = list === "migrations" ? rest === "/down" : rest.startsWith("/down/");
        yield {
          text,
          rung,
          direction: down ? "down" : "up",
          exact: match[1] === rung.digest,
          complete: list === "migrations",
        };
      }
    }
}

interface ExactEntries {
  readonly migrations: ReadonlyMap<string, Rung>;
  readonly actions: ReadonlyMap<string, Rung>;
}

/** Of each ladder, which every step of a pass asks for several times: at its bounds it has 40,000 entries. */
const knownEntries = new WeakMap<readonly Rung[], ExactEntries>();

function exactEntries(rungs: readonly Rung[]): ExactEntries {
  const entries = knownEntries.get(rungs) ?? entriesWritten(rungs);
  knownEntries.set(rungs, entries);
  return entries;
}

function entriesWritten(rungs: readonly Rung[]): ExactEntries {
  const migrations = new Map<string, Rung>();
  const actions = new Map<string, Rung>();
  for (const rung of rungs)
    for (const direction of ["up", "down"] as const) {
      migrations.set(completionKey(rung, direction), rung);
      for (const action of stepsOf(rung, direction)) actions.set(stepKey(rung, direction, action), rung);
    }
  return { migrations, actions };
}

function without(rungs: readonly Rung[], recorded: Recorded, isStale: (entry: Entry) => boolean): Recorded {
  const stale = new Set([...entriesOf(rungs, recorded)].filter(isStale).map(({ text }) => text));
  return stale.size === 0 ? recorded : only(recorded, (text) => !stale.has(text));
}

function only({ migrations, actions }: Recorded, keep: (text: string) => boolean): Recorded {
  return { migrations: migrations.filter(keep), actions: actions.filter(keep) };
}

function withEntry(entries: readonly string[], entry: string): readonly string[] {
  return entries.includes(entry) ? entries : [...entries, entry];
}

function keyOf({ migration, digest }: Rung): string {
  return `${migration.name}@${digest}`;
}
