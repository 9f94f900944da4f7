import { KubeError } from "../kube/error.ts";
import { asObject } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";

/** An answer of the API server to a request for one object. */
export function asKubeObject(value: unknown): KubeObject {
  const object = asObject(value);
  if (object === undefined || asObject(object["metadata"]) === undefined)
    throw new KubeError({
      reason: "Other",
      message: "the API server answered with something that is no object",
      afterSend: true,
    });
  // The API server guarantees apiVersion, kind and metadata.name of every object it answers with.
  return object as unknown as KubeObject;
}
