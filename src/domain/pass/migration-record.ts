import type { StageSetStatus } from "../../api/stage-set.ts";
import type { MigrationCall } from "../actions/action-run.ts";
import { ledgerFields, recordedOf, type Recorded } from "../versions/migration-ledger.ts";

/** The status with these entries instead of those it has. */
export function withRecorded(status: StageSetStatus, recorded: Recorded): StageSetStatus {
  const { executedMigrations: _migrations, executedMigrationActions: _actions, ...rest } = status;
  return { ...rest, ...ledgerFields(recorded) };
}

/** The status with one more step done. Ledger lists are sets. */
export function withRecordedStep(status: StageSetStatus, { entry, drops }: MigrationCall): StageSetStatus {
  const { migrations, actions } = recordedOf(status);
  const keeps = (text: string): boolean => !drops.includes(text) && text !== entry;
  return withRecorded(status, { migrations: migrations.filter(keeps), actions: [...actions.filter(keeps), entry] });
}
