import type { StageSetSpec, StageSetStatus } from "../../api/stage-set.ts";
import type { ReadyReason } from "../../api/reasons.ts";
import { identityOf, sameIdentity, type ArtifactIdentity, type Pin } from "../pins.ts";
import { appliedIdentity, enteredIdentity, stageEntry } from "../status.ts";

/**
 * What one stage is driven to in this pass.
 *
 * - `enter`: from what it last began to another pin
 * - `continue`: it began this identity and is not yet done with it
 * - `keep`: it is done with this identity, which is only re-asserted
 * - `untouched`: neither content is written
 */
export interface StageGoal {
  readonly stage: string;
  readonly index: number;
  readonly mode: "enter" | "continue" | "keep" | "untouched";
  /** The effective identity (spec 40 §1); undefined only for `untouched` stages that never began. */
  readonly identity: ArtifactIdentity | undefined;
  /** Where the content comes from: the pin's URL, or what is kept of an identity that is not pinned. */
  readonly content: "pin" | "cache";
  readonly pin: Pin;
}

/** A wait somebody asked for: nothing new enters, what runs is still corrected. */
export interface Hold {
  readonly reason: ReadyReason;
  readonly message: string;
  /** When to look again at the latest, epoch ms. */
  readonly until: number | undefined;
}

export interface Goals {
  readonly stages: readonly StageGoal[];
  readonly hold: Hold | undefined;
}

export interface GoalInput {
  readonly spec: StageSetSpec;
  readonly status: StageSetStatus;
  readonly generation: number;
  /** One per stage, in spec order. */
  readonly pins: readonly Pin[];
  /** Epoch ms. */
  readonly now: number;
}

/** Keeps stages from entering a pin; the first one that holds a stage holds every later one too. */
type EntryHold = (input: GoalInput, index: number) => Hold | undefined;

/** Tried in the order of spec 40 §1; each arrives with the feature it belongs to. */
const entryHolds: readonly EntryHold[] = [];

/** Decides where each stage is driven to. Holds, windows, budgets and rollback change nothing but this. */
export function planGoals(input: GoalInput): Goals {
  let hold: Hold | undefined;
  const stages: StageGoal[] = [];
  for (const [index, stage] of input.spec.stages.entries()) {
    const pin = input.pins[index];
    if (pin === undefined) throw new RangeError(`stage "${stage.name}" has no pin`);
    const entry = stageEntry(input.status, stage.name);
    const entered = enteredIdentity(entry);
    const identity = identityOf(pin);
    const entering = !sameIdentity(entered, identity);
    if (entering && hold === undefined) hold = firstHold(input, index);
    const applied = appliedIdentity(entry);
    const verified = entry?.phase === "Ready" && input.status.observedGeneration === input.generation;
    if (entering && hold !== undefined) {
      // Corrected at what it entered; a stage that entered without finishing is left alone (spec 40 §1).
      const finished = sameIdentity(entered, applied);
      const mode = !finished ? "untouched" : verified ? "keep" : "continue";
      stages.push({ stage: stage.name, index, mode, identity: entered, content: "cache", pin });
      continue;
    }
    const done = verified && sameIdentity(applied, identity);
    const mode = entering ? "enter" : done ? "keep" : "continue";
    stages.push({ stage: stage.name, index, mode, identity, content: "pin", pin });
  }
  return { stages, hold };
}

function firstHold(input: GoalInput, index: number): Hold | undefined {
  for (const check of entryHolds) {
    const hold = check(input, index);
    if (hold !== undefined) return hold;
  }
  return undefined;
}
