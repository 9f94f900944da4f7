import { malformed } from "./sops-problem.ts";

interface Node {
  value: string | undefined;
  readonly members: Map<string, Node>;
  readonly items: Map<number, Node>;
}

/** More members than any metadata has. */
const mostEntries = 2_000;

/**
 * Metadata as formats without nesting keep it, `age__list_0__map_enc` for `age[0].enc`, as nested data without prototypes.
 *
 * @throws {SopsProblem} `malformed`
 */
export function unflatten(entries: readonly (readonly [string, string])[]): unknown {
  if (entries.length > mostEntries) throw malformed("its metadata is too large");
  const root = emptyNode();
  for (const [key, value] of entries) {
    let node = root;
    for (const [index, part] of key.split(/(?=__map_|__list_)/).entries()) {
      const listed = index > 0 && part.startsWith("__list_");
      node = listed
        ? childOf(node.items, Number(/^\d{1,4}$/.exec(part.slice(7))?.[0] ?? Number.NaN))
        : childOf(node.members, index === 0 ? part : part.slice(6));
    }
    if (node.value !== undefined) throw malformed("its metadata says something twice");
    node.value = value;
  }
  return converted(root);
}

function emptyNode(): Node {
  return { value: undefined, members: new Map(), items: new Map() };
}

function childOf<K>(children: Map<K, Node>, key: K): Node {
  const child = children.get(key) ?? emptyNode();
  children.set(key, child);
  return child;
}

function converted({ value, members, items }: Node): unknown {
  if (Number(value !== undefined) + Number(members.size > 0) + Number(items.size > 0) > 1)
    throw malformed("its metadata contradicts itself");
  if (value !== undefined) return value;
  if (items.size > 0)
    return Array.from({ length: items.size }, (_, index) => {
      const item = items.get(index);
      if (item === undefined) throw malformed("its metadata has a list with a gap");
      return converted(item);
    });
  const mapping: Record<string, unknown> = { __proto__: null };
  for (const [key, member] of members) mapping[key] = converted(member);
  return mapping;
}
