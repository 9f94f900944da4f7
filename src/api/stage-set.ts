import { type Parsed, parseResource, type Resource } from "./parse.ts";
import type { action } from "./schema/action.ts";
import type { ValueOf } from "./schema/field.ts";
import { compileReader } from "./schema/reader.ts";
import type { conditionSchema, errorBudget, kindRef, labelSelector, metricSource, sourceRef } from "./schema/shared.ts";
import { type migration, stageSetSpec, type versionSpec } from "./schema/stage-set-spec.ts";
import type { stageSetStatus, stageStatusSchema } from "./schema/stage-set-status.ts";
import type { stage } from "./schema/stage.ts";

export type StageSetSpec = ValueOf<ReturnType<typeof stageSetSpec>>;
export type StageSetStatus = ValueOf<ReturnType<typeof stageSetStatus>>;
/** Metadata, spec and status. */
export type StageSet = Resource<StageSetSpec, StageSetStatus>;

export type Stage = ValueOf<ReturnType<typeof stage>>;
export type StageStatus = ValueOf<typeof stageStatusSchema>;
export type SourceRef = ValueOf<ReturnType<typeof sourceRef>>;
export type KindRef = ValueOf<ReturnType<typeof kindRef>>;
export type LabelSelector = ValueOf<ReturnType<typeof labelSelector>>;
export type MetricSource = ValueOf<ReturnType<typeof metricSource>>;
export type Action = ValueOf<ReturnType<typeof action>>;
export type Migration = ValueOf<ReturnType<typeof migration>>;
/** Where the version comes from, and what a change of it needs. */
export type VersionSpec = ValueOf<ReturnType<typeof versionSpec>>;
export type ErrorBudget = ValueOf<ReturnType<typeof errorBudget>>;
export type Condition = ValueOf<typeof conditionSchema>;

const spec = compileReader(stageSetSpec());

/** Reads a StageSet; an object without spec is refused, so that it is never read as one without stages. */
export function parseStageSet(value: unknown): Parsed<StageSet> {
  return parseResource<StageSetSpec, StageSetStatus>(value, { kind: "StageSet", spec, absentSpec: "refused" });
}
