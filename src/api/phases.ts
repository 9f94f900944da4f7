import type { fleetHealths } from "./schema/fleet-rollout.ts";
import { stagePhases } from "./schema/stage-set-status.ts";

/** Phases of a stage, spec 10 §5.2. */
export type StagePhase = (typeof stagePhases)[number];
export { stagePhases };

/** Phases of a promotion gate, spec 10 §5.3. The schema takes any text, so that a later phase is no refusal. */
export const promotionPhases = ["Soaking", "Analyzing", "Blocked", "AwaitingManual", "Promoted"] as const;
export type PromotionPhase = (typeof promotionPhases)[number];

/** Phases of a FleetRollout, spec 10 §9. */
export const fleetPhases = ["Pending", "InProgress", "Halted", "Completed"] as const;
export type FleetPhase = (typeof fleetPhases)[number];

/** Verdicts of a wave's gate. */
export type FleetHealth = (typeof fleetHealths)[number];
