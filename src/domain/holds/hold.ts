import type { ReadyReason } from "../../api/reasons.ts";
import type { StageSetSpec, StageSetStatus } from "../../api/stage-set.ts";
import type { StoredLedger } from "../actions/stage-ledger.ts";
import type { Pin } from "../pins.ts";
import type { WindowState } from "../windows/update-windows.ts";

/** A wait somebody asked for: nothing new enters, what runs is still corrected. */
export interface Hold {
  /** Ready stays True under a `wait` for what is fully deployed, never under a `refusal` or a `gate` (spec 40 §1). */
  readonly kind: "wait" | "refusal" | "gate";
  readonly reason: ReadyReason;
  readonly message: string;
  /** When to look again at the latest, epoch ms. */
  readonly until: number | undefined;
}

/** What error budgets hold: everything, and single stages. */
export interface BudgetHolds {
  readonly release: Hold | undefined;
  readonly stages: ReadonlyMap<string, Hold>;
}

/** What goals, and the holds that change them, are decided from. */
export interface GoalInput {
  readonly key: { readonly namespace: string; readonly name: string };
  readonly spec: StageSetSpec;
  readonly status: StageSetStatus;
  readonly generation: number;
  /** One per stage, in spec order. */
  readonly pins: readonly Pin[];
  /** Undefined: nobody asked, because there is nothing a window could hold (`asksForWindow`). */
  readonly windows: WindowState | undefined;
  /** Undefined: not known yet, or nothing a budget could hold (`budgetStep`). */
  readonly budgets: BudgetHolds | undefined;
  /** Why the version of the release is not gone to; undefined: it is, or nobody knows yet (`versionStep`). */
  readonly versionHold: Hold | undefined;
  /** Another controller's entries cannot be looked at yet: nothing begins, as under a dirty halt (`isUnchecked`). */
  readonly unchecked?: true;
  /** The version this pass goes to, in its canonical form; undefined: it has none, or nobody knows yet. */
  readonly version: string | undefined;
  /** Epoch ms. */
  readonly now: number;
  /** R of spec 10 §6. */
  readonly retryMs: number;
  /** I of spec 10 §6. */
  readonly intervalMs: number;
  readonly ledger: StoredLedger | undefined;
}

/**
 * Made ready once per plan, then asked for each stage that would enter its pin, by its index; the first one that holds
 * a stage holds every later one too.
 */
export type EntryHold = (input: GoalInput) => (index: number) => Hold | undefined;

/** A hold that is the same for every stage: judged once, and only if some stage would enter. */
export function forRelease(judge: (input: GoalInput) => Hold | undefined): EntryHold {
  return (input) => {
    let judged: { readonly hold: Hold | undefined } | undefined;
    return () => (judged ??= { hold: judge(input) }).hold;
  };
}
