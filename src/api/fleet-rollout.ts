import { type Parsed, parseResource, type Resource } from "./parse.ts";
import type { ValueOf } from "./schema/field.ts";
import { fleetRolloutSpecSchema, type fleetRolloutStatusSchema } from "./schema/fleet-rollout.ts";
import { compileReader } from "./schema/reader.ts";

export type FleetRolloutSpec = ValueOf<typeof fleetRolloutSpecSchema>;
export type FleetRolloutStatus = ValueOf<typeof fleetRolloutStatusSchema>;
/** A version for many StageSets, wave by wave. */
export type FleetRollout = Resource<FleetRolloutSpec, FleetRolloutStatus>;
export type Wave = FleetRolloutSpec["waves"][number];
export type WaveStatus = NonNullable<FleetRolloutStatus["waves"]>[number];

const spec = compileReader(fleetRolloutSpecSchema);

/** Reads a FleetRollout; an object without spec is refused. */
export function parseFleetRollout(value: unknown): Parsed<FleetRollout> {
  return parseResource<FleetRolloutSpec, FleetRolloutStatus>(value, {
    kind: "FleetRollout",
    spec,
    absentSpec: "refused",
  });
}
