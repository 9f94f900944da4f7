import type { Stage, StageSetStatus } from "../../api/stage-set.ts";
import { sameIdentity, type ArtifactIdentity } from "../pins.ts";
import { enteredIdentity, stageEntry } from "../status.ts";

/**
 * Whether the stage, which is at this identity, is past its gate. One that was committed without any is: a gate added
 * later is for what comes next, it stops nothing that is deployed.
 */
export function isPromoted(status: StageSetStatus, stage: Stage, identity: ArtifactIdentity): boolean {
  if (stage.promotion === undefined) return true;
  const state = stageEntry(status, stage.name)?.promotionState;
  if (state !== undefined) return state.phase === "Promoted";
  const committed = status.lastAppliedSnapshot?.find((entry) => entry.stage === stage.name);
  if (committed === undefined) return false;
  const { revision = identity.revision, digest } = committed;
  return sameIdentity({ revision, digest }, identity);
}

/** Whether the stage is at this identity, and its gate was reached and lets nothing pass. */
export function isHeldAtGate(status: StageSetStatus, stage: Stage, identity: ArtifactIdentity): boolean {
  if (stage.promotion === undefined) return false;
  const entry = stageEntry(status, stage.name);
  const phase = entry?.promotionState?.phase;
  return phase !== undefined && phase !== "Promoted" && sameIdentity(enteredIdentity(entry), identity);
}
