import type { StageSetStatus } from "../../api/stage-set.ts";
import { sameVersion } from "../formats/version.ts";
import { afterRun, ledgerFields, recordedOf, type Recorded, type Rung } from "../versions/migration-ledger.ts";
import type { TransitionPlan } from "../versions/plan-transition.ts";

/** The version a pass goes to: nothing refuses or holds it. */
export interface ReleaseVersion {
  /** As its source spells it, trimmed: what `status.version` is set to. */
  readonly text: string;
  /** Canonical form of spec 30 §5.2: the key of Version ledgers. */
  readonly key: string;
  /** None is deployed yet: no migration runs, and each Version action counts as done (spec 30 §9). */
  readonly adopted: boolean;
  readonly plan: TransitionPlan | undefined;
  readonly rungs: readonly Rung[];
  /** Which artifact the migrations are from, for Events; empty: the spec's own. */
  readonly origin: string;
  readonly recorded: Recorded;
}

/** The status that ends a fully successful run with this version (spec 30 §5.2 and §8). */
export function withVersion(status: StageSetStatus, version: ReleaseVersion | undefined): StageSetStatus {
  if (version === undefined) return status;
  const {
    pendingVersion: _version,
    pendingMigrations: _pending,
    executedMigrations: _done,
    executedMigrationActions: _steps,
    ...cleared
  } = status;
  const left = leftOnRecord(version);
  const stages = (status.stages ?? []).map((entry) => {
    if (isKey(entry.ledgerVersion, version)) return entry;
    // Else a stage that was not touched would pass for one that was entered for the version it has on record.
    const { executedVersionActions: _executed, ...kept } = entry;
    return { ...kept, ledgerVersion: version.key };
  });
  return { ...cleared, ...left, stages, version: version.text };
}

/**
 * Whether a transition has begun and is not through: a stage is on record with another version than the deployed one, or
 * there are entries that a finished run would not have left. With no version to go to, those of steps tell.
 */
export function isOnTheWay(status: StageSetStatus, version: ReleaseVersion | undefined): boolean {
  const { version: deployed = "", stages = [] } = status;
  const isOther = (entered: string): boolean => entered !== "" && !sameVersion(entered, deployed);
  if (deployed !== "" && stages.some(({ ledgerVersion = "" }) => isOther(ledgerVersion))) return true;
  const { migrations, actions } = recordedOf(status);
  if (version === undefined) return actions.length > 0;
  const left = leftOnRecord(version);
  return (
    migrations.length > (left.executedMigrations ?? []).length ||
    actions.length > (left.executedMigrationActions ?? []).length
  );
}

function leftOnRecord({ plan, rungs, recorded }: ReleaseVersion): ReturnType<typeof ledgerFields> {
  if (plan === undefined) return {};
  return ledgerFields(afterRun(rungs, recorded, plan.leftovers));
}

/** Whether a Version ledger is the one of this version, however it is spelled. */
export function isKey(ledgerVersion: string | undefined, { key }: Pick<ReleaseVersion, "key">): boolean {
  return ledgerVersion !== undefined && sameVersion(ledgerVersion, key);
}
