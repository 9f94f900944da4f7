import type { Puller } from "../domain/images/pod-spec.ts";
import type { ImageReference } from "../domain/images/reference.ts";
import { credentialFor } from "../images/pull-credentials.ts";
import type { Credential } from "../images/registry-client.ts";
import type { Access } from "../identity/access.ts";
import { IdentityError } from "../identity/identity-error.ts";
import { secrets } from "../kube/core-resources.ts";
import { isKubeError, KubeError } from "../kube/error.ts";
import { getRequest } from "../kube/request.ts";
import { asArray, asText, at } from "../lib/json.ts";
import { serviceAccounts } from "./resources.ts";

/** Who pulls an image: with which Secrets, in which namespace. */
export type Pulls = Puller & { readonly namespace: string };

/** Secrets that are read for one image. */
const mostSecrets = 16;

/**
 * The first credential for an image's repository among the pull secrets of the pod specs that have it, then of their
 * ServiceAccounts, read as the identity that applies them (spec 50 §4.5). What cannot be read is passed over, and told.
 */
export async function readPullCredential(
  from: {
    readonly pulls: readonly Pulls[];
    readonly reference: Pick<ImageReference, "registry" | "repository">;
    readonly access: (signal: AbortSignal) => Promise<Access>;
  },
  o: { readonly unread: (what: string) => void; readonly signal: AbortSignal },
): Promise<Credential | undefined> {
  const tried = new Set<string>();
  const read = async (namespace: string, name: string): Promise<Credential | undefined> => {
    const what = `Secret "${namespace}/${name}"`;
    if (tried.has(what) || tried.size >= mostSecrets) return undefined;
    tried.add(what);
    try {
      const { client } = await from.access(o.signal);
      const secret = await client.send(getRequest(secrets, { namespace, name }), { signal: o.signal });
      const config = at(secret, "data", ".dockerconfigjson") ?? at(secret, "data", ".dockercfg");
      const text = asText(config);
      if (text === undefined) throw new TypeError("holds no docker config");
      return credentialFor(Buffer.from(text, "base64").toString("utf8"), from.reference);
    } catch (error) {
      if (error instanceof TypeError) o.unread(`${what}, which ${error.message}`);
      else if (isKubeError(error, "NotFound")) o.unread(`${what}, which does not exist`);
      else if (error instanceof KubeError || error instanceof IdentityError) o.unread(`${what}, which cannot be read`);
      else throw error;
      return undefined;
    }
  };
  for (const { namespace, pullSecrets } of from.pulls)
    for (const name of pullSecrets) {
      const found = await read(namespace, name);
      if (found !== undefined) return found;
    }
  const accounts = new Map(from.pulls.map((each) => [`${each.namespace}/${each.serviceAccount}`, each]));
  for (const { namespace, serviceAccount } of accounts.values())
    for (const name of await secretsOf({ namespace, name: serviceAccount }, from.access, o)) {
      const found = await read(namespace, name);
      if (found !== undefined) return found;
    }
  return undefined;
}

async function secretsOf(
  account: { readonly namespace: string; readonly name: string },
  access: (signal: AbortSignal) => Promise<Access>,
  { unread, signal }: { readonly unread: (what: string) => void; readonly signal: AbortSignal },
): Promise<readonly string[]> {
  try {
    const { client } = await access(signal);
    const found = await client.send(getRequest(serviceAccounts, account), { signal });
    return asArray(at(found, "imagePullSecrets")).flatMap((each) => asText(at(each, "name")) ?? []);
  } catch (error) {
    if (!(error instanceof KubeError) && !(error instanceof IdentityError)) throw error;
    if (!isKubeError(error, "NotFound"))
      unread(`ServiceAccount "${account.namespace}/${account.name}", which cannot be read`);
    return [];
  }
}
