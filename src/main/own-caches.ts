import { stageInventories, stageLedgers, stageSets as stageSetResource } from "../engine/resources.ts";
import { startCache, type ResourceCache } from "../kube/cache.ts";
import type { KubeClient } from "../kube/client.ts";
import type { ApiResource } from "../kube/request.ts";
import type { Clock } from "../lib/clock.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { Config } from "./config.ts";

const fleets: ApiResource = { ...stageSetResource, kind: "FleetRollout", plural: "fleetrollouts", namespaced: false };

/** Watches of our own kinds. */
export interface OwnCaches {
  readonly stageSets: ResourceCache<KubeObject>;
  readonly inventories: ResourceCache<KubeObject>;
  readonly ledgers: ResourceCache<KubeObject>;
  readonly fleets: ResourceCache<KubeObject | undefined>;
}

/** Fleets are held whole only where the UI shows them. The stack closes the watches. */
export function startOwnCaches(
  stack: AsyncDisposableStack,
  options: { readonly client: KubeClient; readonly config: Config; readonly clock: Clock; readonly logger: Logger },
): OwnCaches {
  const { client, config, clock, logger } = options;
  const base = { client, clock, logger };
  const scoped = { ...base, namespaces: config.namespaces };
  const nothing = (): undefined => undefined;
  return {
    stageSets: stack.use(startCache({ ...scoped, resource: stageSetResource, project: withoutManagedFields })),
    inventories: stack.use(startCache({ ...scoped, resource: stageInventories, project: withoutManagedFields })),
    ledgers: stack.use(startCache({ ...scoped, resource: stageLedgers, project: withoutManagedFields })),
    fleets: stack.use(
      config.ui === undefined
        ? startCache<KubeObject | undefined>({ ...base, resource: fleets, project: nothing, metadataOnly: true })
        : startCache<KubeObject | undefined>({ ...base, resource: fleets, project: withoutManagedFields }),
    ),
  };
}

function withoutManagedFields(object: KubeObject): KubeObject {
  const { managedFields: _managedFields, ...metadata } = object.metadata;
  return { ...object, metadata };
}
