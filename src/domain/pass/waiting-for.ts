import type { StageStatus } from "../../api/stage-set.ts";
import { deepEqual } from "../../lib/equal.ts";
import { timestamp } from "../status.ts";
import type { Waiting } from "./state.ts";

type WaitingFor = NonNullable<StageStatus["waitingFor"]>;

/** Objects named in status (spec 10 §5.5). */
export const mostListed = 10;
/** The list is brought up to date this soon, then ever more rarely: what waits for long seldom changes. */
const soonestMs = 2_000;
const latestMs = 60_000;

/** What a stage waits for as status shows it: each object since it was first listed. `now` is epoch ms. */
export function listWaiting(waiting: readonly Waiting[], before: StageStatus["waitingFor"], now: number): WaitingFor {
  return waiting.slice(0, mostListed).map((object) => {
    const { kind, namespace, name, status } = object;
    const message = withCause(object);
    const known = before?.find((each) => each.kind === kind && each.namespace === namespace && each.name === name);
    return { kind, namespace, name, status, message, since: known?.since ?? timestamp(now) };
  });
}

/** What the object says, and why as its pods tell it. */
export function withCause({ message, cause }: Pick<Waiting, "message" | "cause">): string {
  return [message, cause?.text ?? ""].filter((part) => part !== "").join(": ");
}

/** Whether the stored list says something else than holds now. */
export function isOutdated(waiting: readonly Waiting[], stored: StageStatus["waitingFor"]): boolean {
  return !deepEqual(listWaiting(waiting, stored, 0), stored ?? []);
}

/** When a list written at `writtenAt` may be written anew; monotonic ms, `started` is when the wait began. */
export function nextListingAt({
  started,
  writtenAt,
}: {
  readonly started: number;
  readonly writtenAt: number;
}): number {
  return writtenAt + Math.min(latestMs, Math.max(soonestMs, (writtenAt - started) / 2));
}
