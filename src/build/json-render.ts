import { isSequence, type YamlMapping, type YamlValue } from "./yaml-value.ts";

/** Compact JSON with the keys of every mapping in code unit order, so equal values give equal text. */
export function renderJson(value: YamlValue): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (value === null || typeof value !== "object") return String(value);
  if (isSequence(value)) {
    let text = "[";
    for (const item of value) text += (text.length > 1 ? "," : "") + renderJson(item);
    return `${text}]`;
  }
  return `{${renderMembers(value, Object.keys(value))}}`;
}

/** The members of these keys, in code unit order, without the braces around them. */
export function renderMembers(mapping: YamlMapping, keys: readonly string[]): string {
  let text = "";
  for (const key of [...keys].sort()) {
    const member = mapping[key];
    if (member === undefined) continue;
    text += `${text === "" ? "" : ","}${JSON.stringify(key)}:${renderJson(member)}`;
  }
  return text;
}
