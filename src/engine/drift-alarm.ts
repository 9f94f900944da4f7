import { samePrint } from "../apply/fingerprint.ts";
import type { Clock } from "../lib/clock.ts";
import type { Guarded, Slot } from "./slot.ts";

/**
 * Tells when guarded objects of one StageSet are not as they were applied any more: 250 ms after the first event that
 * shows it, so that one edit of many objects, or of one in several steps, makes one pass. Each state of an object is told
 * once: a pass that left it alone had a reason.
 */
export interface DriftAlarm extends Disposable {
  /** Something new was seen of this object. */
  look(slot: string): void;
  /** What a stage waits for is gone: told as drift is, also while paused. */
  lost(slot: string): void;
  /** From now on drift wakes; what was seen while paused counts. */
  arm(): void;
  pause(): void;
  /** Looks a little later whether all guarded objects were seen by their watch; what was not is gone, or out of sight. */
  checkSoon(): void;
  contest(slot: string, contested: boolean): void;
}

/** Spec 20 §16.2. */
const debounceMs = 250;
/** A watch brings what exists within this time of its opening. */
const firstStateMs = 2_000;

export function createDriftAlarm(options: {
  readonly clock: Clock;
  readonly slots: ReadonlyMap<string, Slot>;
  readonly guarded: ReadonlyMap<string, Guarded>;
  /** The number of the open watch that follows the object and has not shown it; undefined: none, or it has. */
  readonly unseenBy: (slot: Slot) => number | undefined;
  readonly wake: (cause: "readiness" | "drift") => void;
}): DriftAlarm {
  const { clock, slots, guarded } = options;
  const suspects = new Set<string>();
  const contested = new Set<string>();
  /** The state of an object that was told last, and the watch that was told not to show it. */
  const told = new Map<string, string>();
  const toldUnseen = new Map<string, number>();
  let armed = false;
  let debounce: Disposable | undefined;
  let check: Disposable | undefined;
  let lost: Disposable | undefined;

  const trouble = (name: string): "drift" | "readiness" | undefined => {
    const slot = slots.get(name);
    const object = guarded.get(name);
    if (slot === undefined || object === undefined || slot.readiness.status === "Terminating") return undefined;
    if (!samePrint(object.print, slot.print)) return contested.has(name) ? undefined : "drift";
    return slot.readiness.status === "Current" ? undefined : "readiness";
  };
  const stateOf = (name: string): string => {
    const slot = slots.get(name);
    return `${slot?.readiness.status ?? ""} ${slot?.resourceVersion ?? ""}`;
  };
  const tell = (): void => {
    debounce = undefined;
    if (!armed) return;
    let cause: "drift" | "readiness" | undefined;
    for (const name of suspects) {
      const found = trouble(name);
      if (found === undefined) continue;
      told.set(name, stateOf(name));
      cause = cause === "drift" ? cause : found;
    }
    suspects.clear();
    if (cause !== undefined) options.wake(cause);
  };
  const suspect = (name: string): void => {
    if (!armed || trouble(name) === undefined || told.get(name) === stateOf(name)) return;
    suspects.add(name);
    debounce ??= clock.timer(debounceMs, tell);
  };
  const lookForUnseen = (): void => {
    check = undefined;
    if (!armed) return;
    let unseen = false;
    for (const name of guarded.keys()) {
      const slot = slots.get(name);
      const stream = slot === undefined ? undefined : options.unseenBy(slot);
      if (stream === undefined || toldUnseen.get(name) === stream) continue;
      toldUnseen.set(name, stream);
      unseen = true;
    }
    if (unseen) options.wake("drift");
  };
  const checkSoon = (): void => {
    if (armed) check ??= clock.timer(firstStateMs, lookForUnseen);
  };
  const pause = (): void => {
    armed = false;
    debounce?.[Symbol.dispose]();
    debounce = undefined;
    check?.[Symbol.dispose]();
    check = undefined;
    suspects.clear();
  };
  return {
    look: suspect,
    lost(name) {
      if (contested.has(name)) return;
      lost ??= clock.timer(debounceMs, () => {
        lost = undefined;
        options.wake("readiness");
      });
    },
    arm() {
      armed = true;
      for (const known of [told, toldUnseen])
        for (const name of known.keys()) if (!guarded.has(name)) known.delete(name);
      for (const name of guarded.keys()) {
        // The pass that ends has judged readiness, and follows what is not ready.
        if (trouble(name) === "readiness") told.set(name, stateOf(name));
        else suspect(name);
      }
      checkSoon();
    },
    pause,
    checkSoon,
    contest(slot, on) {
      if (on) contested.add(slot);
      else contested.delete(slot);
    },
    [Symbol.dispose]() {
      pause();
      lost?.[Symbol.dispose]();
    },
  };
}
