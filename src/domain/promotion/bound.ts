import type { StageStatus } from "../../api/stage-set.ts";
import type { ArtifactIdentity } from "../pins.ts";

/** What a promote token was bound to by the pass that saw it first. */
export function boundTo(pending: NonNullable<StageStatus["pendingPromotion"]>): ArtifactIdentity {
  return { revision: pending.revision ?? "", digest: pending.digest };
}
