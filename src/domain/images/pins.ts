import type { StageStatus } from "../../api/stage-set.ts";

/** What a tag stands for while the stage's revision stays. */
export interface PinnedImage {
  readonly image: string;
  /** `sha256:<hex>`. */
  readonly digest: string;
}

/** Pins that status keeps of one stage (spec 10 §5.1). */
export const mostPins = 256;

/** The pins of a stage at this revision. */
export function pinsOnRecord(entry: StageStatus | undefined, revision: string): readonly PinnedImage[] {
  return (entry?.verifiedImages ?? []).flatMap(({ image, digest, revision: of }) =>
    image === undefined || digest === undefined || of !== revision ? [] : [{ image, digest }],
  );
}
