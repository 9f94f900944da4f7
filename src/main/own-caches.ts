import { judgingPolicy, type JudgingPolicy } from "../domain/images/governing.ts";
import { stageInventories, stageLedgers, stageSets as stageSetResource } from "../engine/resources.ts";
import { startCache, type ResourceCache } from "../kube/cache.ts";
import type { KubeClient } from "../kube/client.ts";
import type { ApiResource } from "../kube/request.ts";
import type { Clock } from "../lib/clock.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { Config } from "./config.ts";

/** FleetRollouts, which are of no namespace. */
export const fleetResource: ApiResource = {
  ...stageSetResource,
  kind: "FleetRollout",
  plural: "fleetrollouts",
  namespaced: false,
};

const imagePolicies: ApiResource = {
  ...fleetResource,
  kind: "ImageVerificationPolicy",
  plural: "imageverificationpolicies",
};

/** Watches of our own kinds. */
export interface OwnCaches {
  readonly stageSets: ResourceCache<KubeObject>;
  readonly inventories: ResourceCache<KubeObject>;
  readonly ledgers: ResourceCache<KubeObject>;
  readonly fleets: ResourceCache<KubeObject | undefined>;
  readonly policies: ResourceCache<JudgingPolicy>;
  /** Policies were listed once, or it is known why they cannot be: then there may be none, or nothing may pass. */
  readonly policiesSettled: Promise<void>;
}

/** Fleets are held whole only where the UI shows them. The stack closes the watches. */
export function startOwnCaches(
  stack: AsyncDisposableStack,
  options: { readonly client: KubeClient; readonly config: Config; readonly clock: Clock; readonly logger: Logger },
): OwnCaches {
  const { client, config, clock, logger } = options;
  const base = { client, clock, logger };
  const scoped = { ...base, namespaces: config.namespaces };
  const settled = Promise.withResolvers<undefined>();
  const policies = stack.use(
    startCache({
      ...base,
      resource: imagePolicies,
      project: judgingPolicy,
      onFailure: () => settled.resolve(undefined),
    }),
  );
  policies.whenSynced(new AbortController().signal).then(
    () => settled.resolve(undefined),
    () => undefined,
  );
  const nothing = (): undefined => undefined;
  return {
    stageSets: stack.use(startCache({ ...scoped, resource: stageSetResource, project: withoutManagedFields })),
    inventories: stack.use(startCache({ ...scoped, resource: stageInventories, project: withoutManagedFields })),
    ledgers: stack.use(startCache({ ...scoped, resource: stageLedgers, project: withoutManagedFields })),
    fleets: stack.use(
      config.ui === undefined
        ? startCache<KubeObject | undefined>({ ...base, resource: fleetResource, project: nothing, metadataOnly: true })
        : startCache<KubeObject | undefined>({ ...base, resource: fleetResource, project: withoutManagedFields }),
    ),
    policies,
    policiesSettled: settled.promise,
  };
}

export function withoutManagedFields(object: KubeObject): KubeObject {
  const { managedFields: _managedFields, ...metadata } = object.metadata;
  return { ...object, metadata };
}
