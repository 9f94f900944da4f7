import { environmentName, type FlagDefinition, type FlagKind } from "./flag-syntax.ts";
import { flagSections } from "./flags.ts";

const widest = 80;

/** What `--help` shows: one block per flag, no line wider than a terminal of 80 columns. */
export function renderHelp(): string {
  const lines = [
    "Ships releases to a Kubernetes cluster as ordered lists of stages.",
    "",
    "Usage:",
    "  stageset-controller [flags]",
    "",
    "Every flag can also be given in the environment, the flag wins:",
    `  --watch-namespaces=a,b is ${environmentName("watch-namespaces")}=a,b`,
    "",
  ];
  for (const { title, flags } of flagSections) {
    lines.push(`${title}:`);
    for (const flag of flags) lines.push(`  --${flag.name}${shapeOf(flag)}`, ...wrap(describeFlag(flag), "      "));
    lines.push("");
  }
  lines.push("Help:", "  --help, -h", "      Show this", "  --version", "      Show the version", "");
  return lines.join("\n");
}

/** `=PATH`; nothing for a boolean, which may stand alone. */
export function shapeOf({ kind }: FlagDefinition): string {
  return kind.type === "boolean" ? "" : `=${valueShape(kind)}`;
}

function valueShape(kind: Exclude<FlagKind, { type: "boolean" }>): string {
  switch (kind.type) {
    case "text":
    case "repeatable":
      return kind.shape;
    case "choice":
      return kind.values.join("|");
    case "duration":
      return "DURATION";
    case "integer":
    case "number":
      return `${kind.from}..${kind.to}`;
  }
}

/** Meaning, default and what limits the flag, as one sentence each. */
export function describeFlag(flag: FlagDefinition): string {
  const shown = flag.default === "" || flag.default === "false" ? "" : `. Default: ${flag.default}`;
  const repeated = flag.kind.type === "repeatable" ? ". May be repeated" : "";
  const missing =
    flag.accepts === undefined ? "" : `. Not in this build: only ${flag.accepts.map(quoted).join(" or ")}`;
  return `${flag.help}${repeated}${shown}${missing}`;
}

function quoted(value: string): string {
  return value === "" ? "empty" : value;
}

function wrap(text: string, indent: string): readonly string[] {
  const lines: string[] = [];
  let line = indent;
  for (const word of text.split(" ")) {
    if (line !== indent && line.length + 1 + word.length > widest) {
      lines.push(line);
      line = indent;
    }
    line += line === indent ? word : ` ${word}`;
  }
  return [...lines, line];
}
