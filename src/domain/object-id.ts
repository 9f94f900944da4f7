/** What identifies an object in a cluster, without its version. Empty namespace: cluster-scoped; empty group: core. */
export interface ObjectId {
  readonly group: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** The id of an inventory entry: `<namespace>_<name>_<group>_<kind>` (spec 10 §7). */
export function renderObjectId(id: ObjectId): string {
  return `${id.namespace}_${id.name}_${id.group}_${id.kind}`;
}

/**
 * Reads an inventory entry's id. The namespace ends at the first `_`, the kind starts after the last and the group after
 * the one before: neither can hold one, while RBAC names may (spec 20 §8.1). Undefined when a part other than namespace
 * or group is missing.
 */
export function parseObjectId(text: string): ObjectId | undefined {
  const afterNamespace = text.indexOf("_");
  const beforeKind = text.lastIndexOf("_");
  const beforeGroup = text.lastIndexOf("_", beforeKind - 1);
  if (afterNamespace < 0 || beforeGroup <= afterNamespace) return undefined;
  const id = {
    namespace: text.slice(0, afterNamespace),
    name: text.slice(afterNamespace + 1, beforeGroup),
    group: text.slice(beforeGroup + 1, beforeKind),
    kind: text.slice(beforeKind + 1),
  };
  return id.name === "" || id.kind === "" ? undefined : id;
}

/** How messages name an object: `Deployment apps/web`, `Namespace web`. */
export function describeObject(id: ObjectId): string {
  return id.namespace === "" ? `${id.kind} ${id.name}` : `${id.kind} ${id.namespace}/${id.name}`;
}
