import { asObject, asText } from "../lib/json.ts";
import type { ObjectMeta } from "../lib/kube-object.ts";
import { apiVersion } from "./group.ts";
import type { Reader, Violation } from "./schema/reader.ts";

export type { Violation };

/**
 * A value that fits its schema, or every way in which it does not. `readable` is what is left of a value that does not
 * fit: members that do not fit are left out, and it is absent if one of them is required all the way up.
 */
export type Parsed<T> =
  | { readonly kind: "valid"; readonly value: T }
  | { readonly kind: "invalid"; readonly violations: readonly Violation[]; readonly readable?: T };

/** An object of one of our kinds. */
export interface Resource<Spec, Status = never> {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly spec: Spec;
  readonly status?: Status;
}

/** What an object without spec is taken for: refused, or an empty spec. */
export type AbsentSpec = "refused" | "empty";

/**
 * Reads an object as the API server sends it, or as a file has it. Its spec is read with the schema's reader. Its
 * metadata and status are passed through: the API server has checked them, and only the controller writes the status.
 */
export function parseResource<Spec, Status>(
  value: unknown,
  { kind, spec: read, absentSpec }: { readonly kind: string; readonly spec: Reader; readonly absentSpec: AbsentSpec },
): Parsed<Resource<Spec, Status>> {
  const object = asObject(value);
  if (object === undefined) return { kind: "invalid", violations: [{ path: "", message: "is not an object" }] };
  const violations = kindViolations(object, kind);
  const metadata = metadataOf(object["metadata"]);
  if (metadata === undefined) violations.push({ path: "metadata.name", message: "is missing" });
  const stored = object["spec"] ?? (absentSpec === "empty" ? {} : undefined);
  if (stored === undefined) violations.push({ path: "spec", message: "is missing" });
  const place = { parent: undefined, key: "spec" };
  const spec = stored === undefined ? undefined : read(stored, place, (violation) => void violations.push(violation));
  if (spec?.kind !== "read" || metadata === undefined) return { kind: "invalid", violations };
  const status = asObject(object["status"]);
  const resource: Resource<Spec, Status> = {
    apiVersion,
    kind,
    metadata,
    spec: spec.value as Spec, // The reader was compiled from the schema whose type this is.
    ...(status && { status: status as Status }), // Written by the controller only, and checked by the API server.
  };
  return violations.length === 0
    ? { kind: "valid", value: resource }
    : { kind: "invalid", violations, readable: resource };
}

// Items of a list carry neither apiVersion nor kind.
function kindViolations(object: Readonly<Record<string, unknown>>, kind: string): Violation[] {
  const wanted = { apiVersion, kind };
  return (["apiVersion", "kind"] as const)
    .filter((key) => object[key] !== undefined && object[key] !== wanted[key])
    .map((key) => ({ path: key, message: `is not "${wanted[key]}"` }));
}

function metadataOf(value: unknown): ObjectMeta | undefined {
  const metadata = asObject(value);
  const name = asText(metadata?.["name"]);
  return name === undefined ? undefined : { ...metadata, name };
}
