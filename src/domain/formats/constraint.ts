import type { Version } from "./version.ts";
import { compareVersions, parseVersion, versionNumber } from "./version.ts";

/** Which versions are meant (spec 30 §5.3): those all comparators of at least one group hold for. */
export interface Constraint {
  readonly groups: readonly (readonly Comparator[])[];
}

/** Versions of an interval, or outside of it; a missing bound is open. */
interface Comparator {
  readonly kind: "within" | "outside";
  readonly from?: Version;
  readonly to?: { readonly version: Version; readonly inclusive: boolean };
}

/** `bare` is a complete version without operator: whether that one or later ones are meant has to be written. */
export type ParsedConstraint =
  | { readonly kind: "constraint"; readonly constraint: Constraint }
  | { readonly kind: "bare"; readonly version: string }
  | { readonly kind: "malformed"; readonly problem: string };

const longestConstraint = 512;
const mostGroups = 32;
const operators = ["!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^"] as const;
type Operator = (typeof operators)[number];
const none: Comparator = { kind: "outside" };
const any: Comparator = { kind: "within" };

/** Reads a constraint of at most 512 bytes and 32 groups. */
export function parseConstraint(text: string): ParsedConstraint {
  const trimmed = text.trim();
  if (trimmed.length > longestConstraint) return malformed("it is longer than 512 bytes");
  const parts = trimmed.split("||");
  if (parts.length > mostGroups) return malformed("it has more than 32 groups");
  const groups: (readonly Comparator[])[] = [];
  for (const part of parts) {
    const group = parseGroup(part.trim());
    if (group.kind !== "group") return group;
    groups.push(group.comparators);
  }
  return { kind: "constraint", constraint: { groups } };
}

/** Whether the version is meant; pre-releases are compared like any other version. */
export function matchesConstraint(constraint: Constraint, version: Version): boolean {
  return constraint.groups.some((group) => group.every((comparator) => holds(comparator, version)));
}

/** Whether any version below the limit is meant: the least one that a group means is at one of its bounds. */
export function meansBelow(constraint: Constraint, limit: Version): boolean {
  const least = { ...release(0n, 0n, 0n), prerelease: ["0"] };
  const bounds = constraint.groups
    .flat()
    .flatMap(({ from, to }) => [
      ...(from === undefined ? [] : [from]),
      ...(to === undefined ? [] : [to.version, justAbove(to.version)]),
    ]);
  return [least, ...bounds].some(
    (version) => compareVersions(version, limit) < 0 && matchesConstraint(constraint, version),
  );
}

/** The least version above another one. */
function justAbove({ major, minor, patch, prerelease }: Version): Version {
  return prerelease.length === 0
    ? { ...release(major, minor, patch + 1n), prerelease: ["0"] }
    : { ...release(major, minor, patch), prerelease: [...prerelease, "0"] };
}

function holds({ kind, from, to }: Comparator, version: Version): boolean {
  const aboveFrom = from === undefined || compareVersions(version, from) >= 0;
  const order = to === undefined ? -1 : compareVersions(version, to.version);
  const belowTo = order < 0 || (order === 0 && to?.inclusive === true);
  return (aboveFrom && belowTo) === (kind === "within");
}

type ParsedGroup =
  | { readonly kind: "group"; readonly comparators: readonly Comparator[] }
  | Exclude<ParsedConstraint, { readonly kind: "constraint" }>;

function parseGroup(text: string): ParsedGroup {
  if (text === "") return malformed("a group is empty");
  const step = /(!=|>=|=>|<=|=<|~>|[=><~^])?[ \t\r\n]*([^ \t\r\n,=><~^!|]+)/y;
  const hyphen = /[ \t\r\n]+-[ \t\r\n]+([^ \t\r\n,=><~^!|]+)/y;
  const separator = /[ \t\r\n]*,[ \t\r\n]*|[ \t\r\n]+/y;
  const comparators: Comparator[] = [];
  let at = 0;
  for (;;) {
    step.lastIndex = at;
    const match = step.exec(text);
    if (match === null) return malformed(`"${text.slice(at, at + 40)}" is no comparator`);
    const [, operatorText, partialText = ""] = match;
    const partial = parsePartial(partialText);
    if (partial === undefined) return malformed(`"${partialText.slice(0, 40)}" is no version`);
    hyphen.lastIndex = step.lastIndex;
    const range = operatorText === undefined ? hyphen.exec(text) : null;
    if (range !== null) {
      const end = parsePartial(range[1] ?? "");
      if (end === undefined) return malformed(`"${(range[1] ?? "").slice(0, 40)}" is no version`);
      comparators.push(hyphenRange(partial, end));
      at = hyphen.lastIndex;
    } else {
      const operator = operators.find((one) => one === operatorText);
      if (operator === undefined && partial.precision === 3) return { kind: "bare", version: partialText };
      comparators.push(comparatorOf(operator ?? "=", partial));
      at = step.lastIndex;
    }
    if (at === text.length) return { kind: "group", comparators };
    separator.lastIndex = at;
    if (!separator.test(text)) return malformed(`"${text.slice(at, at + 40)}" does not follow a space or comma`);
    at = separator.lastIndex;
  }
}

/** A version of which only the first `precision` parts are written; the others are 0. */
interface PartialVersion {
  readonly version: Version;
  readonly precision: 0 | 1 | 2 | 3;
}

const wildcard = /^v?(?:([0-9]+)\.)?(?:([0-9]+)\.)?[xX*](?:\.[xX*])*$/;

function parsePartial(text: string): PartialVersion | undefined {
  const version = parseVersion(text);
  if (version !== undefined) {
    const written = text.split(/[-+]/, 1)[0]?.split(".").length ?? 0;
    const exact = written === 3 || version.prerelease.length > 0;
    return { version, precision: exact ? 3 : written === 2 ? 2 : 1 };
  }
  const match = wildcard.exec(text);
  if (match === null || text.split(".").length > 3) return undefined;
  const [, majorText, minorText] = match;
  const major = versionNumber(majorText ?? "0");
  const minor = versionNumber(minorText ?? "0");
  if (major === undefined || minor === undefined) return undefined;
  const precision = majorText === undefined ? 0 : minorText === undefined ? 1 : 2;
  return { version: release(major, minor, 0n), precision };
}

function comparatorOf(operator: Operator, { version, precision }: PartialVersion): Comparator {
  if (precision === 0) return operator === "!=" || operator === ">" || operator === "<" ? none : any;
  const next = below(version, precision);
  const upTo = precision === 3 ? { version, inclusive: true } : next;
  switch (operator) {
    case "=":
      return within(version, upTo);
    case "!=":
      return { ...within(version, upTo), kind: "outside" };
    case ">":
      return { ...within(undefined, upTo), kind: "outside" };
    case ">=":
    case "=>":
      return within(version);
    case "<":
      return within(undefined, { version, inclusive: false });
    case "<=":
    case "=<":
      return within(undefined, upTo);
    case "~":
    case "~>":
      return within(version, precision === 3 ? below(version, 2) : next);
    case "^":
      return within(version, below(version, caretPrecision(version, precision)));
  }
}

/** How many leading parts `^` keeps: up to and with the first that is not 0, but only written ones. */
function caretPrecision(
  { major, minor }: Version,
  precision: PartialVersion["precision"],
): PartialVersion["precision"] {
  if (precision <= 1 || major > 0n) return 1;
  return precision === 2 || minor > 0n ? 2 : 3;
}

function hyphenRange(from: PartialVersion, to: PartialVersion): Comparator {
  const end = to.precision === 3 ? { version: to.version, inclusive: true } : below(to.version, to.precision);
  return from.precision === 0 ? within(undefined, end) : within(from.version, end);
}

function within(from: Version | undefined, to?: Comparator["to"]): Comparator {
  return { kind: "within", ...(from && { from }), ...(to && { to }) };
}

/** The first version in which one of the leading parts is larger, as an exclusive bound. */
function below(version: Version, precision: PartialVersion["precision"]): Comparator["to"] {
  const { major, minor, patch } = version;
  switch (precision) {
    case 0:
      return undefined;
    case 1:
      return { version: release(major + 1n, 0n, 0n), inclusive: false };
    case 2:
      return { version: release(major, minor + 1n, 0n), inclusive: false };
    case 3:
      return { version: release(major, minor, patch + 1n), inclusive: false };
  }
}

function release(major: bigint, minor: bigint, patch: bigint): Version {
  return { major, minor, patch, prerelease: [], build: "" };
}

function malformed(problem: string): { readonly kind: "malformed"; readonly problem: string } {
  return { kind: "malformed", problem };
}
