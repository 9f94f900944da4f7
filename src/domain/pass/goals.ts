import { unfinishedActions } from "../actions/unfinished.ts";
import { dirtyHalt } from "../holds/dirty-halt.ts";
import { entryHolds } from "../holds/entry-holds.ts";
import type { EntryHold, GoalInput, Hold } from "../holds/hold.ts";
import { heldGate, type HeldGate } from "../holds/promotion-gate.ts";
import { standstill } from "../holds/update-window.ts";
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
  /** Applied, but with actions to run, which a dirty halt forbids: it is corrected, and becomes Ready no more. */
  readonly halted?: true;
}

export interface Goals {
  readonly stages: readonly StageGoal[];
  readonly hold: Hold | undefined;
  /** The stage that is held at its promotion gate, be that the hold or not. */
  readonly gate: HeldGate | undefined;
  /** No action runs, onFailure actions included. */
  readonly halt: Hold | undefined;
  /** The hold stops every write to the target, also of what runs. */
  readonly standstill: boolean;
}

/** Decides where each stage is driven to. Holds, windows, budgets and rollback change nothing but this. */
export function planGoals(input: GoalInput): Goals {
  const still = standstill(input);
  const halt = dirtyHalt(input);
  let hold = still ?? halt;
  const holds = entryHolds.map((prepare) => prepare(input));
  const stages: StageGoal[] = [];
  for (const [index, stage] of input.spec.stages.entries()) {
    const pin = input.pins[index];
    if (pin === undefined) throw new RangeError(`stage "${stage.name}" has no pin`);
    const entry = stageEntry(input.status, stage.name);
    const entered = enteredIdentity(entry);
    const identity = identityOf(pin);
    const entering = !sameIdentity(entered, identity);
    if (entering && hold === undefined) hold = firstHold(holds, index);
    if (still !== undefined) {
      stages.push({ stage: stage.name, index, mode: "untouched", identity: entered, content: "cache", pin });
      continue;
    }
    const applied = appliedIdentity(entry);
    const verified = entry?.phase === "Ready" && input.status.observedGeneration === input.generation;
    if (entering && hold !== undefined) {
      // Corrected at what it entered; a stage that entered without finishing is left alone (spec 40 §1).
      const finished = sameIdentity(entered, applied);
      const mode = !finished ? "untouched" : verified ? "keep" : "continue";
      stages.push({ stage: stage.name, index, mode, identity: entered, content: "cache", pin });
      continue;
    }
    const { revision } = identity;
    const { version, ledger } = input;
    const unfinished = unfinishedActions(stage, entry, { stage: stage.name, revision, version, ledger });
    const isApplied = sameIdentity(applied, identity);
    if (!entering && halt !== undefined && (!isApplied || unfinished.length > 0)) {
      const base = { stage: stage.name, index, identity, content: "pin", pin } as const;
      stages.push(isApplied ? { ...base, mode: "keep", halted: true } : { ...base, mode: "untouched" });
      continue;
    }
    // What ran at this revision is on record as long as the stage is Ready at it.
    const acts = unfinished.some(({ scope }) => scope === "Version" || scope === "Lifetime");
    const done = verified && isApplied && !acts;
    const mode = entering ? "enter" : done ? "keep" : "continue";
    stages.push({ stage: stage.name, index, mode, identity, content: "pin", pin });
  }
  const gate = heldGate(input);
  return { stages, hold: hold ?? gate?.hold, gate, halt, standstill: still !== undefined };
}

function firstHold(holds: readonly ReturnType<EntryHold>[], index: number): Hold | undefined {
  for (const check of holds) {
    const hold = check(index);
    if (hold !== undefined) return hold;
  }
  return undefined;
}
