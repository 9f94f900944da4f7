import { BuildError } from "./build-error.ts";
import {
  isMapping,
  isSequence,
  mappingAt,
  scalarText,
  textAt,
  valueAt,
  type YamlMapping,
  type YamlValue,
} from "./yaml-value.ts";

/** One object as written, with the parts every step asks for. */
export interface Manifest {
  readonly value: YamlMapping;
  /** Where it is from, for messages: a quoted file name, or what made it. */
  readonly origin: string;
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly name: string;
  /** As written; empty when there is none. */
  readonly namespace: string;
}

/** How messages name a manifest: `ConfigMap "settings" in "base/a.yaml"`. */
export function describeManifest({ kind, name, origin }: Pick<Manifest, "kind" | "name" | "origin">): string {
  return `${kind} "${name}" in ${origin}`;
}

/** Reads what identifies the object. Throws `NotAManifest` when it is none, `Invalid` when it has no usable name. */
export function parseManifest(value: YamlValue, origin: string): Manifest {
  if (!isMapping(value)) throw new BuildError("NotAManifest", `${origin} is not a Kubernetes manifest`);
  const apiVersion = textAt(value, "apiVersion");
  const kind = textAt(value, "kind");
  if (apiVersion === "" || kind === "") {
    const missing = kind === "" ? "kind" : "apiVersion";
    throw new BuildError("NotAManifest", `${origin} is not a Kubernetes manifest: it has no "${missing}"`);
  }
  const name = valueAt(value, "metadata", "name");
  if (typeof name !== "string" || name === "") throw unnamed(value, { kind, origin });
  const namespace = valueAt(value, "metadata", "namespace") ?? "";
  if (typeof namespace !== "string") throw invalid({ kind, name, origin }, `"metadata.namespace" must be text`);
  for (const field of ["labels", "annotations"]) {
    const found = valueAt(value, "metadata", field);
    if (found !== undefined && found !== null && !isMapping(found))
      throw invalid({ kind, name, origin }, `"metadata.${field}" must be a mapping`);
  }
  const slash = apiVersion.indexOf("/");
  const [group, version] = slash < 0 ? ["", apiVersion] : [apiVersion.slice(0, slash), apiVersion.slice(slash + 1)];
  return { value, origin, group, version, kind, name, namespace };
}

/** The error for an object that cannot be applied as it is. */
export function invalid(object: Pick<Manifest, "kind" | "name" | "origin">, why: string): BuildError {
  return new BuildError("Invalid", `${describeManifest(object)} is invalid: ${why}`);
}

function unnamed(value: YamlMapping, { kind, origin }: Pick<Manifest, "kind" | "origin">): BuildError {
  const generated = textAt(value, "metadata", "generateName") !== "";
  const why = generated ? `"metadata.generateName" needs a "metadata.name" beside it` : `"metadata.name" is missing`;
  return new BuildError("Invalid", `${kind} in ${origin} is invalid: ${why}`);
}

/** The text of an annotation, or of the label of this name without one; undefined when there is neither. */
export function annotationOrLabel(value: YamlMapping, key: string): string | undefined {
  for (const field of ["annotations", "labels"]) {
    const found = scalarText(mappingAt(value, "metadata", field)?.[key]);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * The manifests of one document: lists are flattened, documents without content and objects only meant for tools
 * (`config.kubernetes.io/local-config`) give none.
 */
export function manifestsOf(document: YamlValue, origin: string): readonly Manifest[] {
  if (isBlank(document)) return [];
  const items = listItems(document);
  if (items !== undefined) return items.flatMap((item) => manifestsOf(item, origin));
  const manifest = parseManifest(document, origin);
  const local = mappingAt(manifest.value, "metadata", "annotations")?.["config.kubernetes.io/local-config"];
  return scalarText(local) === "true" ? [] : [manifest];
}

function isBlank(value: YamlValue): boolean {
  if (value === null) return true;
  if (isSequence(value)) return value.length === 0;
  return isMapping(value) && Object.keys(value).length === 0;
}

/** A `List`, or a `…List` with items, is not an object but holds some. */
function listItems(value: YamlValue): readonly YamlValue[] | undefined {
  const kind = textAt(value, "kind");
  if (!kind.endsWith("List")) return undefined;
  const items = valueAt(value, "items");
  if (isSequence(items)) return items;
  return kind === "List" && (items === undefined || items === null) ? [] : undefined;
}
