import { neverFires, type Cron } from "../formats/cron.ts";
import { zoneOf, type Zone, type ZoneSpan } from "../formats/time-zone.ts";

const minuteMs = 60_000;
const dayMs = 24 * 60 * minuteMs;
/** From one 29 February to the next, with a century in between that has none. */
const longestGapDays = 8 * 366 + 1;

/*
 * Local times are counted as if they were UTC: ms since 1970-01-01 00:00 on the zone's own clocks. A start is an instant.
 * A local time that the clocks skip starts at the first instant after the gap, one that they show twice starts twice
 * (spec 40 §2). That falls out of looking at one span of constant offset after the other, and at the gaps between.
 */

/** The first start after `epochMs`, exclusive; undefined when there is none. */
export function startAfter(cron: Cron, epochMs: number): number | undefined {
  const zone = zoneOf(cron.zone);
  let at = epochMs + 1;
  const first = zone.spanAt(at);
  if (first.from === at) {
    const before = zone.spanAt(epochMs).offsetMs;
    const skipped = before < first.offsetMs ? nextLocal(cron, at + before) : undefined;
    if (skipped !== undefined && skipped < at + first.offsetMs) return at;
  }
  for (;;) {
    const span = zone.spanAt(at);
    const local = nextLocal(cron, at + span.offsetMs);
    if (local === undefined) return undefined;
    if (local < span.to + span.offsetMs) return local - span.offsetMs;
    const { offsetMs } = zone.spanAt(span.to);
    if (offsetMs > span.offsetMs && local < span.to + offsetMs) return span.to;
    // Past the first day no clock that was put back can show what came before `epochMs` again.
    at = span.to > epochMs + dayMs ? Math.max(span.to, local - dayMs) : span.to;
  }
}

/** The last start at or before `epochMs`; undefined when there is none at or after `notBefore`. */
export function startAtOrBefore(cron: Cron, epochMs: number, notBefore: number): number | undefined {
  const zone = zoneOf(cron.zone);
  let at = epochMs;
  while (at >= notBefore) {
    const span = zone.spanAt(at);
    const local = previousLocal(cron, at + span.offsetMs);
    if (local === undefined) return undefined;
    const start = local >= span.from + span.offsetMs ? local - span.offsetMs : skippedAt(zone, span, local);
    if (start !== undefined) return start >= notBefore ? start : undefined;
    at = span.from < epochMs - dayMs ? Math.min(span.from - 1, local + dayMs) : span.from - 1;
  }
  return undefined;
}

/** Where the span begins, if the clocks skipped `local` on the way to it. */
function skippedAt(zone: Zone, span: ZoneSpan, local: number): number | undefined {
  const before = zone.spanAt(span.from - 1).offsetMs;
  return before < span.offsetMs && local >= span.from + before ? span.from : undefined;
}

/** The first local time of the schedule at or after `local`. */
function nextLocal(cron: Cron, local: number): number | undefined {
  if (neverFires(cron)) return undefined;
  let day = Math.floor(local / dayMs);
  const minute = firstMinute(cron, Math.ceil((local - day * dayMs) / minuteMs));
  if (minute !== undefined && isDayOf(cron, day)) return day * dayMs + minute * minuteMs;
  const last = day + longestGapDays;
  for (day = nextDay(cron, day); day <= last; day = nextDay(cron, day))
    if (isDayOf(cron, day)) return day * dayMs + (firstMinute(cron, 0) ?? 0) * minuteMs;
  return undefined;
}

/** The last local time of the schedule at or before `local`. */
function previousLocal(cron: Cron, local: number): number | undefined {
  if (neverFires(cron)) return undefined;
  let day = Math.floor(local / dayMs);
  const minute = lastMinute(cron, Math.floor((local - day * dayMs) / minuteMs));
  if (minute !== undefined && isDayOf(cron, day)) return day * dayMs + minute * minuteMs;
  const last = day - longestGapDays;
  for (day = previousDay(cron, day); day >= last; day = previousDay(cron, day))
    if (isDayOf(cron, day)) return day * dayMs + (lastMinute(cron, 24 * 60) ?? 0) * minuteMs;
  return undefined;
}

/** The first minute of a day, 0 to 1439, from `minute` on. */
function firstMinute({ hours, minutes }: Cron, minute: number): number | undefined {
  for (const hour of hours) {
    if (hour * 60 + 59 < minute) continue;
    for (const each of minutes) if (hour * 60 + each >= minute) return hour * 60 + each;
  }
  return undefined;
}

/** The last minute of a day up to `minute`. */
function lastMinute({ hours, minutes }: Cron, minute: number): number | undefined {
  for (let hour = hours.length - 1; hour >= 0; hour--) {
    const begins = (hours[hour] ?? 0) * 60;
    if (begins > minute) continue;
    for (let each = minutes.length - 1; each >= 0; each--) {
      const candidate = begins + (minutes[each] ?? 0);
      if (candidate <= minute) return candidate;
    }
  }
  return undefined;
}

function isDayOf({ days, months, weekdays, dayMatch }: Cron, day: number): boolean {
  const date = new Date(day * dayMs);
  if (!months.includes(date.getUTCMonth() + 1)) return false;
  const byDate = days.includes(date.getUTCDate());
  const byWeekday = weekdays.includes(date.getUTCDay());
  return dayMatch === "either" ? byDate || byWeekday : byDate && byWeekday;
}

/** The day after, or the first of the next month when this one is not of the schedule. */
function nextDay({ months }: Cron, day: number): number {
  const date = new Date(day * dayMs);
  if (months.includes(date.getUTCMonth() + 1)) return day + 1;
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1) / dayMs;
}

/** The day before, or the last of the month before when this one is not of the schedule. */
function previousDay({ months }: Cron, day: number): number {
  const date = new Date(day * dayMs);
  if (months.includes(date.getUTCMonth() + 1)) return day - 1;
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1) / dayMs - 1;
}
