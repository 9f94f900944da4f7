import type { TSchema } from "typebox";
import { apiVersion } from "../src/api/group.ts";
import { type KindDefinition, kindDefinitions } from "../src/api/kinds.ts";
import { action } from "../src/api/schema/action.ts";
import type { Keywords } from "../src/api/schema/keywords.ts";
import { conditionSchema, errorBudget, kindRef, labelSelector, metricSource } from "../src/api/schema/shared.ts";
import { localRef, secretKeyRef, snapshotStages, sourceRef, threshold } from "../src/api/schema/shared.ts";
import { migration } from "../src/api/schema/stage-set-spec.ts";

/** Types used in several places; each gets a section of its own. */
const shared: readonly (readonly [name: string, schema: TSchema])[] = [
  ["Action", action()],
  ["Condition", conditionSchema],
  ["ErrorBudget", errorBudget("A budget that freezes a roll-out while it is spent.")],
  ["KindRef", kindRef("An object of the target cluster.")],
  ["LabelSelector", labelSelector("Objects by label.")],
  ["LocalRef", localRef("An object in the StageSet's namespace.")],
  ["MetricSource", metricSource("Where a value is read: exactly one of prometheus and webhook.")],
  ["Migration", migration()],
  ["SecretKeyRef", secretKeyRef("An entry of a Secret.")],
  ["SnapshotStage", itemsOf(snapshotStages("Artifacts of the stages."))],
  ["SourceRef", sourceRef("A source of artifacts.")],
  ["Threshold", threshold("Bounds of a value; at least one.")],
];
const nameByShape = new Map(shared.map(([name, schema]) => [shapeOf(schema), name]));

/** The page that explains every field of every kind, as Markdown. */
export function renderApiReference(command: string): string {
  const lines = [
    `<!-- Written by "${command}" from src/api; change it there. -->`,
    "",
    "# API reference",
    "",
    `Kinds of \`${apiVersion}\`. A field marked with \`*\` is required. Unless it says "stored", a default is applied when`,
    "the field is used and never written into the object. An empty optional string or list counts as not set, and so does a",
    "duration that is not positive.",
    "",
    ...kindDefinitions.map(({ kind }) => `- [${kind}](#${kind.toLowerCase()})`),
    "- [Shared types](#shared-types)",
    "",
    ...kindDefinitions.flatMap(renderKind),
    "## Shared types",
    "",
    ...shared.flatMap(([name, schema]) => renderObject(name, schema)),
  ];
  return `${lines.join("\n").trimEnd()}\n`;
}

function renderKind({ kind, plural, scope, shortNames, description, spec, status }: KindDefinition): readonly string[] {
  const names = [plural, kind.toLowerCase(), ...shortNames].map((name) => `\`${name}\``).join(", ");
  return [
    `## ${kind}`,
    "",
    description,
    "",
    `${scope === "Cluster" ? "Cluster-scoped" : "Namespaced"}; for kubectl: ${names}.`,
    "",
    ...renderObject(`${kind}.spec`, spec),
    ...(status === undefined ? [] : renderObject(`${kind}.status`, status)),
  ];
}

/** The section of an object, then those of the objects in it that are no shared type. */
function renderObject(title: string, schema: TSchema): readonly string[] {
  const {
    description = "",
    properties = {},
    required = [],
    "x-kubernetes-validations": rules = [],
  } = keywordsOf(schema);
  const members = Object.entries(properties);
  return [
    `### ${title}`,
    "",
    description,
    "",
    "| Field | Type | Default | Meaning |",
    "| --- | --- | --- | --- |",
    ...members.map(([name, member]) => renderRow(title, { name, member, isRequired: required.includes(name) })),
    "",
    ...rules.flatMap(({ rule, message }) => [`The API server refuses it otherwise: ${message} (\`${rule}\`).`, ""]),
    ...members.flatMap(([name, member]) => renderNested(`${title}.${name}`, member)),
  ];
}

interface Member {
  readonly name: string;
  readonly member: TSchema;
  readonly isRequired: boolean;
}

function renderRow(title: string, { name, member, isRequired }: Member): string {
  const { description = "", default: stored, "x-default": fallback } = keywordsOf(member);
  const byDefault = stored === undefined ? (fallback ?? "") : `\`${stored}\`, stored`;
  const cells = [`\`${name}\`${isRequired ? " *" : ""}`, typeText(`${title}.${name}`, member), byDefault, description];
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
}

function renderNested(title: string, schema: TSchema): readonly string[] {
  const { items, properties } = keywordsOf(schema);
  if (items !== undefined) return renderNested(`${title}[]`, items);
  return properties === undefined || nameByShape.has(shapeOf(schema)) ? [] : renderObject(title, schema);
}

/** A type in words, with a link to its section if it has one. */
function typeText(title: string, schema: TSchema): string {
  const { items, properties, enum: values, minItems, "x-kubernetes-list-map-keys": keys } = keywordsOf(schema);
  if (items !== undefined) {
    const notes = [
      ...(minItems === undefined ? [] : [`at least ${minItems}`]),
      ...(keys ?? []).map((key) => `by ${key}`),
    ];
    return `list of ${typeText(`${title}[]`, items)}${notes.length > 0 ? `, ${notes.join(", ")}` : ""}`;
  }
  if (properties !== undefined) {
    const name = nameByShape.get(shapeOf(schema)) ?? title;
    return `[${nameByShape.get(shapeOf(schema)) ?? "object"}](#${slug(name)})`;
  }
  return values === undefined ? scalarText(keywordsOf(schema)) : values.map((value) => `\`${value}\``).join(", ");
}

function scalarText(keywords: Keywords): string {
  const { type = "", "x-type": format, minimum, maximum, minLength, maxLength, additionalProperties } = keywords;
  if (additionalProperties !== undefined) return "map of strings";
  const unit = type === "string" ? " characters" : "";
  const from = minimum ?? minLength;
  const to = maximum ?? maxLength;
  const bounds = [from === undefined ? [] : `at least ${from}`, to === undefined ? [] : `at most ${to}`].flat();
  return [format ?? type, ...bounds.map((bound) => bound + unit)].join(", ");
}

/** What tells a type from others: everything but what it is used for. */
function shapeOf(schema: TSchema): string {
  return JSON.stringify({ ...schema, description: undefined });
}

function itemsOf(schema: TSchema): TSchema {
  const { items } = keywordsOf(schema);
  if (items === undefined) throw new Error("Cannot name the items of a schema that is no list");
  return items;
}

function keywordsOf(schema: TSchema): Keywords {
  return schema;
}

/** The anchor a heading gets where the page is rendered. */
function slug(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^a-z0-9 -]/g, "")
    .replaceAll(" ", "-");
}
