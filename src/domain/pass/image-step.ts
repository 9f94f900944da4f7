import { mostPins, pinsOnRecord } from "../images/pins.ts";
import { sameIdentity } from "../pins.ts";
import { appliedIdentity } from "../status.ts";
import { endFailed } from "./finish.ts";
import { skipReason } from "./image-skip.ts";
import { factOf } from "./plan.ts";
import type { RenderFact } from "./state.ts";
import type { RecordKey, Step } from "./step.ts";
import { record, type StageTurn, type Turn, type TurnImages } from "./turn.ts";

type Rendered = Extract<RenderFact, { kind: "rendered" }>;

/**
 * Whether the images of the render may be applied (spec 20 step 19). Asked once in a pass: the fact brings another render,
 * with the images pinned, which takes the place of the one it is about.
 */
export function turnImages(
  turn: StageTurn,
  render: Rendered,
): { readonly images: TurnImages } | { readonly step: Step } {
  const { state, goal, as, identity, entry } = turn;
  if (render.hasImages !== true) return { images: { kind: "none" } };
  const skip = skipReason(state, { stage: goal.stage, identity });
  const pinned = pinsOnRecord(entry, identity.revision);
  const entering = !sameIdentity(appliedIdentity(entry), identity);
  const key = { kind: "images", stage: goal.stage, identity, as, skip, pinned, entering } as const;
  const fact = factOf(state, key);
  if (fact === undefined) return { step: { kind: "need", facts: [key] } };
  if (fact.kind === "failed") return { step: endFailed(state, fact.failure) };
  if (fact.kind !== "images") throw new TypeError("the images fact is of another kind");
  // What was judged is not what would be applied: a bug, and no reason to apply it.
  if (fact.renderHash !== render.hash) throw new Error(`stage "${goal.stage}" was rendered anew after its images`);
  if (skip !== undefined) return { images: { kind: "skipped", token: skip } };
  return { images: { kind: "verified", pins: fact.pins } };
}

/** Pins go on record before anything is applied by them; those of other revisions go. */
export function recordPins(turn: Turn): Extract<Step, { kind: "record" }> | undefined {
  const { images, identity, entry } = turn;
  if (images.kind !== "verified") return undefined;
  const recorded = pinsOnRecord(entry, identity.revision);
  const missing = images.pins.filter(
    (pin) => !recorded.some(({ image, digest }) => image === pin.image && digest === pin.digest),
  );
  if (missing.length === 0) return undefined;
  const verifiedImages = images.pins.slice(0, mostPins).map((pin) => ({ ...pin, revision: identity.revision }));
  return { ...record(turn, { verifiedImages }, {}), joinsNext: "once prepared" };
}

/** What must be on record of the images before the stage is written. */
export function imageRecords({ images, goal, identity }: Turn): readonly RecordKey[] {
  switch (images.kind) {
    case "none":
      return [];
    case "verified":
      return [{ kind: "verifiedImages", stage: goal.stage, revision: identity.revision, pins: images.pins }];
    case "skipped":
      return [{ kind: "skippedImages", stage: goal.stage, identity, token: images.token }];
  }
}
