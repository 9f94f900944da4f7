import type { StageStatus } from "../../api/stage-set.ts";
import { formatDuration } from "../../lib/duration.ts";
import { stageFailure } from "../failure.ts";
import { retryMs, verifyTimeoutMs } from "../timing.ts";
import { sourcesMoved } from "./failures.ts";
import { failStage } from "./failing-step.ts";
import { end, endProgressing } from "./finish.ts";
import { factOf } from "./plan.ts";
import type { PassState, ReadinessFact, Standstill, Waiting } from "./state.ts";
import type { Step, Wake } from "./step.ts";
import { hasNews, record, runMemory, withKey, type Turn } from "./turn.ts";
import { isUnproductive, standstillMs, standstillOf } from "./unproductive.ts";
import { isOutdated, listWaiting, nextListingAt, withCause } from "./waiting-for.ts";

/** Applied and waiting: parked until something changes or the clock is out (spec 20 §9.5). */
export function waitForReadiness(turn: Turn, readiness: Extract<ReadinessFact, { kind: "waiting" }>): Step {
  const { state, plan, goal, stage } = turn;
  const started = verifyStartedAt(turn);
  const verifyStarted = withKey(state.memory.verifyStarted, goal.stage, started);
  const timeoutMs = verifyTimeoutMs(plan.spec, stage);
  const standstill = standstillOf(readiness.objects, {
    before: state.memory.standstills.get(goal.stage),
    elapsed: state.elapsed,
  });
  const superseded = supersede(turn, readiness, standstill);
  if (superseded !== undefined) return superseded;
  const listing = listWaitingAnew(turn, readiness, started);
  if (listing.kind === "record") return listing;
  if (!isTimeOut(turn)) {
    // From then on a newer revision that has come meanwhile is taken.
    const stillAt = standstill.since + standstillMs;
    const looks = [started + timeoutMs, listing.at, ...(stillAt > state.elapsed ? [stillAt] : [])];
    return {
      kind: "park",
      wakes: [readinessWake(turn), { kind: "at", elapsed: Math.min(...looks) }],
      remember: {
        verifyStarted,
        waitingListed: listing.listed,
        standstills: withKey(state.memory.standstills, goal.stage, standstill),
        run: runMemory(turn),
      },
    };
  }
  const what = describeWaiting(readiness.objects);
  if (isGivenUp(turn, readiness))
    return failStage(
      turn,
      stageFailure({
        name: goal.stage,
        operation: "verify",
        cause: `not ready within ${formatDuration(timeoutMs)}: ${what}`,
      }),
      [readinessWake(turn)],
    );
  return endProgressing(state, {
    stage: goal.stage,
    message:
      `stage "${goal.stage}" is applied and still becoming ready: ${what} (waited ${formatDuration(timeoutMs)}: ` +
      `stage readyChecks.timeout, else stages[].timeout, else spec.timeout)`,
    wakes: [
      readinessWake(turn),
      { kind: "at", elapsed: state.elapsed + retryMs(plan.spec, state.options.defaultIntervalMs) },
    ],
    remember: { verifyStarted },
  });
}

/**
 * Pins do not move under a run that makes progress; one whose wait is unproductive gives way to a newer revision at once
 * (spec 20 §16.7). A source that offers nothing usable is none.
 */
function supersede(
  { state, plan }: Turn,
  readiness: Extract<ReadinessFact, { kind: "waiting" }>,
  standstill: Standstill,
): Step | undefined {
  const { run } = plan;
  if (run === undefined || !isUnproductive(readiness.objects, standstill, state.elapsed)) return undefined;
  if (!hasNews(state, run)) return undefined;
  const key = { kind: "pins" } as const;
  const fact = factOf(state, key);
  if (fact === undefined) return { kind: "need", facts: [key] };
  if (fact.kind !== "pins" || !sourcesMoved(state, run.pins)) return undefined;
  return end({ ready: undefined, next: { afterMs: 0, jitter: 0 }, remember: { run: undefined } });
}

/** `waitingFor` is written with the phase, then brought up to date now and then, if it says something else. */
function listWaitingAnew(
  turn: Turn,
  readiness: Extract<ReadinessFact, { kind: "waiting" }>,
  started: number,
):
  | Extract<Step, { kind: "record" }>
  | { readonly kind: "listed"; readonly at: number; readonly listed: ReadonlyMap<string, number> } {
  const { state, goal, entry } = turn;
  const writtenAt = state.memory.waitingListed.get(goal.stage) ?? state.elapsed;
  const at = nextListingAt({ started, writtenAt });
  // Past the clock passes are few, and what Ready says of the objects is what the list says.
  const overdue = isTimeOut(turn) && !isGivenUp(turn, readiness);
  const due = state.elapsed >= at || overdue;
  if (due && entry?.phase === "Verifying" && isOutdated(readiness.objects, entry.waitingFor)) {
    const listed = record(turn, waitingField(turn, readiness), listedNow(turn));
    return overdue ? { ...listed, joinsNext: "at once" } : listed;
  }
  const listedAt = due ? state.elapsed : writtenAt;
  return {
    kind: "listed",
    at: nextListingAt({ started, writtenAt: listedAt }),
    listed: withKey(state.memory.waitingListed, goal.stage, listedAt),
  };
}

export function waitingField({ entry, state }: Turn, readiness: ReadinessFact): Pick<StageStatus, "waitingFor"> {
  if (readiness.kind !== "waiting") return {};
  return { waitingFor: listWaiting(readiness.objects, entry?.waitingFor, state.now) };
}

export function listedNow({ state, goal }: Turn): Pick<PassState["memory"], "waitingListed"> {
  return { waitingListed: withKey(state.memory.waitingListed, goal.stage, state.elapsed) };
}

export function verifyStartedAt({ state, goal }: Turn): number {
  return state.memory.verifyStarted.get(goal.stage) ?? state.elapsed;
}

function isTimeOut(turn: Turn): boolean {
  return turn.state.elapsed - verifyStartedAt(turn) >= verifyTimeoutMs(turn.plan.spec, turn.stage);
}

/** The clock is out and the wait does not go on: the stage fails (spec 20 §9.5). */
export function isGivenUp(turn: Turn, readiness: Extract<ReadinessFact, { kind: "waiting" }>): boolean {
  const onTimeout = turn.stage.onTimeout ?? turn.plan.spec.onTimeout ?? "Hold";
  return isTimeOut(turn) && (readiness.stuck || onTimeout === "Rollback");
}

export function readinessWake(turn: Turn): Wake {
  return { kind: "readiness", stage: turn.goal.stage, identity: turn.identity, as: turn.as };
}

/** Up to ten objects with what holds each, in a stable order. */
export function describeWaiting(waiting: readonly Waiting[]): string {
  const named = waiting.map((object) => {
    const name = object.namespace === "" ? object.name : `${object.namespace}/${object.name}`;
    const message = withCause(object);
    const detail = message === "" ? object.status : `${object.status}, ${message}`;
    return `${object.kind === "" ? "" : `${object.kind} `}${name} (${detail})`;
  });
  const shown = named.slice(0, 10);
  return named.length > shown.length
    ? `${shown.join("; ")}; and ${named.length - shown.length} more`
    : shown.join("; ");
}
