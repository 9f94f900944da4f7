import { describeObject } from "./object-id.ts";
import type { RenderedObject } from "./rendered.ts";
import { failure, type Failure } from "./failure.ts";

interface StageRender {
  readonly stage: string;
  readonly objects: readonly RenderedObject[];
}

/**
 * Verdicts by the first stage's objects, for as long as somebody holds those: a pass asks before every step, with the same
 * renders throughout its run, and they may be thousands.
 */
const verdicts = new WeakMap<
  readonly RenderedObject[],
  { readonly renders: readonly StageRender[]; readonly claimed: Failure | undefined }
>();

/** An object that two stages render: nothing is applied until one of them gives it up (spec 20 step 16). */
export function objectClaimedTwice(renders: readonly StageRender[]): Failure | undefined {
  const first = renders[0]?.objects;
  if (first === undefined) return undefined;
  const known = verdicts.get(first);
  if (known !== undefined && sameRenders(known.renders, renders)) return known.claimed;
  const claimed = firstClaimedTwice(renders);
  verdicts.set(first, { renders, claimed });
  return claimed;
}

function sameRenders(a: readonly StageRender[], b: readonly StageRender[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ stage, objects }, index) => stage === b[index]?.stage && objects === b[index].objects)
  );
}

function firstClaimedTwice(renders: readonly StageRender[]): Failure | undefined {
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
