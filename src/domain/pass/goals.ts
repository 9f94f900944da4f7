import type { StageStatus } from "../../api/stage-set.ts";
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
  /** Its migrations and actions run: not at content that is not pinned, nor under a dirty halt (spec 40 §1). */
  readonly acts: boolean;
  readonly pin: Pin;
  /** Applied, but with steps to run, which a dirty halt forbids: it is corrected, and becomes Ready no more. */
  readonly halted?: true;
}

export interface Goals {
  readonly stages: readonly StageGoal[];
  readonly hold: Hold | undefined;
  /** The stage that is held at its promotion gate, be that the hold or not. */
  readonly gate: HeldGate | undefined;
  /** No action runs, onFailure actions included. */
  readonly halt: Hold | undefined;
  /** No stage begins anything; those that are applied are corrected. */
  readonly onlyKeeps: boolean;
  /** The hold stops every write to the target, also of what runs. */
  readonly standstill: boolean;
}

/** Decides where each stage is driven to. Holds, windows, budgets and rollback change nothing but this. */
export function planGoals(input: GoalInput): Goals {
  const still = standstill(input);
  const halt = still === undefined ? dirtyHalt(input) : undefined;
  const onlyKeeps = halt?.reason === "MigrationDirty" || input.unchecked === true;
  const halted = onlyKeeps ? ({ halted: true } as const) : {};
  let hold = still ?? halt;
  const holds = entryHolds.map((prepare) => prepare(input));
  const stages: StageGoal[] = [];
  for (const [index, stage] of input.spec.stages.entries()) {
    const pin = input.pins[index];
    if (pin === undefined) throw new RangeError(`stage "${stage.name}" has no pin`);
    const entry = stageEntry(input.status, stage.name);
    const entered = enteredIdentity(entry);
    const base = { stage: stage.name, index, pin };
    const identity = identityOf(pin);
    const entering = !sameIdentity(entered, identity);
    if (entering && hold === undefined) hold = firstHold(holds, index);
    if (still !== undefined) {
      stages.push({ ...base, mode: "untouched", identity: entered, content: "cache", acts: false });
      continue;
    }
    const applied = appliedIdentity(entry);
    const verified = entry?.phase === "Ready" && input.status.observedGeneration === input.generation;
    if (entering && hold !== undefined) {
      // Corrected at what it entered; a stage that entered without finishing is left alone (spec 40 §1).
      const finished = sameIdentity(entered, applied);
      const kept = onlyKeeps || verified;
      const mode = !finished ? "untouched" : kept ? "keep" : "continue";
      stages.push({ ...base, mode, identity: entered, content: "cache", acts: false, ...(verified ? {} : halted) });
      continue;
    }
    const applies = sameIdentity(applied, identity);
    const { revision } = identity;
    const { ledger, versionHold } = input;
    const version = input.version ?? (halt === undefined ? undefined : leftVersion(input, entry));
    const unfinished = unfinishedActions(stage, entry, { stage: stage.name, revision, version, ledger });
    const acts = halt === undefined && !onlyKeeps;
    if (!entering && !applies && (halt !== undefined || versionHold !== undefined)) {
      // It began what may not go on.
      stages.push({ ...base, mode: "untouched", identity, content: "pin", acts: false });
      continue;
    }
    if (!entering && (onlyKeeps || (halt !== undefined && unfinished.length > 0))) {
      stages.push({ ...base, mode: "keep", identity, content: "pin", acts, halted: true });
      continue;
    }
    // What ran at this revision is on record as long as the stage is Ready at it.
    const left = unfinished.some(({ scope }) => scope === "Version" || scope === "Lifetime");
    const done = verified && applies && (!left || versionHold !== undefined);
    const mode = entering ? "enter" : done ? "keep" : "continue";
    stages.push({ ...base, mode, identity, content: "pin", acts });
  }
  const gate = heldGate(input);
  return {
    stages,
    hold: hold ?? input.versionHold ?? gate?.hold,
    gate,
    halt,
    onlyKeeps,
    standstill: still !== undefined,
  };
}

/**
 * Under a halt nobody asks which version the release goes to: Version actions are done that are done for what their stage was
 * begun for. The empty text is no version, for which none is.
 */
function leftVersion({ spec }: GoalInput, entry: StageStatus | undefined): string | undefined {
  return spec.version === undefined ? undefined : (entry?.ledgerVersion ?? "");
}

function firstHold(holds: readonly ReturnType<EntryHold>[], index: number): Hold | undefined {
  for (const check of holds) {
    const hold = check(index);
    if (hold !== undefined) return hold;
  }
  return undefined;
}
