import Type, { type Static, type TProperties, type TSchema } from "typebox";
import { durationPattern } from "../../lib/duration.ts";

/** A parsed value is never changed: every member and list is readonly, at every depth. */
export type DeepReadonly<T> = T extends string | number | boolean | undefined
  ? T
  : T extends readonly (infer Item)[]
    ? readonly DeepReadonly<Item>[]
    : { readonly [Member in keyof T]: DeepReadonly<T[Member]> };

/** The readonly type a schema describes. */
export type ValueOf<Schema extends TSchema> = DeepReadonly<Static<Schema>>;

/**
 * Keywords beyond JSON Schema. `x-default` is the default the controller applies at use time, in words or as written
 * in YAML; `x-type` names a wire format whose syntax the schema does not check. Both reach descriptions and the
 * reference page, neither reaches the API server as a keyword.
 */
export interface FieldOptions {
  readonly "x-default"?: string;
  readonly "x-type"?: string;
}

interface TextOptions extends FieldOptions {
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
}

interface IntegerOptions extends FieldOptions {
  readonly minimum?: number;
  readonly maximum?: number;
}

/** A CEL rule the API server evaluates. */
export interface SchemaRule {
  readonly rule: string;
  readonly message: string;
}

/** A property that may be absent; the others are required. */
export const optional = Type.Optional;

export const text = (description: string, options: TextOptions = {}) => Type.String({ description, ...options });

/** A string of a wire format the schema leaves to validation. */
export const format = (type: string, description: string, options: FieldOptions = {}) =>
  Type.String({ description, "x-type": type, ...options });

export const duration = (description: string, options: FieldOptions = {}) =>
  Type.String({ description, pattern: durationPattern, "x-type": "duration", ...options });

export const time = (description: string) => Type.String({ description, format: "date-time", "x-type": "time" });

export const flag = (description: string, options: FieldOptions = {}) => Type.Boolean({ description, ...options });

export const int32 = (description: string, options: IntegerOptions = {}) =>
  Type.Integer({ description, format: "int32", ...options });

export const int64 = (description: string, options: IntegerOptions = {}) =>
  Type.Integer({ description, format: "int64", ...options });

export const choice = <const Values extends readonly string[]>(
  values: Values,
  description: string,
  options: FieldOptions & { readonly default?: Values[number] } = {},
) => Type.Unsafe<Values[number]>({ type: "string", enum: values, description, ...options });

export const object = <Properties extends TProperties>(
  description: string,
  properties: Properties,
  options: FieldOptions & {
    readonly "x-kubernetes-map-type"?: "atomic";
    readonly "x-kubernetes-validations"?: readonly SchemaRule[];
  } = {},
) => Type.Object(properties, { description, ...options });

/** A list without list type: atomic under server-side apply, because its order is meaning. */
export const list = <Items extends TSchema>(
  items: Items,
  description: string,
  options: FieldOptions & { readonly minItems?: number } = {},
) => Type.Array(items, { description, ...options });

/** A list merged item by item under server-side apply; items are told apart by one member. */
export const keyedList = <Items extends TSchema>(items: Items, key: "name" | "type", description: string) =>
  Type.Array(items, { description, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key] });

/** A list within an atomic map; it says so itself, as Kubernetes' own label selectors do. */
export const atomicList = <Items extends TSchema>(items: Items, description: string) =>
  Type.Array(items, { description, "x-kubernetes-list-type": "atomic" });

/** Strings by key. */
export const textMap = (description: string) =>
  Type.Unsafe<Readonly<Record<string, string>>>({
    type: "object",
    additionalProperties: { type: "string" },
    description,
  });
