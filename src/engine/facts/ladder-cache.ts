import type { Fact } from "../../domain/pass/state.ts";
import type { Clock } from "../../lib/clock.ts";

export type LadderFact = Extract<Fact, { kind: "ladder" }>;

/**
 * What artifacts offer as ladders, for every StageSet of a namespace that uses them. All of it can be had again, but not
 * at any time: an artifact that took too much time or memory is looked at ever more seldom.
 */
export interface LadderCache {
  /** What is known of an artifact, by {@link ladderSlot}; undefined: it is to be read. */
  get(slot: string): LadderFact | undefined;
  /** `bytes`: of its files. */
  keep(slot: string, fact: LadderFact, bytes: number): void;
  /** Reading it took too much: this is the answer until it may be tried again. */
  putOff(slot: string, fact: LadderFact): void;
  /** Forgets what was parsed, not what was put off: that would take the memory anew. */
  clear(): void;
}

/** Whatever a ladder and what is said of it depend on. */
export function ladderSlot(parts: readonly string[]): string {
  return JSON.stringify(parts);
}

/** Of the files; parsed, plain ones take some ten times as much. */
const mostBytes = 4 * 1024 * 1024;
/** What a slot takes beside its files. */
const slotBytes = 4 * 1024;
const firstDelayMs = 60_000;
const longestDelayMs = 3_600_000;
/** Artifacts on record as costly; of more, the oldest is tried again early. */
const mostPutOff = 1_000;

export function createLadderCache({ clock }: { readonly clock: Clock }): LadderCache {
  const kept = new Map<string, { readonly fact: LadderFact; readonly bytes: number }>();
  const costly = new Map<string, { readonly fact: LadderFact; readonly until: number; readonly delayMs: number }>();
  let total = 0;
  const drop = (slot: string): void => {
    total -= kept.get(slot)?.bytes ?? 0;
    kept.delete(slot);
  };
  return {
    get(slot) {
      const known = kept.get(slot);
      if (known !== undefined) {
        kept.delete(slot);
        kept.set(slot, known);
        return known.fact;
      }
      const off = costly.get(slot);
      return off !== undefined && clock.monotonic() < off.until ? off.fact : undefined;
    },
    keep(slot, fact, bytes) {
      drop(slot);
      costly.delete(slot);
      kept.set(slot, { fact, bytes: bytes + slotBytes });
      total += bytes + slotBytes;
      for (const oldest of kept.keys()) {
        if (total <= mostBytes || kept.size === 1) break;
        drop(oldest);
      }
    },
    putOff(slot, fact) {
      const before = costly.get(slot)?.delayMs;
      const delayMs = before === undefined ? firstDelayMs : Math.min(2 * before, longestDelayMs);
      costly.delete(slot);
      costly.set(slot, { fact, delayMs, until: clock.monotonic() + delayMs });
      const [oldest] = costly.keys();
      if (costly.size > mostPutOff && oldest !== undefined) costly.delete(oldest);
    },
    clear() {
      kept.clear();
      total = 0;
    },
  };
}
