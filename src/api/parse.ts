import type { TSchema } from "typebox";
import type { ObjectMeta } from "../lib/kube-object.ts";
import { apiVersion } from "./group.ts";
import type { ValueOf } from "./schema/field.ts";
import { object, optional, text, textMap, list, int64, flag } from "./schema/field.ts";
import { compileReader, type Violation } from "./schema/reader.ts";

export type { Violation };

/** A value that fits its schema, or every way in which it does not. */
export type Parsed<T> =
  | { readonly kind: "valid"; readonly value: T }
  | { readonly kind: "invalid"; readonly violations: readonly Violation[] };

/** An object of one of our kinds. */
export interface Resource<Spec, Status = undefined> {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly spec?: Spec;
  readonly status?: Exclude<Status, undefined>;
}
