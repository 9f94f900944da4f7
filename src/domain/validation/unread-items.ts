import { asArray, asObject } from "../../lib/json.ts";
import type { Finding } from "./finding.ts";

/**
 * Leaves out what cannot be said about a spec of which list items could not be read: what is after them has another
 * index than in the object, and names that seem missing may be theirs. `read` is what the reader made of `stored`.
 */
export function aboutReadItems(
  findings: readonly Finding[],
  { stored, read }: { readonly stored: unknown; readonly read: unknown },
): readonly Finding[] {
  const shrunk = [...shrunkLists("spec", stored, read)];
  if (shrunk.length === 0) return findings;
  const stagesUnread = shrunk.includes("spec.stages");
  return findings.filter(
    ({ path }) => !shrunk.some((list) => path.startsWith(`${list}[`)) && !(stagesUnread && path.endsWith(".stage")),
  );
}

/** Paths of the lists that became shorter; lists within these are not looked at. */
function* shrunkLists(path: string, stored: unknown, read: unknown): Generator<string> {
  if (Array.isArray(read)) {
    const items = asArray(stored);
    if (items.length !== read.length) yield path;
    else
      for (const [index, item] of asArray(read).entries()) yield* shrunkLists(`${path}[${index}]`, items[index], item);
    return;
  }
  const members = asObject(stored) ?? {};
  for (const [key, member] of Object.entries(asObject(read) ?? {}))
    if (Object.hasOwn(members, key)) yield* shrunkLists(`${path}.${key}`, members[key], member);
}
