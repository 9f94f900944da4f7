import { IdentityError } from "../identity/identity-error.ts";
import type { Access } from "../identity/access.ts";
import { secrets } from "../kube/core-resources.ts";
import { isKubeError } from "../kube/error.ts";
import { getRequest } from "../kube/request.ts";
import { asText, at } from "../lib/json.ts";
import { ActionError } from "./action-error.ts";
import type { Attempt } from "./context.ts";
import { refused } from "./target.ts";

export interface SecretKey {
  readonly name: string;
  readonly key?: string | undefined;
}

/**
 * The entry of a Secret in the StageSet's namespace, read as the action's identity in the controller's cluster; in the
 * target only if the identity or the Secret is absent there (spec 50 §1.1).
 *
 * @throws {ActionError} naming Secret and key; never a value
 */
export async function readSecretKey({ name, key = "" }: SecretKey, attempt: Attempt): Promise<string> {
  const { context } = attempt;
  const secret = await readSecret(name, attempt);
  const packed = asText(at(secret, "data", key));
  if (packed === undefined) throw new ActionError(`Secret "${context.namespace}/${name}" has no entry "${key}"`);
  return Buffer.from(packed, "base64").toString("utf8");
}

async function readSecret(name: string, attempt: Attempt): Promise<unknown> {
  const { context, signal } = attempt;
  const { namespace } = context;
  const from = async (access: Access): Promise<unknown> =>
    access.client.send(getRequest(secrets, { namespace, name }), { signal });
  try {
    try {
      return await from(await context.homeAccess(signal));
    } catch (error) {
      if (!context.isRemote || !isAbsent(error)) throw error;
      return await from(attempt.access);
    }
  } catch (error) {
    const what = `Secret "${namespace}/${name}"`;
    if (isKubeError(error, "NotFound")) throw new ActionError(`${what} does not exist`, { cause: error });
    throw refused(`Cannot read ${what}`, error);
  }
}

function isAbsent(error: unknown): boolean {
  if (error instanceof IdentityError) return error.reason === "ServiceAccountMissing";
  return isKubeError(error, "NotFound");
}
