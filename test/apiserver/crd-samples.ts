import type { CrdSchema } from "../../src/api/crd.ts";
import { durationPattern } from "../../src/lib/duration.ts";

/** A member by name, or the first item of a list. */
type Step = string | 0;

/** A field that takes one of a few values. */
export interface EnumField {
  readonly steps: readonly Step[];
  readonly values: readonly string[];
}

/** Every enum below a schema. */
export function* enumFields(schema: CrdSchema, steps: readonly Step[] = []): Generator<EnumField> {
  if (Array.isArray(schema["enum"])) yield { steps, values: schema["enum"].map(String) };
  for (const [name, member] of Object.entries(schema.properties ?? {})) yield* enumFields(member, [...steps, name]);
  if (schema.items !== undefined) yield* enumFields(schema.items, [...steps, 0]);
}

/** The smallest value that fits a schema and has `leaf` where the steps lead. */
export function sampleWith(schema: CrdSchema, [step, ...rest]: readonly Step[], leaf: unknown): unknown {
  if (step === undefined) return leaf;
  if (step === 0) return [sampleWith(schema.items ?? missing(step), rest, leaf)];
  const { properties = {} } = schema;
  return { ...requiredMembers(schema), [step]: sampleWith(properties[step] ?? missing(step), rest, leaf) };
}

/** The smallest value that fits a schema. */
export function sampleOf(schema: CrdSchema): unknown {
  switch (schema.type) {
    case "object":
      return requiredMembers(schema);
    case "array":
      return schema["minItems"] === undefined || schema.items === undefined ? [] : [sampleOf(schema.items)];
    case "integer":
      return schema["minimum"] ?? 0;
    case "boolean":
      return false;
    default:
      return sampleText(schema);
  }
}

/** As API servers write it in causes: `spec.stages[0].name`. */
export function pathText(root: string, steps: readonly Step[]): string {
  return steps.reduce<string>((path, step) => path + (step === 0 ? "[0]" : `.${step}`), root);
}

function requiredMembers({ properties = {}, required = [] }: CrdSchema): Readonly<Record<string, unknown>> {
  return Object.fromEntries(required.map((name) => [name, sampleOf(properties[name] ?? missing(name))]));
}

function sampleText(schema: CrdSchema): string {
  if (Array.isArray(schema["enum"])) return String(schema["enum"][0]);
  if (schema["pattern"] === durationPattern) return "1s";
  return schema["format"] === "date-time" ? "2026-01-31T08:00:00Z" : "a";
}

function missing(step: Step): never {
  throw new Error(`The schema has no "${step}"`);
}
