import { stringify } from "yaml";
import type { CustomResourceDefinition } from "../../src/api/crd.ts";
import type { FlagDefinition } from "../../src/main/flag-syntax.ts";
import { listValues, type ChartGroup, type ChartNode } from "./value-tree.ts";

/** `values.yaml`: each value below its description. */
export function renderValuesYaml(tree: ChartGroup, command: string): string {
  return `# Written by "${command}" from scripts/chart/values.ts; change it there.\n${renderMembers(tree, 0)}`;
}

function renderMembers(tree: ChartGroup, depth: number): string {
  const pad = "  ".repeat(depth);
  return Object.entries(tree.members)
    .map(([key, node]) => {
      const comment = node.description === "" ? "" : `${pad}# ${node.description}\n`;
      if (node.node === "group") return `${comment}${pad}${key}:\n${renderMembers(node, depth + 1)}`;
      const text = stringify({ [key]: node.default }, { lineWidth: 0 });
      return comment + text.replace(/^(?=.)/gm, pad);
    })
    .join("");
}

/** `values.schema.json`: types, ranges and enums; unknown keys are refused. */
export function renderValuesSchema(tree: ChartGroup): string {
  const root = schemaOf(tree);
  const schema = {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Values of the chart stageset-controller",
    ...root,
    properties: {
      ...(root["properties"] as Readonly<Record<string, unknown>>), // What schemaOf gives a group.
      global: { description: "Values of a parent chart; none is read.", type: "object" },
    },
  };
  return `${JSON.stringify(schema, undefined, 2)}\n`;
}

function schemaOf(node: ChartNode): Readonly<Record<string, unknown>> {
  if (node.node === "value") return { description: node.description, default: node.default, ...node.schema };
  return {
    description: node.description,
    type: "object",
    additionalProperties: false,
    properties: Object.fromEntries(Object.entries(node.members).map(([key, member]) => [key, schemaOf(member)])),
  };
}

/** The table of values in the chart's README. */
export function renderValuesTable(tree: ChartGroup): string {
  const rows = listValues(tree).map(({ path, value }) => {
    const description = value.description.replaceAll("|", "\\|");
    return `| \`${path}\` | \`${JSON.stringify(value.default).replaceAll("|", "\\|")}\` | ${description} |`;
  });
  return `| Key | Default | Meaning |\n|---|---|---|\n${rows.join("\n")}\n`;
}

/** One template for each CustomResourceDefinition; a release that goes leaves them, and with them every object. */
export function renderChartCrd(crd: CustomResourceDefinition, command: string): string {
  const definition = {
    ...crd,
    metadata: { name: crd.metadata.name, annotations: { "helm.sh/resource-policy": "keep" } },
  };
  const yaml = stringify(definition, { lineWidth: 0, aliasDuplicateObjects: false });
  // Descriptions may show braces, which are text here.
  const literal = yaml.replaceAll("{{", '{{ "{{" }}');
  const labelled = literal.replace(
    "  annotations:\n",
    '  labels:\n    {{- include "stageset-controller.labels" . | nindent 4 }}\n  annotations:\n',
  );
  return `{{- /* Written by "${command}" from src/api; change it there. */ -}}\n{{- if .Values.crds.create }}\n---\n${labelled}{{- end }}\n`;
}

/** Flags whose feature is not part of the build, and the values it accepts: the chart refuses others by the key's name. */
export function renderChartBuild(flags: readonly FlagDefinition[], command: string): string {
  const missing = Object.fromEntries(
    flags.flatMap(({ name, accepts }) => (accepts === undefined ? [] : [[name, accepts] as const])),
  );
  return (
    `{{/* Written by "${command}" from src/main/flags.ts; change it there. */}}\n` +
    `{{- define "stageset-controller.missingFlags" -}}\n${JSON.stringify(missing, undefined, 2)}\n{{- end }}\n\n` +
    `{{- define "stageset-controller.knownFlags" -}}\n${JSON.stringify(flags.map(({ name }) => name))}\n{{- end }}\n`
  );
}
