/** A span of time in which a zone's local time runs ahead of UTC by the same amount. */
export interface ZoneSpan {
  /** Epoch ms, inclusive. Where two spans with one offset meet, nothing happens. */
  readonly from: number;
  /** Epoch ms, exclusive. */
  readonly to: number;
  /** Local time minus UTC, ms; whole minutes. */
  readonly offsetMs: number;
}

/** Which offset a time zone has when. */
export interface Zone {
  /** The span that `epochMs` is in. */
  spanAt(epochMs: number): ZoneSpan;
}

/** Longest name that is looked up. */
const longestName = 64;

/** Whether the text names a time zone: an IANA name or `UTC`; offsets, `Local` and unknown names are none. */
export function isTimeZone(text: string): boolean {
  if (text.length > longestName || !/^[A-Za-z]/.test(text)) return false;
  try {
    zoneOf(text);
    return true;
  } catch {
    return false; // The only failure is a RangeError for a name that is not known.
  }
}

const minuteMs = 60_000;
/** No zone has changed back within less than a week since 2000 (tzdb: Brazil in October 2000), so equal ends mean one offset. */
const weekMs = 7 * 24 * 60 * minuteMs;

const utc: Zone = { spanAt: () => ({ from: -Infinity, to: Infinity, offsetMs: 0 }) };

/** A zone takes 0.1 ms and 30 KB to begin with; there are about 600 names. Pure results, remembered for everybody. */
const mostZones = 256;
const zones = new Map<string, Zone>();

/** @param name as {@link isTimeZone} accepts it; for any other this throws a RangeError */
export function zoneOf(name: string): Zone {
  const known = zones.get(name);
  if (known !== undefined) return known;
  const zone = name.toUpperCase() === "UTC" ? utc : createZone(name);
  const oldest = zones.keys().next().value;
  if (zones.size >= mostZones && oldest !== undefined) zones.delete(oldest);
  zones.set(name, zone);
  return zone;
}

/** Weeks remembered per zone: a search looks at most at 400 days and a few scattered years. */
const mostWeeks = 200;

function createZone(name: string): Zone {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: name,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
  });
  const offsetAt = (epochMs: number): number => {
    const [month = 0, day = 0, year = 0, hour = 0, minute = 0] = (format.format(epochMs).match(/\d+/g) ?? []).map(
      Number,
    );
    return Date.UTC(year, month - 1, day, hour, minute) - Math.floor(epochMs / minuteMs) * minuteMs;
  };
  const weeks = new Map<number, readonly ZoneSpan[]>();
  const week = (index: number): readonly ZoneSpan[] => {
    const known = weeks.get(index);
    if (known !== undefined) return known;
    if (weeks.size >= mostWeeks) weeks.clear();
    const spans = spansBetween(index * weekMs, (index + 1) * weekMs, offsetAt);
    weeks.set(index, spans);
    return spans;
  };
  return {
    spanAt(epochMs) {
      const span = week(Math.floor(epochMs / weekMs)).find(({ to }) => epochMs < to);
      if (span === undefined) throw new RangeError(`no time zone is known at ${epochMs}`);
      return span;
    },
  };
}

/** One span, or two that meet at the minute in which the offset changes. */
function spansBetween(from: number, to: number, offsetAt: (epochMs: number) => number): readonly ZoneSpan[] {
  const before = offsetAt(from);
  const after = offsetAt(to);
  if (before === after) return [{ from, to, offsetMs: before }];
  let [last, first] = [from, to];
  while (first - last > minuteMs) {
    const middle = last + Math.floor((first - last) / 2 / minuteMs) * minuteMs;
    if (offsetAt(middle) === before) last = middle;
    else first = middle;
  }
  return first === to
    ? [{ from, to, offsetMs: before }]
    : [
        { from, to: first, offsetMs: before },
        { from: first, to, offsetMs: after },
      ];
}
