import { asText, at } from "../../src/lib/json.ts";

/**
 * Lines of a watch stream as one shows them that fell behind: of each object its last state alone, in the order of those
 * states, under the type that fits what the watcher knew of it before. An object that came and went is not shown.
 */
export function mergeEvents(lines: readonly string[]): readonly string[] {
  const merged = new Map<string, { readonly type: string; readonly object: unknown }>();
  for (const line of lines) {
    const event: unknown = JSON.parse(line);
    const object = at(event, "object");
    const key = `${asText(at(object, "metadata", "namespace")) ?? ""}/${asText(at(object, "metadata", "name")) ?? ""}`;
    const type = mergedType(merged.get(key)?.type, asText(at(event, "type")) ?? "");
    merged.delete(key); // So that it comes in the place of its last state.
    if (type !== undefined) merged.set(key, { type, object });
  }
  return [...merged.values()].map((event) => JSON.stringify(event));
}

/** undefined: there was nothing before, and is nothing now. */
function mergedType(before: string | undefined, type: string): string | undefined {
  if (before === undefined) return type;
  if (before === "ADDED") return type === "DELETED" ? undefined : "ADDED";
  return type === "DELETED" ? "DELETED" : "MODIFIED";
}
