import { at, asText } from "../../lib/json.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import type { Access } from "../../identity/access.ts";
import { KubeError } from "../../kube/error.ts";
import { getRequest } from "../../kube/request.ts";
import { storageClasses } from "../resources.ts";

/**
 * A pending PersistentVolumeClaim whose StorageClass binds with its first consumer is as ready as it can be
 * (spec 20 §9.3). An unreadable class counts as one that binds at once.
 */
export async function waitsForFirstConsumer(access: Access, claim: KubeObject, signal: AbortSignal): Promise<boolean> {
  if (claim.kind !== "PersistentVolumeClaim" || at(claim, "status", "phase") !== "Pending") return false;
  const name = asText(at(claim, "spec", "storageClassName"));
  if (name === undefined) return false;
  try {
    const storageClass = await access.client.send(getRequest(storageClasses, { name }), { signal });
    return at(storageClass, "volumeBindingMode") === "WaitForFirstConsumer";
  } catch (error) {
    if (error instanceof KubeError) return false;
    throw error;
  }
}
