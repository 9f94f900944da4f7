import type { TSchema } from "typebox";
import { durationMs, durationPattern } from "../../lib/duration.ts";
import type { Keywords } from "./keywords.ts";

/** Why a value does not fit: the path of the field (`spec.stages[2].interval`) and what is wrong with its value. */
export interface Violation {
  readonly path: string;
  readonly message: string;
}

/** Where a value is; written out only for a violation. */
interface Place {
  readonly parent: Place | undefined;
  readonly key: string | number;
}

/** What a value became: `refused` when it or something in it that cannot be left out does not fit. */
type Read = { readonly kind: "read"; readonly value: unknown } | typeof refused;
const refused = { kind: "refused" } as const;

/** Reads one value; `report` is told every violation, however deep. */
export type Reader = (value: unknown, place: Place | undefined, report: (violation: Violation) => void) => Read;

const longestQuote = 100;
const mostUnknown = 20;
const dateTime = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/;
const integerRanges: Readonly<Record<string, readonly [number, number]>> = {
  int32: [-(2 ** 31), 2 ** 31 - 1],
  int64: [-(2 ** 63), 2 ** 63 - 1],
};

/** What becomes of members the schema does not know. */
export type UnknownMembers = "left out" | "refused";

/**
 * Compiles a schema of this folder to a function that reads values leniently: members the schema does not know are left
 * out, unless they are refused, `null` and an empty optional string or list are absent, and every member that does not
 * fit is reported and left out. What is read is a fresh value; a list keeps its length unless an item does not fit.
 */
export function compileReader(schema: TSchema, unknown: UnknownMembers = "left out"): Reader {
  const keywords: Keywords = schema;
  switch (keywords.type) {
    case "object":
      return keywords.properties === undefined ? readTextMap : objectReader(keywords, unknown);
    case "array":
      return listReader(keywords, unknown);
    case "string":
      return textReader(keywords);
    case "integer":
      return integerReader(keywords);
    case "boolean":
      return readFlag;
    case undefined:
    default:
      throw new Error(`Cannot read values of schema type "${String(keywords.type)}"`);
  }
}

function objectReader({ properties = {}, required = [] }: Keywords, unknown: UnknownMembers): Reader {
  const members = Object.entries(properties).map(
    ([key, schema]) => [key, compileReader(schema, unknown), required.includes(key)] as const,
  );
  return (value, place, report) => {
    if (!isRecord(value)) return refuse(report, place, `is ${quote(value)}, want an object`);
    if (unknown === "refused") refuseUnknown(value, { place, known: Object.keys(properties), report });
    const result: Record<string, unknown> = {};
    let complete = true;
    for (const [key, read, isRequired] of members) {
      const member = Object.hasOwn(value, key) ? value[key] : undefined;
      const memberPlace = { parent: place, key };
      if (member === undefined || member === null) {
        if (!isRequired) continue;
        refuse(report, memberPlace, "is missing, it is required");
        complete = false;
        continue;
      }
      const outcome = read(member, memberPlace, report);
      if (outcome.kind === "refused") complete &&= !isRequired;
      else if (isRequired || !isEmpty(outcome.value)) result[key] = outcome.value;
    }
    return complete ? { kind: "read", value: result } : refused;
  };
}

/** Names members that are not known, at most 20 of one object. */
function refuseUnknown(
  value: Readonly<Record<string, unknown>>,
  {
    place,
    known,
    report,
  }: {
    readonly place: Place | undefined;
    readonly known: readonly string[];
    readonly report: (violation: Violation) => void;
  },
): void {
  const unknown = Object.keys(value).filter((key) => !known.includes(key));
  const near = (key: string): string => known.find((one) => one.toLowerCase() === key.toLowerCase()) ?? "";
  for (const key of unknown.slice(0, mostUnknown)) {
    const wanted = near(key) === "" ? `one of ${known.join(", ")}` : `"${near(key)}"`;
    refuse(report, { parent: place, key }, `is an unknown field, want ${wanted}`);
  }
  const more = unknown.length - mostUnknown;
  if (more > 0) refuse(report, place, `has ${more} more unknown fields`);
}

function isEmpty(value: unknown): boolean {
  return value === "" || (Array.isArray(value) && value.length === 0);
}

function listReader({ items = {}, minItems = 0 }: Keywords, unknown: UnknownMembers): Reader {
  const read = compileReader(items, unknown);
  return (value, place, report) => {
    if (!Array.isArray(value)) return refuse(report, place, `is ${quote(value)}, want a list`);
    if (value.length < minItems) return refuse(report, place, `has ${value.length} items, want at least ${minItems}`);
    const result: unknown[] = [];
    for (const [index, item] of value.entries()) {
      const outcome = read(item, { parent: place, key: index }, report);
      if (outcome.kind === "read") result.push(outcome.value);
    }
    return { kind: "read", value: result };
  };
}

function textReader(keywords: Keywords): Reader {
  const problemOf = textCheck(keywords);
  return (value, place, report) => {
    if (typeof value !== "string") return refuse(report, place, `is ${quote(value)}, want a string`);
    const problem = problemOf(value);
    return problem === undefined ? { kind: "read", value } : refuse(report, place, `is ${quote(value)}, ${problem}`);
  };
}

function textCheck({ enum: values, format, pattern, minLength = 0, maxLength }: Keywords) {
  if (values !== undefined) {
    const wanted = `want ${values.map((one) => `"${one}"`).join(" or ")}`;
    return (text: string) => (values.includes(text) ? undefined : wanted);
  }
  if (pattern === durationPattern) {
    const wanted = 'want a duration such as "90s" or "1h30m", at most 292 years';
    return (text: string) => (durationMs(text) === undefined ? wanted : undefined);
  }
  if (format === "date-time") {
    const wanted = 'want a time such as "2026-01-31T08:00:00Z"';
    return (text: string) => (dateTime.test(text) && !Number.isNaN(Date.parse(text)) ? undefined : wanted);
  }
  const shape = pattern === undefined ? undefined : new RegExp(pattern, "u");
  return (text: string) => {
    if (text.length < minLength) return `want at least ${minLength} characters`;
    if (maxLength !== undefined && text.length > maxLength && Array.from(text).length > maxLength)
      return `want at most ${maxLength} characters`;
    return shape === undefined || shape.test(text) ? undefined : `want text that matches ${shape.source}`;
  };
}

function integerReader({ format = "int64", minimum, maximum }: Keywords): Reader {
  const [lowest, highest] = integerRanges[format] ?? [-Infinity, Infinity];
  const from = Math.max(lowest, minimum ?? lowest);
  const to = Math.min(highest, maximum ?? highest);
  return (value, place, report) =>
    typeof value === "number" && Number.isInteger(value) && value >= from && value <= to
      ? { kind: "read", value }
      : refuse(report, place, `is ${quote(value)}, want an integer from ${from} to ${to}`);
}

function readFlag(...[value, place, report]: Parameters<Reader>): Read {
  return typeof value === "boolean"
    ? { kind: "read", value }
    : refuse(report, place, `is ${quote(value)}, want true or false`);
}

function readTextMap(...[value, place, report]: Parameters<Reader>): Read {
  if (!isRecord(value)) return refuse(report, place, `is ${quote(value)}, want a map of strings`);
  const entries: [string, string][] = [];
  for (const [key, entry] of Object.entries(value)) {
    if (typeof entry === "string") entries.push([key, entry]);
    else if (entry !== null) refuse(report, { parent: place, key }, `is ${quote(entry)}, want a string`);
  }
  return { kind: "read", value: Object.fromEntries(entries) };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refuse(report: (violation: Violation) => void, place: Place | undefined, message: string): typeof refused {
  report({ path: pathOf(place), message });
  return refused;
}

/** `spec.stages[2].name`; a key that is no plain name is quoted, as in `matchLabels["a/b"]`. */
function pathOf(place: Place | undefined): string {
  const steps: string[] = [];
  for (let at = place; at !== undefined; at = at.parent) {
    const { key } = at;
    if (typeof key === "number") steps.unshift(`[${key}]`);
    else if (/^[A-Za-z_][A-Za-z0-9_]{0,99}$/.test(key)) steps.unshift(at.parent === undefined ? key : `.${key}`);
    else steps.unshift(`[${quote(key)}]`);
  }
  return steps.join("");
}

/** The value as JSON, cut to a bounded length, whatever was sent. */
function quote(value: unknown): string {
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "a list" : "an object";
  const text = typeof value === "string" ? value : String(value);
  const shown = text.length > longestQuote ? `${text.slice(0, longestQuote)}…` : text;
  return typeof value === "string" ? JSON.stringify(shown) : shown;
}
