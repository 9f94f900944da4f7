import { identityOf, sameIdentity } from "../pins.ts";
import { enteredIdentity, stageEntry, timestamp } from "../status.ts";
import type { WindowState } from "../windows/update-windows.ts";
import type { GoalInput, Hold } from "./hold.ts";
import { pinsHash } from "./override.ts";

/** Bounds of the next look while the next opening is known, and the longest without (spec 40 §2). */
const soonestLookMs = 5_000;
const latestLookMs = 60 * 60_000;
const latestBlindLookMs = 10 * 60_000;

/**
 * Whether it matters that windows are open: a stage would enter its pin, or a closed window stops everything; and no
 * override lets these pins through (spec 40 §1 step 7).
 */
export function asksForWindow({ spec, status, pins }: Pick<GoalInput, "spec" | "status" | "pins">): boolean {
  if ((spec.updateWindows ?? []).length === 0) return false;
  const entering = pins.some(
    (pin, index) => !sameIdentity(enteredIdentity(stageEntry(status, spec.stages[index]?.name ?? "")), identityOf(pin)),
  );
  if (!entering && spec.windowScope !== "All") return false;
  return status.updateOverrideFor === undefined || status.updateOverrideFor !== pinsHash(spec.stages, pins);
}

/** Holds every stage that would enter while the update windows are closed. */
export function closedWindow({ windows, now, retryMs }: GoalInput): Hold | undefined {
  if (windows === undefined || windows.open) return undefined;
  return { kind: "wait", reason: "UpdateDeferred", message: windowText(windows), until: now + lookMs(windows) };

  function lookMs({ changesAt }: WindowState): number {
    return typeof changesAt === "number"
      ? Math.min(latestLookMs, Math.max(soonestLookMs, changesAt - now))
      : Math.min(latestBlindLookMs, retryMs);
  }
}

/** A closed window that stops everything: nothing is written to the target, be it a new pin or not. */
export function standstill(input: GoalInput): Hold | undefined {
  return input.spec.windowScope === "All" ? closedWindow(input) : undefined;
}

/** When a closed window opens, as status spells it; undefined when nobody can tell. */
export function nextOpening(windows: WindowState | undefined): string | undefined {
  const opensAt = windows?.changesAt;
  // Rounded up: a wait is never shortened.
  return typeof opensAt === "number" ? timestamp(Math.ceil(opensAt / 1_000) * 1_000) : undefined;
}

function windowText(windows: WindowState): string {
  const opens = nextOpening(windows);
  const when =
    opens !== undefined
      ? ` (next window opens ${opens})`
      : windows.changesAt === "never"
        ? " (no future opening exists)"
        : "";
  return `delivery held by update window${when}`;
}
