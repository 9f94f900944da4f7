import { durationMs } from "../lib/duration.ts";

/** How the text of a flag is read. */
export type FlagKind =
  /** `shape` is how help shows a value. */
  | { readonly type: "text"; readonly shape: string }
  | { readonly type: "boolean" }
  /** Positive milliseconds, or not negative. */
  | { readonly type: "duration"; readonly minimum: "positive" | "zero" }
  | { readonly type: "integer"; readonly from: number; readonly to: number }
  | { readonly type: "number"; readonly from: number; readonly to: number }
  | { readonly type: "choice"; readonly values: readonly string[] }
  /** One value per occurrence; commas separate values only in the environment. */
  | { readonly type: "repeatable"; readonly shape: string };

export interface FlagDefinition {
  readonly name: string;
  readonly kind: FlagKind;
  readonly default: string;
  readonly help: string;
  /** The feature is not part of this build: only these values are accepted. */
  readonly accepts?: readonly string[];
}

/** What was given for each flag; a flag that was not given has its default. */
export interface GivenFlags {
  readonly values: ReadonlyMap<string, readonly string[]>;
  /** Flags that were set, by the command line or the environment. */
  readonly given: ReadonlySet<string>;
  readonly problems: readonly string[];
  readonly request: "run" | "help" | "version";
}

const trueWords = new Set(["true", "1", "t", "T", "TRUE", "True"]);
const falseWords = new Set(["false", "0", "f", "F", "FALSE", "False"]);

/** `--watch-namespaces` → `STAGESET_WATCH_NAMESPACES`. */
export function environmentName(flag: string): string {
  return `STAGESET_${flag.toUpperCase().replaceAll("-", "_")}`;
}

/** Reads a command line and the environment; the command line wins, an empty variable is unset (spec 60 §2.1). */
export function readFlags(
  definitions: readonly FlagDefinition[],
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): GivenFlags {
  const byName = new Map(definitions.map((definition) => [definition.name, definition]));
  const values = new Map<string, string[]>();
  const problems: string[] = [];
  let request: GivenFlags["request"] = "run";
  for (const definition of definitions) {
    const text = env[environmentName(definition.name)];
    if (text === undefined || text === "") continue;
    values.set(
      definition.name,
      definition.kind.type === "repeatable" ? text.split(",").map((one) => one.trim()) : [text],
    );
  }
  const fromEnvironment = new Set(values.keys());
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? "";
    const match = /^--?([A-Za-z][A-Za-z0-9-]*)(?:=(.*))?$/s.exec(arg);
    const name = match?.[1];
    if (name === undefined) {
      problems.push(`unexpected argument ${JSON.stringify(arg)}: only flags are read, see --help`);
      continue;
    }
    if (name === "help" || name === "h" || name === "version") {
      request = name === "version" ? "version" : "help";
      continue;
    }
    const definition = byName.get(name);
    if (definition === undefined) {
      problems.push(`unknown flag "--${name}": see --help for those there are`);
      continue;
    }
    let value = match?.[2];
    if (value === undefined) {
      if (definition.kind.type === "boolean") value = "true";
      else {
        index++;
        value = args[index];
      }
    }
    if (value === undefined) {
      problems.push(`--${name}: the value is missing: give --${name}=VALUE`);
      continue;
    }
    const before = fromEnvironment.delete(name) ? [] : (values.get(name) ?? []);
    values.set(name, definition.kind.type === "repeatable" ? [...before, value] : [value]);
  }
  const given = new Set(values.keys());
  for (const definition of definitions) {
    const texts = values.get(definition.name);
    if (texts === undefined) values.set(definition.name, definition.default === "" ? [] : [definition.default]);
    else for (const text of texts) problems.push(...problemsOf(definition, text));
  }
  return { values, given, problems, request };
}

function problemsOf(definition: FlagDefinition, text: string): readonly string[] {
  const problem = problemOf(definition.kind, text);
  const flag = `--${definition.name}`;
  if (problem !== undefined) return [`${flag}: ${JSON.stringify(text)} ${problem}`];
  const { accepts } = definition;
  if (accepts === undefined || accepts.includes(normal(definition.kind, text))) return [];
  const accepted = accepts.map((value) => JSON.stringify(value)).join(" or ");
  return [
    `${flag}: ${JSON.stringify(shownText(definition, text))} asks for a feature this build does not have: give ${accepted}`,
  ];
}

/** Credentials are never repeated (spec 50 §11). */
function shownText({ name }: FlagDefinition, text: string): string {
  return /-(?:access-key|secret-key|session-token)$/.test(name) ? "…" : text;
}

function normal(kind: FlagKind, text: string): string {
  return kind.type === "boolean" ? String(trueWords.has(text)) : text;
}

function problemOf(kind: FlagKind, text: string): string | undefined {
  switch (kind.type) {
    case "text":
    case "repeatable":
      return undefined;
    case "boolean":
      return trueWords.has(text) || falseWords.has(text) ? undefined : "is no boolean: give true or false";
    case "duration": {
      const ms = durationMs(text);
      if (ms === undefined) return 'is no duration: give one such as "10m" or "1h30m"';
      if (kind.minimum === "positive" && ms <= 0) return "is too short: give a duration above 0";
      return ms < 0 ? "is negative: give 0 or a duration above it" : undefined;
    }
    case "integer":
    case "number": {
      const value = Number(text);
      const isNumber =
        text.trim() !== "" && Number.isFinite(value) && (kind.type === "number" || Number.isInteger(value));
      return isNumber && value >= kind.from && value <= kind.to
        ? undefined
        : `is out of range: give ${kind.type === "integer" ? "an integer" : "a number"} from ${kind.from} to ${kind.to}`;
    }
    case "choice":
      return kind.values.includes(text)
        ? undefined
        : `is not known: give ${kind.values.map((value) => `"${value}"`).join(" or ")}`;
  }
}

export function isTrue(text: string | undefined): boolean {
  return text !== undefined && trueWords.has(text);
}
