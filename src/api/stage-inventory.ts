import { type Parsed, parseResource, type Resource } from "./parse.ts";
import type { ValueOf } from "./schema/field.ts";
import { compileReader } from "./schema/reader.ts";
import { stageInventorySpecSchema } from "./schema/stage-inventory.ts";

export type StageInventorySpec = ValueOf<typeof stageInventorySpecSchema>;
/** One shard of what a stage has applied. */
export type StageInventory = Resource<StageInventorySpec>;
/** One applied object, as stored: its id, and its API version without group (older ones have the group too). */
export type StoredEntry = NonNullable<StageInventorySpec["entries"]>[number];

const spec = compileReader(stageInventorySpecSchema);

/** Reads a StageInventory; one without spec has no entries, and of an invalid one the entries that fit are readable. */
export function parseStageInventory(value: unknown): Parsed<StageInventory> {
  return parseResource<StageInventorySpec, never>(value, { kind: "StageInventory", spec, absentSpec: "empty" });
}
