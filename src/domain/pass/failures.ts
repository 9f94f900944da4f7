import { deepEqual } from "../../lib/equal.ts";
import { stageFailure, type Failure } from "../failure.ts";
import { identityOf, type Pin } from "../pins.ts";
import { factOf } from "./plan.ts";
import type { Cause, Memory, PassState } from "./state.ts";

/** Share of a backoff that its jitter never goes below. */
const surelyWaited = 0.9;

/** Causes that end a backoff only by what they changed: events of other objects, and timers set before it. */
const indifferent: ReadonlySet<Cause> = new Set(["source", "dependency", "time"]);

/** Pins of the run under way, else those read in this pass; undefined while neither is known. */
export function knownPins(state: PassState): readonly Pin[] | undefined {
  const run = runningRun(state);
  if (run !== undefined) return run.pins;
  const fact = factOf(state, { kind: "pins" });
  return fact?.kind === "pins" ? fact.pins : undefined;
}

/** The run that goes on in this pass; one of an older generation does not. */
export function runningRun(state: PassState): Memory["run"] {
  const { run } = state.memory;
  return run?.generation === state.snapshot.generation ? run : undefined;
}

/** How often in a row this target has failed with the pass that ends now, from 1 (n of spec 20 §1). */
export function failuresNow(state: PassState): number {
  return (state.memory.failedTarget === targetOf(state) ? state.memory.failures : 0) + 1;
}

/** What to remember of a failed pass; `backoffMs` is undefined when it is looked at again for another reason. */
export function failedMemory(state: PassState, backoffMs: number | undefined): Partial<Memory> {
  return {
    failures: failuresNow(state),
    failedTarget: targetOf(state),
    backoffUntil: backoffMs === undefined ? undefined : state.elapsed + surelyWaited * backoffMs,
    run: undefined,
  };
}

/** How long this pass still has to leave a failed target alone, ms; 0: not at all (spec 20 §1, next look). */
export function backoffLeftMs(state: PassState): number {
  const { backoffUntil, failedTarget } = state.memory;
  if (backoffUntil === undefined || failedTarget !== targetOf(state) || runningRun(state) !== undefined) return 0;
  if (![...state.causes].every((cause) => indifferent.has(cause))) return 0;
  return Math.max(0, backoffUntil - state.elapsed);
}

/** Whether the sources offer something else than what the run is pinned to, or nothing usable any more. */
export function sourcesMoved(state: PassState, pins: readonly Pin[]): boolean {
  const now = factOf(state, { kind: "pins" });
  return now?.kind !== "pins" || !deepEqual(now.pins.map(identityOf), pins.map(identityOf));
}

/** An identity that cannot be assumed, as the failure of the stage that needs it (spec 20 steps 10 and 18). */
export function connectFailure(stage: string, cannot: Failure): Failure {
  const { reason, message } = cannot;
  // What is wrong is the StageSet's, not the stage's.
  if (reason === "InvalidSpec") return cannot;
  return stageFailure(
    { name: stage, operation: "connect to target cluster", cause: message },
    reason === "RBACDenied" ? "authorization" : "ordinary",
  );
}

function targetOf(state: PassState): string {
  const pins = knownPins(state) ?? [];
  return JSON.stringify([state.snapshot.generation, pins.map(({ revision, digest }) => [revision, digest])]);
}
