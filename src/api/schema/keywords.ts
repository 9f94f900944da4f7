import type { TSchema } from "typebox";
import type { FieldOptions, SchemaRule } from "./field.ts";

/** Every keyword the schemas of this folder use; a `TSchema` can be taken as this. */
export interface Keywords extends FieldOptions {
  readonly type?: string;
  readonly description?: string;
  readonly enum?: readonly string[];
  readonly default?: string;
  readonly format?: string;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly properties?: Readonly<Record<string, TSchema>>;
  readonly required?: readonly string[];
  readonly items?: TSchema;
  readonly additionalProperties?: TSchema;
  readonly "x-kubernetes-list-type"?: "map" | "atomic";
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
  readonly "x-kubernetes-map-type"?: "atomic";
  readonly "x-kubernetes-validations"?: readonly SchemaRule[];
}
