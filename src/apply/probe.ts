import { fieldManager } from "../api/keys.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import { isKubeError } from "../kube/error.ts";
import { applyRequest, type ApiResource } from "../kube/request.ts";
import { sendWithRetry } from "../kube/retry.ts";
import { asObject } from "../lib/json.ts";
import type { Target } from "./target.ts";

/** Ends the name of a dry-run object that never comes to exist. */
const probeSuffix = "-stageset-probe";
const longestName = 63;

/**
 * Whether a manifest is refused even as a new object: then it is invalid as such, and deleting the live one would lose
 * it for nothing (spec 20 §7.4a).
 */
export async function isInvalidAsSuch(
  target: Target,
  { object, resource }: { readonly object: RenderedObject; readonly resource: ApiResource },
): Promise<boolean> {
  const manifest = asObject(JSON.parse(Buffer.from(object.body).toString("utf8"))) ?? {};
  const name = `${object.name.slice(0, longestName - probeSuffix.length)}${probeSuffix}`;
  const probe = { ...manifest, metadata: { ...asObject(manifest["metadata"]), name } };
  const request = applyRequest(resource, {
    namespace: resource.namespaced ? object.namespace : undefined,
    name,
    body: JSON.stringify(probe),
    fieldManager,
    force: true,
    dryRun: true,
  });
  const { signal, clock, random } = target;
  try {
    await sendWithRetry(target.access.client, request, { signal, clock, random });
    return false;
  } catch (error) {
    if (isKubeError(error, "Unreachable", "Unauthorized")) throw error;
    return true;
  }
}
