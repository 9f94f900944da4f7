import { cannotRelease } from "./not-built.ts";
import { forRelease, type EntryHold } from "./hold.ts";
import { exhaustedBudget, exhaustedStageBudget } from "./error-budget.ts";
import { closedGate } from "./promotion-gate.ts";
import { closedWindow } from "./update-window.ts";

/** Tried in the order of spec 40 §1; each arrives with the feature it belongs to. */
export const entryHolds: readonly EntryHold[] = [
  forRelease(cannotRelease),
  forRelease(closedWindow),
  forRelease(exhaustedBudget),
  forRelease(({ versionHold }) => versionHold),
  closedGate,
  exhaustedStageBudget,
];
