import type { KubeClient } from "../kube/client.ts";
import type { Discovery } from "../kube/discovery.ts";
import { KubeError } from "../kube/error.ts";
import { getRequest, type ApiResource } from "../kube/request.ts";
import { sendWithRetry } from "../kube/retry.ts";
import type { Clock } from "../lib/clock.ts";
import { asObject } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { Random } from "../lib/random.ts";
import type { ObjectId } from "../domain/object-id.ts";

/** One identity on the target cluster, and how requests are made as it. */
export interface Target {
  readonly access: { readonly client: KubeClient; readonly discovery: Discovery };
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly random: Random;
  /** Requests at once, at most. */
  readonly inFlight: number;
}

/** How the target serves the kind: at the given version, else at the one it prefers. */
export async function servedAs(
  target: Target,
  id: ObjectId & { readonly version?: string | undefined },
): Promise<ApiResource | undefined> {
  const { group, kind, version } = id;
  return target.access.discovery.find({ group, kind, version }, { signal: target.signal });
}

/** The live object; undefined when there is none. */
export async function readLive(target: Target, resource: ApiResource, id: ObjectId): Promise<KubeObject | undefined> {
  const { signal, clock, random } = target;
  try {
    const request = getRequest(resource, { namespace: resource.namespaced ? id.namespace : undefined, name: id.name });
    return liveObject(await sendWithRetry(target.access.client, request, { signal, clock, random }));
  } catch (error) {
    if (error instanceof KubeError && (error.reason === "NotFound" || error.reason === "NotServed")) return undefined;
    throw error;
  }
}

/** An answer that holds one object. */
export function liveObject(value: unknown): KubeObject {
  const object = asObject(value);
  if (object === undefined || asObject(object["metadata"]) === undefined)
    throw new TypeError("the API server answered with something that is no object");
  // The API server guarantees apiVersion, kind and metadata.name of every object it answers with.
  return object as unknown as KubeObject;
}
