/** A parsed YAML value. Integers a double cannot hold exactly are `bigint`; aliased nodes may be shared, so nobody mutates. */
export type YamlValue = string | number | bigint | boolean | null | readonly YamlValue[] | YamlMapping;

/** Has no prototype when it comes from the parser: `__proto__` is a key like any other. */
export interface YamlMapping {
  readonly [key: string]: YamlValue;
}

/** A mapping under construction. */
export type OpenMapping = Record<string, YamlValue>;

/** An empty mapping without prototype. */
export function emptyMapping(): OpenMapping {
  // In a literal, `__proto__` sets the prototype.
  return { __proto__: null };
}

/** A copy with some members replaced; `undefined` removes one. */
export function withMembers(
  mapping: YamlMapping,
  change: Readonly<Record<string, YamlValue | undefined>>,
): YamlMapping {
  const copy = emptyMapping();
  for (const key of Object.keys(mapping)) {
    const value = Object.hasOwn(change, key) ? change[key] : mapping[key];
    if (value !== undefined) copy[key] = value;
  }
  for (const key of Object.keys(change)) {
    const value = change[key];
    if (value !== undefined) copy[key] = value;
  }
  return copy;
}

export function isMapping(value: YamlValue | undefined): value is YamlMapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isSequence(value: YamlValue | undefined): value is readonly YamlValue[] {
  return Array.isArray(value);
}

/** The member as a mapping, or undefined. */
export function mappingAt(value: YamlValue | undefined, ...path: readonly string[]): YamlMapping | undefined {
  const found = valueAt(value, ...path);
  return isMapping(found) ? found : undefined;
}

/** The member as a list, or an empty one. */
export function sequenceAt(value: YamlValue | undefined, ...path: readonly string[]): readonly YamlValue[] {
  const found = valueAt(value, ...path);
  return isSequence(found) ? found : [];
}

/** The member as text, or the empty string. */
export function textAt(value: YamlValue | undefined, ...path: readonly string[]): string {
  const found = valueAt(value, ...path);
  return typeof found === "string" ? found : "";
}

export function valueAt(value: YamlValue | undefined, ...path: readonly string[]): YamlValue | undefined {
  let current = value;
  for (const key of path) {
    if (!isMapping(current) || !Object.hasOwn(current, key)) return undefined;
    current = current[key];
  }
  return current;
}

/** A scalar as text (`true` → "true"); undefined for null, lists and mappings. */
export function scalarText(value: YamlValue | undefined): string | undefined {
  return value === undefined || value === null || typeof value === "object" ? undefined : String(value);
}
