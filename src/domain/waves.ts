import type { RenderedObject } from "./rendered.ts";

/** Kinds applied first, in this order; those not named share the rank after them (spec 20 §6.1). */
const firstKinds = [
  ...["CustomResourceDefinition", "Namespace", "ClusterRole", "ClusterClass", "RuntimeClass", "PriorityClass"],
  ...["StorageClass", "VolumeSnapshotClass", "IngressClass", "GatewayClass", "ClusterRoleBinding", "ResourceQuota"],
  ...["ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Secret", "Service", "LimitRange", "Deployment"],
  ...["StatefulSet", "CronJob", "PodDisruptionBudget"],
];
/** Webhooks last: they may need what the others bring up. */
const lastKinds = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

const ranks = new Map([
  ...firstKinds.map((kind, index) => [kind, index] as const),
  ...lastKinds.map((kind, index) => [kind, firstKinds.length + 1 + index] as const),
]);

type Placed = Pick<RenderedObject, "group" | "kind" | "namespace" | "name">;

/**
 * Objects in waves, each a list of ranks, each a list of objects that may be applied at once. Waves are applied whole
 * or not at all; the first two must be Current before the next starts. Empty waves and ranks are left out.
 */
export function planWaves<Item extends Placed>(objects: readonly Item[]): readonly (readonly (readonly Item[])[])[] {
  const waves = [0, 1, 2].map((wave) => objects.filter((object) => waveOf(object) === wave));
  return waves.filter((wave) => wave.length > 0).map(rankObjects);
}

/** Objects in the order in which they are applied; deletes go the other way. */
export function applyOrder<Item extends Placed>(objects: readonly Item[]): readonly Item[] {
  return [...objects].sort((a, b) => waveOf(a) - waveOf(b) || rankOf(a.kind) - rankOf(b.kind) || byName(a, b));
}

function waveOf({ group, kind }: Placed): number {
  if (kind === "CustomResourceDefinition" || kind === "ClusterRole" || (kind === "Namespace" && group === "")) return 0;
  return kind.endsWith("Class") ? 1 : 2;
}

function rankObjects<Item extends Placed>(objects: readonly Item[]): readonly (readonly Item[])[] {
  const byRank = new Map<number, Item[]>();
  for (const object of objects) {
    const rank = rankOf(object.kind);
    const members = byRank.get(rank);
    if (members === undefined) byRank.set(rank, [object]);
    else members.push(object);
  }
  return [...byRank].sort(([a], [b]) => a - b).map(([, members]) => members.sort(byName));
}

function rankOf(kind: string): number {
  return ranks.get(kind) ?? firstKinds.length;
}

function byName(a: Placed, b: Placed): number {
  return (
    compare(a.group, b.group) || compare(a.kind, b.kind) || compare(a.namespace, b.namespace) || compare(a.name, b.name)
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
