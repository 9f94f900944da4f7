import {
  isMapping,
  isSequence,
  mappingAt,
  scalarText,
  withMembers,
  type YamlMapping,
  type YamlValue,
} from "./yaml-value.ts";

/** JSON Pointers (RFC 6901) of fields that are left to others, separated by white space. */
export const ignoreFieldsKey = "stages.metio.wtf/ignore-fields";

/** What identifies the object, and what tells whose it is. */
const needed = [
  ...["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"],
  ...["stage", "name", "namespace"].map((name) => `/metadata/labels/stages.metio.wtf~1${name}`),
  `/metadata/annotations/${ignoreFieldsKey.replace("/", "~1")}`,
];

/** The pointers of a manifest, as written; `unusable` are no pointers, or name what no object can do without. */
export function readLeftFields(value: YamlMapping): {
  readonly pointers: readonly string[];
  readonly unusable: readonly string[];
} {
  const written = scalarText(mappingAt(value, "metadata", "annotations")?.[ignoreFieldsKey]) ?? "";
  const pointers: string[] = [];
  const unusable: string[] = [];
  for (const pointer of written.split(/\s+/).filter((part) => part !== ""))
    (isUsable(pointer) ? pointers : unusable).push(pointer);
  return { pointers, unusable };
}

/**
 * The manifest without the fields it leaves to others, such as the replicas an autoscaler sets: who does not apply a
 * field does not own it, so nobody's change of it is drift. Pointers to what is not there change nothing.
 */
export function withoutLeftFields(value: YamlMapping): YamlMapping {
  let result = value;
  for (const pointer of readLeftFields(value).pointers) result = without(result, tokensOf(pointer));
  return result;
}

function isUsable(pointer: string): boolean {
  if (!pointer.startsWith("/") || /~(?![01])/.test(pointer)) return false;
  return !needed.some((kept) => kept === pointer || kept.startsWith(`${pointer}/`) || pointer.startsWith(`${kept}/`));
}

function tokensOf(pointer: string): readonly string[] {
  return pointer
    .slice(1)
    .split("/")
    .map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function without(mapping: YamlMapping, [key = "", ...rest]: readonly string[]): YamlMapping {
  const member = Object.hasOwn(mapping, key) ? mapping[key] : undefined;
  if (member === undefined) return mapping;
  if (rest.length === 0) return withMembers(mapping, { [key]: undefined });
  return withMembers(mapping, { [key]: withoutInside(member, rest) });
}

/** List items themselves stay: taking one out would give the others new indexes. */
function withoutInside(value: YamlValue, path: readonly string[]): YamlValue {
  if (isMapping(value)) return without(value, path);
  const [index = "", ...rest] = path;
  if (!isSequence(value) || rest.length === 0) return value;
  return value.map((item, at) => (String(at) === index ? withoutInside(item, rest) : item));
}
