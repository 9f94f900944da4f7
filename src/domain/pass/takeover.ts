import type { StageSetStatus } from "../../api/stage-set.ts";
import { parseVersion, renderVersion, sameVersion } from "../formats/version.ts";
import { dirtyAfter, haltedMigration, howToResume } from "../holds/dirty-halt.ts";
import { withReady } from "../status.ts";
import { quote } from "../validation/finding.ts";
import { recordedOf, unmatchedEntries, type Rung } from "../versions/migration-ledger.ts";
import { statusContext } from "./plan.ts";
import type { PassState } from "./state.ts";
import type { Step } from "./step.ts";

/**
 * The status is as another controller left it (spec 30 §4.5). The first stage that begins is on record with what it
 * entered, so from then on it is this controller's.
 */
function isForeign({ stages = [] }: StageSetStatus): boolean {
  return (
    stages.some(({ appliedRevision }) => (appliedRevision ?? "") !== "") &&
    stages.every(({ enteredRevision }) => (enteredRevision ?? "") === "")
  );
}

/**
 * Another controller's entries are on record, and whether the ladder has them is not. As long as that cannot be found out,
 * nothing may begin: the check would not be made any more, and steps that ran would run again.
 */
export function isUnchecked({ stored: { status } }: PassState): boolean {
  const { migrations, actions } = recordedOf(status);
  return migrations.length + actions.length > 0 && isForeign(status);
}

/**
 * Entries of another controller that no migration of the ladder would have written leave open what ran: nothing is
 * guessed, and the migrations are halted until somebody has looked (spec 30 §4.5). With the stages' entered identities
 * filled in, the status is this controller's from then on, so it is asked once.
 */
export function takeoverRecord(
  state: PassState,
  rungs: readonly Rung[],
): Extract<Step, { kind: "record" }> | undefined {
  const { status } = state.stored;
  const { stages = [] } = status;
  const unmatched = isForeign(status) ? unmatchedEntries(rungs, recordedOf(status)) : [];
  if (unmatched.length === 0) return undefined;
  const listed = unmatched.slice(0, 10).map(quote).join(", ");
  const more = unmatched.length > 10 ? ` and ${unmatched.length - 10} more` : "";
  const message = `${haltedMigration}: another controller's transition was cut, and no migration of the ladder is what these entries are of: ${listed}${more}; ${howToResume}`;
  const filled = stages.map((entry) => {
    const { appliedRevision = "", appliedDigest } = entry;
    if (appliedRevision === "") return entry;
    const digest = appliedDigest === undefined ? {} : { enteredDigest: appliedDigest };
    return { ...entry, enteredRevision: appliedRevision, ...digest };
  });
  const halted = { ...status, stages: filled, migrationFailureCount: dirtyAfter };
  const ready = { status: "False", reason: "MigrationDirty", message, stalled: true } as const;
  return {
    kind: "record",
    write: { kind: "status", status: withReady(halted, ready, statusContext(state)) },
    joinsNext: "once prepared",
  };
}

/**
 * Other controllers leave a stage that a transition did not touch on record with a version of long ago. Where theirs is at
 * rest, none has begun: each stage is of the deployed version, else an approval would pass for given.
 */
export function stageVersionsRecord({ stored: { status } }: PassState): Extract<Step, { kind: "record" }> | undefined {
  const { version = "", stages = [] } = status;
  const { migrations, actions } = recordedOf(status);
  const deployed = parseVersion(version);
  const atRest = migrations.length + actions.length === 0 && stages.every(({ phase }) => phase === "Ready");
  if (deployed === undefined || !atRest || !isForeign(status)) return undefined;
  const isOther = (entered: string): boolean => entered !== "" && !sameVersion(entered, version);
  if (!stages.some(({ ledgerVersion = "" }) => isOther(ledgerVersion))) return undefined;
  const settled = stages.map((entry) => {
    if (!isOther(entry.ledgerVersion ?? "")) return entry;
    const { executedVersionActions: _executed, ...kept } = entry;
    return { ...kept, ledgerVersion: renderVersion(deployed) };
  });
  return {
    kind: "record",
    write: { kind: "status", status: { ...status, stages: settled } },
    joinsNext: "once prepared",
  };
}
