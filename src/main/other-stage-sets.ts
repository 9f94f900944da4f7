import { inventoryStageSetLabel } from "../api/keys.ts";
import { dependencyView, type DependencyView } from "../domain/dependencies.ts";
import { localTarget, targetName } from "../domain/target.ts";
import type { StageSetKey } from "../engine/journal.ts";
import { asKubeObject } from "../engine/kube-answer.ts";
import { stageSets as stageSetResource } from "../engine/resources.ts";
import type { ResourceCache } from "../kube/cache.ts";
import type { KubeClient } from "../kube/client.ts";
import { KubeError } from "../kube/error.ts";
import { getRequest } from "../kube/request.ts";
import { asArray, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Config } from "./config.ts";

/** Dependencies in watched namespaces come from what we know, others are read. */
export async function readDependency(
  from: {
    readonly client: KubeClient;
    readonly stageSets: { get(namespace: string, name: string): KubeObject | undefined };
    readonly config: Config;
  },
  key: StageSetKey,
  { signal }: { readonly signal: AbortSignal },
): Promise<DependencyView | undefined> {
  const { namespaces } = from.config;
  if (namespaces === undefined || namespaces.includes(key.namespace)) {
    const known = from.stageSets.get(key.namespace, key.name);
    return known === undefined ? undefined : dependencyView(known);
  }
  try {
    return dependencyView(asKubeObject(await from.client.send(getRequest(stageSetResource, key), { signal })));
  } catch (error) {
    if (error instanceof KubeError) return undefined;
    throw error;
  }
}

/** Which StageSets record an object id, by their shards. */
export interface RecordIndex extends Disposable {
  /**
   * Another StageSet of the same target records this id (spec 20 §8.3). What one that is going, or is gone, still records
   * is handed to nobody: there the labels decide alone.
   */
  isRecordedElsewhere(key: StageSetKey, id: string): boolean;
}

/** Built when it is first asked, which is when something is deleted, and kept up to date from then on. */
export function createRecordIndex(
  caches: Readonly<Record<"inventories" | "stageSets", ResourceCache<KubeObject>>>,
): RecordIndex {
  const { inventories, stageSets } = caches;
  let index: { readonly owners: Map<string, Map<string, StageSetKey>>; readonly subscription: Disposable } | undefined;
  const build = (): NonNullable<typeof index> => {
    /** By id: which shards hold it, and whose they are. */
    const owners = new Map<string, Map<string, StageSetKey>>();
    const idsOf = (shard: KubeObject): readonly string[] =>
      asArray(at(shard, "spec", "entries")).flatMap((entry) => asText(at(entry, "id")) ?? []);
    const nameOf = ({ metadata }: KubeObject): string => `${metadata.namespace ?? ""}/${metadata.name}`;
    const add = (shard: KubeObject): void => {
      const { namespace = "", labels } = shard.metadata;
      const owner = { namespace, name: labels?.[inventoryStageSetLabel] ?? "" };
      for (const id of idsOf(shard))
        owners.set(id, (owners.get(id) ?? new Map<string, StageSetKey>()).set(nameOf(shard), owner));
    };
    const remove = (shard: KubeObject): void => {
      for (const id of idsOf(shard)) {
        const holders = owners.get(id);
        holders?.delete(nameOf(shard));
        if (holders?.size === 0) owners.delete(id);
      }
    };
    for (const shard of inventories.list()) add(shard);
    const subscription = inventories.subscribe(({ type, object, previous }) => {
      if (previous !== undefined) remove(previous);
      if (type !== "deleted") add(object);
    });
    return { owners, subscription };
  };
  return {
    isRecordedElsewhere(key, id) {
      index ??= build();
      return [...(index.owners.get(id)?.values() ?? [])].some(({ namespace, name }) => {
        if (namespace === key.namespace && name === key.name) return false;
        const owner = stageSets.get(namespace, name);
        if (owner === undefined || owner.metadata.deletionTimestamp !== undefined) return false;
        return clusterOf(owner) === clusterOf(stageSets.get(key.namespace, key.name));
      });
    },
    [Symbol.dispose]: () => index?.subscription[Symbol.dispose](),
  };
}

/**
 * Equal for StageSets of which it is known that they are applied to the same cluster. Kubeconfigs of two namespaces may lead
 * to the same one as well: there the labels decide alone.
 */
function clusterOf(stageSet: KubeObject | undefined): string {
  const target = targetName(at(stageSet, "spec", "kubeConfig"));
  return target === localTarget ? target : `${stageSet?.metadata.namespace ?? ""}/${target}`;
}
