import { int32, list, object, optional, text } from "./field.ts";

export const stageInventorySpecSchema = object("Objects one stage has applied, or one shard of them.", {
  stagePosition: optional(int32("Place of the stage in the StageSet when this was written, from 0.")),
  entries: optional(
    list(
      object("An applied object.", {
        id: text("`<namespace>_<name>_<group>_<kind>` of the object."),
        v: text("API version of the object, without its group."),
      }),
      "Applied objects, sorted by id.",
    ),
  ),
});
