import type { StageSetSpec } from "../../api/stage-set.ts";
import { durationMs } from "../../lib/duration.ts";
import { asArray, asObject } from "../../lib/json.ts";
import { neverFires, parseCron } from "../formats/cron.ts";
import { isTimeZone } from "../formats/time-zone.ts";
import { deny, type Finding, inside, type Place, quote, root, warn } from "./finding.ts";

const boundsKeys = new Set(["timeout", "soak", "after", "interval"]);
/** Members whose keys are the user's. */
const maps = new Set(["substitute", "matchLabels"]);

/** V2 and V29: durations and update windows. */
export function* timeFindings(spec: StageSetSpec, now?: number): Generator<Finding> {
  yield* negativeDurations(root, spec);
  for (const [index, window] of (spec.updateWindows ?? []).entries())
    yield* windowFindings(inside(inside(root, "updateWindows"), `[${index}]`), window, now);
}

/** V2, a warning: durations below 0 anywhere in a value. */
export function* negativeDurations(place: Place, value: unknown): Generator<Finding> {
  for (const [index, item] of asArray(value).entries()) yield* negativeDurations(inside(place, `[${index}]`), item);
  for (const [key, member] of Object.entries(asObject(value) ?? {})) {
    if (typeof member === "string") {
      if (boundsKeys.has(key) && (durationMs(member) ?? 0) < 0)
        yield warn("V2", inside(place, key), `is ${quote(member)}, which counts as not set`);
    } else if (!maps.has(key)) yield* negativeDurations(inside(place, key), member);
  }
}

type UpdateWindow = NonNullable<StageSetSpec["updateWindows"]>[number];

function* windowFindings(place: Place, window: UpdateWindow, now: number | undefined): Generator<Finding> {
  const { schedule, duration, from, to, timeZone } = window;
  const recurring = schedule !== undefined || duration !== undefined;
  const absolute = from !== undefined || to !== undefined;
  if (recurring === absolute) {
    const wanted = "want either schedule and duration, or from and to";
    yield deny("V29", place, recurring ? `is recurring and absolute at once, ${wanted}` : `has no times, ${wanted}`);
  }
  if (recurring) yield* recurringFindings(place, window);
  if (absolute) yield* absoluteFindings(place, window);
  if (window.type === "Allow" && to !== undefined && now !== undefined && Date.parse(to) <= now)
    yield warn("V29", inside(place, "to"), `is ${quote(to)}, which is over: the window stays closed`);
  if (timeZone !== undefined && !isTimeZone(timeZone))
    yield deny("V29", inside(place, "timeZone"), `is ${quote(timeZone)}, want an IANA name such as "Europe/Berlin"`);
  if (timeZone !== undefined && schedule === undefined)
    yield warn("V29", inside(place, "timeZone"), `is ${quote(timeZone)}, which has no effect without schedule`);
}

function* recurringFindings(place: Place, { schedule, duration }: UpdateWindow): Generator<Finding> {
  const durationPlace = inside(place, "duration");
  if (duration === undefined) yield deny("V29", durationPlace, "is missing, want how long the window stays open");
  else if ((durationMs(duration) ?? 0) <= 0)
    yield deny("V29", durationPlace, `is ${quote(duration)}, want one above 0`);
  const schedulePlace = inside(place, "schedule");
  if (schedule === undefined) {
    yield deny("V29", schedulePlace, "is missing, want when the window opens");
    return;
  }
  const parsed = parseCron(schedule); // The zone beside it is checked by itself.
  if (parsed.kind === "malformed")
    yield deny("V29", schedulePlace, `is ${quote(schedule)}, want a schedule such as "0 8 * * 1-5": ${parsed.problem}`);
  else if (neverFires(parsed.cron))
    yield warn("V29", schedulePlace, `is ${quote(schedule)}, which never comes within 5 years`);
}

function* absoluteFindings(place: Place, { from, to }: UpdateWindow): Generator<Finding> {
  if (from === undefined) yield deny("V29", inside(place, "from"), "is missing, want when the window opens");
  if (to === undefined) yield deny("V29", inside(place, "to"), "is missing, want when the window closes");
  if (from !== undefined && to !== undefined && !(Date.parse(to) > Date.parse(from)))
    yield deny("V29", inside(place, "to"), `is ${quote(to)}, want a time after from ${quote(from)}`);
}
