import { type Parsed, parseResource, type Resource } from "./parse.ts";
import type { ValueOf } from "./schema/field.ts";
import { compileReader } from "./schema/reader.ts";
import { stageLedgerSpecSchema, type stageLedgerStatusSchema } from "./schema/stage-ledger.ts";

export type StageLedgerSpec = ValueOf<typeof stageLedgerSpecSchema>;
export type StageLedgerStatus = ValueOf<typeof stageLedgerStatusSchema>;
/** Lifetime actions of one StageSet that never run again. */
export type StageLedger = Resource<StageLedgerSpec, StageLedgerStatus>;
/** A Lifetime action the user declares as done. */
export type BaselineEntry = NonNullable<StageLedgerSpec["baseline"]>[number];
export type CompletedAction = NonNullable<StageLedgerStatus["completedActions"]>[number];

const spec = compileReader(stageLedgerSpecSchema);

/** Reads a StageLedger; one without spec has no baseline. */
export function parseStageLedger(value: unknown): Parsed<StageLedger> {
  return parseResource<StageLedgerSpec, StageLedgerStatus>(value, { kind: "StageLedger", spec, absentSpec: "empty" });
}
