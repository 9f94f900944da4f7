import { describe, expect, test } from "vitest";
import { stateOfWindows, type UpdateWindow } from "./update-windows.ts";

const at = (text: string): number => Date.parse(text);
const shown = (state: ReturnType<typeof stateOfWindows>): string => {
  const { open, changesAt } = state;
  const when = typeof changesAt === "number" ? new Date(changesAt).toISOString().replace(".000Z", "Z") : changesAt;
  return `${open ? "open" : "closed"} until ${when}`;
};
const state = (windows: readonly UpdateWindow[], now: string): string => shown(stateOfWindows(windows, at(now)));

const deny = (schedule: string, duration: string, timeZone?: string): UpdateWindow => ({
  type: "Deny",
  schedule,
  duration,
  ...(timeZone === undefined ? {} : { timeZone }),
});
const allow = (...rest: Parameters<typeof deny>): UpdateWindow => ({ ...deny(...rest), type: "Allow" });
const once = (type: "Allow" | "Deny", from: string, to: string): UpdateWindow => ({ type, from, to });

/** Windows, an instant, and what the decision is there. */
const table: readonly (readonly [title: string, windows: readonly UpdateWindow[], now: string, expected: string])[] = [
  ["no window at all is open", [], "2026-01-01T00:00:00Z", "open until never"],
  // Berlin springs forward on 2026-03-29 at 02:00 (01:00Z): the day has no 02:30.
  [
    "Deny 02:30 on the day without one begins at 03:00",
    [deny("30 2 * * *", "1h", "Europe/Berlin")],
    "2026-03-29T01:00:00Z",
    "closed until 2026-03-29T02:00:00Z",
  ],
  [
    "and not before",
    [deny("30 2 * * *", "1h", "Europe/Berlin")],
    "2026-03-29T00:59:59Z",
    "open until 2026-03-29T01:00:00Z",
  ],
  [
    "seen from the very instant before the gap",
    [deny("30 2 * * *", "1h", "Europe/Berlin")],
    "2026-03-29T00:59:59.999Z",
    "open until 2026-03-29T01:00:00Z",
  ],
  [
    "the next day it is 02:30 again",
    [deny("30 2 * * *", "1h", "Europe/Berlin")],
    "2026-03-29T02:00:00Z",
    "open until 2026-03-30T00:30:00Z",
  ],
  [
    "the day before it was 02:30 in winter time",
    [deny("30 2 * * *", "1h", "Europe/Berlin")],
    "2026-03-28T01:30:00Z",
    "closed until 2026-03-28T02:30:00Z",
  ],
  [
    "many local times in one gap are one start",
    [deny("*/10 2 * * *", "5m", "Europe/Berlin")],
    "2026-03-29T01:00:00Z",
    "closed until 2026-03-29T01:05:00Z",
  ],
  [
    "a gap and a start right after it are one start",
    [deny("30 2,3 * * *", "10m", "America/New_York")],
    "2026-03-08T07:00:00Z",
    "closed until 2026-03-08T07:10:00Z",
  ],
  [
    "a day that ends in a gap: Deny at 00:15 in Beirut on 2026-03-29, when 00:00 becomes 01:00",
    [deny("15 0 * * *", "30m", "Asia/Beirut")],
    "2026-03-28T22:10:00Z",
    "closed until 2026-03-28T22:30:00Z",
  ],
  // Berlin falls back on 2026-10-25 at 03:00 (01:00Z): 02:30 is there at 00:30Z and at 01:30Z.
  [
    "an ambiguous start begins at the first occurrence",
    [deny("30 2 * * *", "30m", "Europe/Berlin")],
    "2026-10-25T00:30:00Z",
    "closed until 2026-10-25T01:00:00Z",
  ],
  [
    "ends by elapsed time",
    [deny("30 2 * * *", "30m", "Europe/Berlin")],
    "2026-10-25T01:00:00Z",
    "open until 2026-10-25T01:30:00Z",
  ],
  [
    "and begins again at the second",
    [deny("30 2 * * *", "30m", "Europe/Berlin")],
    "2026-10-25T01:30:00Z",
    "closed until 2026-10-25T02:00:00Z",
  ],
  [
    "longer than the hour between them they are one",
    [deny("30 2 * * *", "90m", "Europe/Berlin")],
    "2026-10-25T00:30:00Z",
    "closed until 2026-10-25T03:00:00Z",
  ],
  [
    "ambiguous 01:30 in New York starts twice",
    [allow("30 1 * * *", "10m", "America/New_York")],
    "2026-11-01T05:40:00Z",
    "closed until 2026-11-01T06:30:00Z",
  ],
  [
    "duration is elapsed time, not wall-clock time",
    [allow("0 0 * * *", "24h", "Europe/Berlin")],
    "2026-10-25T22:30:00Z",
    "closed until 2026-10-25T23:00:00Z",
  ],
  [
    "and on the short day overlaps the next one",
    [allow("0 0 29,30 3 *", "24h", "Europe/Berlin")],
    "2026-03-28T23:00:00Z",
    "open until 2026-03-30T22:00:00Z",
  ],
  // A zone that shifts by half an hour, and one that skipped a whole day.
  [
    "Lord Howe springs forward by 30 minutes at 02:00 on 2026-10-04",
    [deny("15 2 * * *", "10m", "Australia/Lord_Howe")],
    "2026-10-03T15:35:00Z",
    "closed until 2026-10-03T15:40:00Z",
  ],
  [
    "Apia had no 2011-12-30",
    [deny("0 12 30 12 *", "1h", "Pacific/Apia")],
    "2011-12-30T09:59:00Z",
    "open until 2011-12-30T10:00:00Z",
  ],
  // Overlaps.
  [
    "occurrences that overlap are one",
    [deny("0 8,9 * * *", "90m")],
    "2026-01-01T08:00:00Z",
    "closed until 2026-01-01T10:30:00Z",
  ],
  [
    "so are occurrences that meet",
    [deny("0 8,9 * * *", "1h")],
    "2026-01-01T08:00:00Z",
    "closed until 2026-01-01T10:00:00Z",
  ],
  [
    "two windows that meet are one closed time",
    [deny("0 8 * * *", "1h"), deny("0 9 * * *", "1h")],
    "2026-01-01T08:30:00Z",
    "closed until 2026-01-01T10:00:00Z",
  ],
  ["a start is inclusive", [deny("0 8 * * *", "1h")], "2026-01-01T08:00:00Z", "closed until 2026-01-01T09:00:00Z"],
  ["an end is exclusive", [deny("0 8 * * *", "1h")], "2026-01-01T09:00:00Z", "open until 2026-01-02T08:00:00Z"],
  [
    "a window goes over midnight",
    [allow("0 22 * * *", "4h")],
    "2026-01-02T01:59:59Z",
    "open until 2026-01-02T02:00:00Z",
  ],
  // Deny over Allow.
  [
    "Deny wins over Allow",
    [allow("0 8 * * *", "8h"), deny("0 12 * * *", "1h")],
    "2026-01-01T12:30:00Z",
    "closed until 2026-01-01T13:00:00Z",
  ],
  [
    "and the Allow ends at the Deny",
    [allow("0 8 * * *", "8h"), deny("0 12 * * *", "1h")],
    "2026-01-01T09:00:00Z",
    "open until 2026-01-01T12:00:00Z",
  ],
  [
    "a Deny that hides the Allow's opening delays it",
    [allow("0 8 * * *", "8h"), deny("0 7 * * *", "2h")],
    "2026-01-01T06:00:00Z",
    "closed until 2026-01-01T09:00:00Z",
  ],
  [
    "one of several Allows is enough",
    [allow("0 8 * * *", "1h"), allow("30 8 * * *", "1h")],
    "2026-01-01T08:00:00Z",
    "open until 2026-01-01T09:30:00Z",
  ],
  [
    "an Allow and a Deny that turn at once change nothing in between",
    [allow("0 8 * * *", "1h"), deny("0 8 * * *", "1h"), allow("0 10 * * *", "1h")],
    "2026-01-01T07:00:00Z",
    "closed until 2026-01-01T10:00:00Z",
  ],
  // One-off windows.
  [
    "from is inclusive",
    [once("Deny", "2026-12-20T00:00:00Z", "2027-01-04T00:00:00Z")],
    "2026-12-20T00:00:00Z",
    "closed until 2027-01-04T00:00:00Z",
  ],
  [
    "to is exclusive, and over is over",
    [once("Deny", "2026-12-20T00:00:00Z", "2027-01-04T00:00:00Z")],
    "2027-01-04T00:00:00Z",
    "open until never",
  ],
  [
    "times carry their own offset",
    [once("Allow", "2026-12-20T08:00:00+05:30", "2026-12-20T09:00:00+05:30")],
    "2026-12-20T02:00:00Z",
    "closed until 2026-12-20T02:30:00Z",
  ],
  [
    "an expired Allow keeps updates closed",
    [once("Allow", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")],
    "2026-01-03T00:00:00Z",
    "closed until never",
  ],
  [
    "also beside a Deny that comes and goes",
    [once("Allow", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"), deny("@daily", "1h")],
    "2026-01-03T00:30:00Z",
    "closed until never",
  ],
  [
    "beside another Allow it means nothing",
    [once("Allow", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"), allow("@daily", "1h")],
    "2026-01-03T00:30:00Z",
    "open until 2026-01-03T01:00:00Z",
  ],
  // Days.
  [
    "an Allow on 31 April keeps updates closed",
    [allow("0 0 31 4 *", "1h")],
    "2026-01-01T00:00:00Z",
    "closed until never",
  ],
  ["a Deny on 31 April never closes", [deny("0 0 31 4 *", "1h")], "2026-01-01T00:00:00Z", "open until never"],
  ["29 February is beyond the search", [allow("0 0 29 2 *", "1h")], "2026-01-01T00:00:00Z", "closed until unknown"],
  ["and within it", [allow("0 0 29 2 *", "1h")], "2028-02-01T00:00:00Z", "closed until 2028-02-29T00:00:00Z"],
  [
    "*/2 and a weekday: either may match, here an odd day",
    [deny("0 0 */2 * 1", "1h")],
    "2026-01-06T12:00:00Z",
    "open until 2026-01-07T00:00:00Z",
  ],
  [
    "*/2 and a weekday: either may match, here a Monday",
    [deny("0 0 */2 * 1", "1h")],
    "2026-01-11T12:00:00Z",
    "open until 2026-01-12T00:00:00Z",
  ],
  [
    "*/1 and a weekday: the weekday alone decides",
    [deny("0 0 */1 * 1", "1h")],
    "2026-01-06T12:00:00Z",
    "open until 2026-01-12T00:00:00Z",
  ],
  [
    "a day of the month and */2 weekdays: either",
    [deny("0 0 13 * */2", "1h")],
    "2026-01-11T12:00:00Z",
    "open until 2026-01-13T00:00:00Z",
  ],
  ["? is *", [deny("0 0 ? * FRI", "1h")], "2026-01-01T12:00:00Z", "open until 2026-01-02T00:00:00Z"],
  ["N/s means N to the end", [deny("50/5 8 * * *", "1m")], "2026-01-01T08:51:00Z", "open until 2026-01-01T08:55:00Z"],
  // Zones.
  [
    "a zone in the schedule beats timeZone",
    [deny("TZ=Asia/Tokyo 0 9 * * *", "1h", "Europe/Berlin")],
    "2026-01-01T00:00:00Z",
    "closed until 2026-01-01T01:00:00Z",
  ],
  [
    "CRON_TZ too",
    [deny("CRON_TZ=Asia/Kathmandu 0 0 * * *", "1h")],
    "2026-01-01T18:15:00Z",
    "closed until 2026-01-01T19:15:00Z",
  ],
  [
    "a date is the zone's own",
    [deny("0 1 1 1 *", "1h", "Pacific/Kiritimati")],
    "2025-12-31T11:00:00Z",
    "closed until 2025-12-31T12:00:00Z",
  ],
  // Searches that end.
  [
    "a million hours, begun long ago",
    [allow("0 0 1 1 *", "1000000h", "Europe/Berlin")],
    "2026-06-01T00:00:00Z",
    "open until unknown",
  ],
  ["every minute for a minute", [deny("* * * * *", "1m")], "2026-06-01T00:00:00Z", "closed until unknown"],
  [
    "a pattern that changes every half a minute and never opens",
    [deny("* * * * *", "30s"), allow("0 0 1 1 *", "10s")],
    "2026-06-01T00:00:45Z",
    "closed until unknown",
  ],
];

describe("windows", () => {
  test.each(table)("[40.5] %s", (_title, windows, now, expected) => {
    expect(state(windows, now)).toBe(expected);
  });

  test("a state holds at least for a moment, and is looked at again when it may be over", () => {
    for (const [, windows, now] of table) expect(stateOfWindows(windows, at(now)).validUntil).toBeGreaterThan(at(now));
  });
});

/** Local fields by the platform's own calendar: day of month, month, weekday, hour, minute. */
function localMinute(timeZone: string): (epochMs: number) => string {
  const format = new Intl.DateTimeFormat("en-GB", {
    timeZone,
    dateStyle: "full",
    timeStyle: "short",
    hourCycle: "h23",
  });
  return (epochMs) => format.format(epochMs);
}

describe("starts, against a walk through every minute", () => {
  test.each([
    ["Europe/Berlin", "2026-03-27T00:00:00Z"],
    ["Europe/Berlin", "2026-10-23T00:00:00Z"],
    ["America/St_Johns", "2026-03-06T00:00:00Z"],
    ["America/St_Johns", "2026-10-30T00:00:00Z"],
    ["Australia/Lord_Howe", "2026-04-03T00:00:00Z"],
    ["Australia/Lord_Howe", "2026-10-02T00:00:00Z"],
    ["Africa/Casablanca", "2026-02-13T00:00:00Z"],
    ["Africa/Casablanca", "2026-03-20T00:00:00Z"],
    ["Asia/Beirut", "2026-03-27T00:00:00Z"],
    ["Antarctica/Troll", "2026-03-27T00:00:00Z"],
    ["UTC", "2026-02-26T00:00:00Z"],
  ])("[40.5] %s from %s: minutes that exist are those that match on its clocks", (timeZone, from) => {
    const local = localMinute(timeZone);
    const windows = [deny("17 * * * *", "1m", timeZone)];
    const first = at(from);
    for (let minute = 0; minute < 4 * 24 * 60; minute++) {
      const now = first + minute * 60_000;
      const matches = local(now).endsWith(":17");
      const skipped = isGap(local, now) && skips(local, now, 17);
      expect(stateOfWindows(windows, now).open, new Date(now).toISOString()).toBe(!matches && !skipped);
    }
  });
});

function minuteOf(local: (epochMs: number) => string, epochMs: number): number {
  const [hour = 0, minute = 0] = (/(\d\d):(\d\d)$/.exec(local(epochMs)) ?? []).slice(1).map(Number);
  return hour * 60 + minute;
}

/** The clocks jump forward on the way to this minute. */
function isGap(local: (epochMs: number) => string, epochMs: number): boolean {
  const jump = (minuteOf(local, epochMs) - minuteOf(local, epochMs - 60_000) + 1_440) % 1_440;
  return jump > 1 && jump < 720;
}

/** Whether the jump passes over this minute of some hour. */
function skips(local: (epochMs: number) => string, epochMs: number, minute: number): boolean {
  const before = minuteOf(local, epochMs - 60_000);
  const jump = (minuteOf(local, epochMs) - before + 1_440) % 1_440;
  for (let each = 1; each < jump; each++) if ((before + each) % 60 === minute) return true;
  return false;
}

describe("how long it takes", () => {
  const zones = Intl.supportedValuesOf("timeZone");
  const many = (make: (index: number) => UpdateWindow): readonly UpdateWindow[] =>
    Array.from({ length: 200 }, (_, i) => make(i));
  test.each<readonly [string, readonly UpdateWindow[]]>([
    ["1 000 000 h", [allow("* * * * *", "1000000h", "Europe/Berlin")]],
    ["a minutely schedule with a year-long duration", [deny("* * * * *", "8760h", "Europe/Berlin")]],
    ["a minutely schedule that never ends", [deny("* * * * *", "1m", "Europe/Berlin")]],
    ["200 daily windows in 200 zones", many((i) => deny(`${i % 60} ${i % 24} * * *`, "1h", zones[i] ?? "UTC"))],
    ["200 minutely windows in 200 zones", many((i) => deny("* * * * *", "30s", zones[i] ?? "UTC"))],
    ["200 windows on 29 February", many((i) => allow("0 0 29 2 *", "1h", zones[i] ?? "UTC"))],
  ])("[40.5] %s takes less than 50 ms", (_title, windows) => {
    const now = at("2026-06-01T00:00:00Z");
    stateOfWindows(windows, now);
    // The least of some, and five times the bound: others may have the machine in between.
    const took = Array.from({ length: 5 }, (_, index) => {
      const began = performance.now();
      stateOfWindows(windows, now + index * 1_000);
      return performance.now() - began;
    });
    expect(Math.min(...took)).toBeLessThan(5 * 50);
  });
});
