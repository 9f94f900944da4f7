/** A JSON schema of one value, as `values.schema.json` has it. */
export type ValueSchema = Readonly<Record<string, unknown>>;

/** One value of the chart: its default, what it may be, and a sentence for its users. */
export interface ChartValue {
  readonly node: "value";
  readonly default: unknown;
  readonly schema: ValueSchema;
  readonly description: string;
}

export interface ChartGroup {
  readonly node: "group";
  readonly description: string;
  readonly members: Readonly<Record<string, ChartNode>>;
}

export type ChartNode = ChartValue | ChartGroup;

export function group(description: string, members: Readonly<Record<string, ChartNode>>): ChartGroup {
  return { node: "group", description, members };
}

function value(defaultValue: unknown, schema: ValueSchema, description: string): ChartValue {
  return { node: "value", default: defaultValue, schema, description };
}

export function text(defaultValue: string, description: string, schema: ValueSchema = {}): ChartValue {
  return value(defaultValue, { type: "string", ...schema }, description);
}

export function flagValue(defaultValue: boolean, description: string): ChartValue {
  return value(defaultValue, { type: "boolean" }, description);
}

/** Absent means a default that depends on other values. */
export function optionalFlag(description: string): ChartValue {
  return value(null, { type: ["boolean", "null"] }, description);
}

export function integer(
  defaultValue: number | null,
  { from, to }: { readonly from: number; readonly to?: number },
  description: string,
): ChartValue {
  const type = defaultValue === null ? ["integer", "null"] : "integer";
  return value(defaultValue, { type, minimum: from, ...(to === undefined ? {} : { maximum: to }) }, description);
}

export function share(defaultValue: number, description: string): ChartValue {
  return value(defaultValue, { type: "number", minimum: 0, maximum: 1 }, description);
}

export function amount(defaultValue: number, description: string): ChartValue {
  return value(defaultValue, { type: "number", minimum: 0 }, description);
}

export function choice(defaultValue: string, values: readonly string[], description: string): ChartValue {
  return value(defaultValue, { type: "string", enum: values }, description);
}

export function duration(defaultValue: string, description: string): ChartValue {
  return text(defaultValue, description, { pattern: "^([0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h))+$" });
}

/** A duration as Prometheus writes it. */
export function window(defaultValue: string, description: string): ChartValue {
  return text(defaultValue, description, { pattern: "^([0-9]+(ms|s|m|h|d|w|y))+$" });
}

/** A Kubernetes quantity, or null. */
export function quantity(defaultValue: string | null, description: string): ChartValue {
  return value(defaultValue, { type: ["string", "number", "null"], pattern: "^[0-9.]+([EPTGMk]i?|m)?$" }, description);
}

export function list(items: ValueSchema, description: string, defaultValue: readonly unknown[] = []): ChartValue {
  return value(defaultValue, { type: "array", items }, description);
}

export const textItem: ValueSchema = { type: "string", minLength: 1 };
/** Something Kubernetes has a schema of: its own to check. */
export const objectItem: ValueSchema = { type: "object" };

/** An object Kubernetes has a schema of. */
export function free(description: string, defaultValue: Readonly<Record<string, unknown>> = {}): ChartValue {
  return value(defaultValue, { type: "object" }, description);
}

export function textMap(description: string, defaultValue: Readonly<Record<string, string>> = {}): ChartValue {
  return value(defaultValue, { type: "object", additionalProperties: { type: "string" } }, description);
}

/** One value by its path. */
export interface ListedValue {
  readonly path: string;
  readonly value: ChartValue;
}

export function listValues(tree: ChartGroup, prefix = ""): readonly ListedValue[] {
  return Object.entries(tree.members).flatMap(([key, node]) =>
    node.node === "value" ? [{ path: prefix + key, value: node }] : listValues(node, `${prefix}${key}.`),
  );
}
