import { describeObject } from "./object-id.ts";
import type { RenderedObject } from "./rendered.ts";
import { failure, type Failure } from "./failure.ts";

/** An object that two stages render: nothing is applied until one of them gives it up (spec 20 step 16). */
export function objectClaimedTwice(
  renders: readonly { readonly stage: string; readonly objects: readonly RenderedObject[] }[],
): Failure | undefined {
  const owners = new Map<string, string>();
  for (const { stage, objects } of renders) {
    for (const object of objects) {
      const owner = owners.get(object.id);
      if (owner !== undefined && owner !== stage)
        return failure(
          "InvalidSpec",
          `${describeObject(object)} is rendered by stage "${owner}" and by stage "${stage}"`,
        );
      owners.set(object.id, stage);
    }
  }
  return undefined;
}
