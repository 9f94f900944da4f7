import { isTimeZone } from "./time-zone.ts";

/** When something happens, as calendar values in a time zone. Lists are ascending. */
export interface Cron {
  readonly minutes: readonly number[];
  readonly hours: readonly number[];
  /** Days of the month, from 1. */
  readonly days: readonly number[];
  /** From 1. */
  readonly months: readonly number[];
  /** Days of the week, Sunday is 0. */
  readonly weekdays: readonly number[];
  /** `either` when both kinds of days are restricted: then one match is enough. */
  readonly dayMatch: "both" | "either";
  /** IANA name. */
  readonly zone: string;
}

export type ParsedCron =
  { readonly kind: "cron"; readonly cron: Cron } | { readonly kind: "malformed"; readonly problem: string };

interface FieldShape {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly names: readonly string[];
}

const monthNames = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const weekdayNames = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const minute: FieldShape = { name: "minute", from: 0, to: 59, names: [] };
const hour: FieldShape = { name: "hour", from: 0, to: 23, names: [] };
const day: FieldShape = { name: "day of month", from: 1, to: 31, names: [] };
const month: FieldShape = { name: "month", from: 1, to: 12, names: monthNames };
const weekday: FieldShape = { name: "day of week", from: 0, to: 6, names: weekdayNames };

const nicknames: ReadonlyMap<string, string> = new Map([
  ["@yearly", "0 0 1 1 *"],
  ["@annually", "0 0 1 1 *"],
  ["@monthly", "0 0 1 * *"],
  ["@weekly", "0 0 * * 0"],
  ["@daily", "0 0 * * *"],
  ["@midnight", "0 0 * * *"],
  ["@hourly", "0 * * * *"],
]);

/** The most days a month can have, January first. */
const longestMonths = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Reads a schedule (spec 10 §2). A zone in the text, as in `TZ=Europe/Berlin 0 8 * * *`, wins over `zone`. */
export function parseCron(text: string, zone = "UTC"): ParsedCron {
  const prefixed = /^(?:CRON_)?TZ=([^ ]*) (.*)$/s.exec(text.trim());
  const chosen = prefixed?.[1] ?? zone;
  const schedule = (prefixed?.[2] ?? text).trim();
  if (/^(?:CRON_)?TZ=/.test(schedule)) return malformed("no schedule follows the time zone");
  if (!isTimeZone(chosen)) return malformed(`"${shortened(chosen)}" is no IANA time zone`);
  const expanded = nicknames.get(schedule) ?? schedule;
  if (expanded.startsWith("@")) return malformed(`"${shortened(expanded)}" is not known`);
  const texts = expanded.split(/[ \t\r\n]+/);
  const [minuteText = "", hourText = "", dayText = "", monthText = "", weekdayText = ""] = texts;
  if (texts.length !== 5 || minuteText === "") return malformed("it has not five fields");
  const minutes = parseField(minuteText, minute);
  const hours = parseField(hourText, hour);
  const days = parseField(dayText, day);
  const months = parseField(monthText, month);
  const weekdays = parseField(weekdayText, weekday);
  for (const field of [minutes, hours, days, months, weekdays]) if (field.kind === "malformed") return field;
  const dayMatch = isRestricted(dayText) && isRestricted(weekdayText) ? "either" : "both";
  const values = (field: ParsedField): readonly number[] => (field.kind === "values" ? field.values : []);
  return {
    kind: "cron",
    cron: {
      minutes: values(minutes),
      hours: values(hours),
      days: values(days),
      months: values(months),
      weekdays: values(weekdays),
      dayMatch,
      zone: chosen,
    },
  };
}

/** Whether no date fits, like 31 April; 29 February comes often enough. */
export function neverFires({ days, months, dayMatch }: Cron): boolean {
  if (dayMatch === "either") return false;
  return !months.some((one) => days.some((dayOfMonth) => dayOfMonth <= (longestMonths[one - 1] ?? 0)));
}

type ParsedField =
  | { readonly kind: "values"; readonly values: readonly number[] }
  | { readonly kind: "malformed"; readonly problem: string };

function parseField(text: string, shape: FieldShape): ParsedField {
  const found = new Set<number>();
  for (const item of text.split(",")) {
    const range = parseItem(item, shape);
    if (range === undefined) {
      const names = shape.names.length === 0 ? "" : ` or ${shape.names[0] ?? ""} to ${shape.names.at(-1) ?? ""}`;
      return malformed(`"${shortened(item)}" is no ${shape.name}, want ${shape.from} to ${shape.to}${names}`);
    }
    for (let value = range.from; value <= range.to; value += range.step) found.add(value);
  }
  return { kind: "values", values: [...found].toSorted((a, b) => a - b) };
}

function parseItem(
  item: string,
  shape: FieldShape,
): { readonly from: number; readonly to: number; readonly step: number } | undefined {
  const match = /^(?:([*?])|([0-9A-Za-z]+)(?:-([0-9A-Za-z]+))?)(?:\/([0-9]+))?$/.exec(item);
  if (match === null) return undefined;
  const [, star, fromText, toText, stepText] = match;
  const step = stepText === undefined ? 1 : Number(stepText);
  if (step < 1) return undefined;
  if (star !== undefined) return { from: shape.from, to: shape.to, step };
  const from = parseValue(fromText ?? "", shape);
  const to = toText !== undefined ? parseValue(toText, shape) : stepText !== undefined ? shape.to : from;
  return from === undefined || to === undefined || from > to ? undefined : { from, to, step };
}

function parseValue(text: string, { from, to, names }: FieldShape): number | undefined {
  const named = names.indexOf(text.toLowerCase());
  if (named >= 0) return from + named;
  const value = /^[0-9]+$/.test(text) ? Number(text) : -1;
  return value >= from && value <= to ? value : undefined;
}

/** A field says nothing when one of its items is `*`; with a step above 1 it does. */
function isRestricted(text: string): boolean {
  return !text.split(",").some((item) => /^[*?](?:\/0*1)?$/.test(item));
}

function shortened(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

function malformed(problem: string): { readonly kind: "malformed"; readonly problem: string } {
  return { kind: "malformed", problem };
}
