import { updateNowAnnotation } from "../../api/keys.ts";
import type { StageSetStatus } from "../../api/stage-set.ts";
import { deepEqual } from "../../lib/equal.ts";
import type { GoalInput } from "../holds/hold.ts";
import { pinsHash } from "../holds/override.ts";
import { asksForWindow, nextOpening } from "../holds/update-window.ts";
import { tokenOf } from "../ignored-annotations.ts";
import { identityOf, revisionKeys, sameIdentity } from "../pins.ts";
import type { WindowState } from "../windows/update-windows.ts";
import type { Goals } from "./goals.ts";
import { factOf } from "./plan.ts";
import type { FactKey, PassState } from "./state.ts";
import type { Step } from "./step.ts";

const key: FactKey = { kind: "windows" };

/** The state of the update windows, looked at again once it may have changed during a long pass. */
export function windowsNow(
  state: PassState,
  input: Pick<GoalInput, "spec" | "status" | "pins">,
): { readonly windows: WindowState | undefined } | Extract<Step, { kind: "need" }> {
  if (!asksForWindow(input)) return { windows: undefined };
  const fact = factOf(state, key);
  if (fact?.kind !== "windows" || fact.state.validUntil <= state.now) return { kind: "need", facts: [key] };
  return { windows: fact.state };
}

/**
 * What step 7 puts on record before anything is applied: what a closed window holds back, that a token was used, and
 * which pins it lets through until they are committed or superseded (spec 40 §1). Undefined when it is on record.
 */
export function windowRecord(
  state: PassState,
  { input, goals }: { readonly input: GoalInput; readonly goals: Goals },
): Extract<Step, { kind: "record" }> | undefined {
  const { status, spec, pins } = input;
  const token = tokenOf(state.snapshot.annotations[updateNowAnnotation]);
  const fresh = token !== undefined && token !== status.lastHandledUpdateOverride ? token : undefined;
  const held = goals.hold?.reason === "UpdateDeferred";
  const released = held && fresh !== undefined;
  if (!held && fresh === undefined && status.pendingUpdate === undefined && status.updateOverrideFor === undefined)
    return undefined;
  const { pendingUpdate: _pending, updateOverrideFor, ...rest } = status;
  const superseded = updateOverrideFor !== undefined && updateOverrideFor !== pinsHash(spec.stages, pins);
  const letThrough = released ? pinsHash(spec.stages, pins) : superseded ? undefined : updateOverrideFor;
  const next: StageSetStatus = {
    ...rest,
    ...(fresh === undefined ? {} : { lastHandledUpdateOverride: fresh }),
    ...(letThrough === undefined ? {} : { updateOverrideFor: letThrough }),
    ...(held && !released ? { pendingUpdate: pendingUpdate(input, goals) } : {}),
  };
  if (deepEqual(next, status)) return undefined;
  return { kind: "record", write: { kind: "status", status: next }, joinsNext: "once prepared" };
}

/** Revisions that wait, by source, and until when. */
function pendingUpdate({ pins, windows }: GoalInput, goals: Goals): NonNullable<StageSetStatus["pendingUpdate"]> {
  const keys = revisionKeys(pins);
  const waiting = goals.stages.filter(({ identity, pin }) => !sameIdentity(identity, identityOf(pin)));
  const opens = nextOpening(windows);
  return {
    revisions: Object.fromEntries(waiting.map(({ index, pin }) => [keys[index] ?? "", pin.revision])),
    ...(opens === undefined ? {} : { nextWindowOpens: opens }),
  };
}
