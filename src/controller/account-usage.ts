import { asArray, asText, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { ResourceCache } from "../kube/cache.ts";

/** Which StageSets act as which ServiceAccount. */
export interface AccountUsage extends Disposable {
  /** StageSets of the namespace that act as this ServiceAccount somewhere. */
  count(namespace: string, name: string): number;
}

/** Calls `release` for a ServiceAccount when the last StageSet of its namespace that names it is gone (spec 50 §1.2). */
export function watchAccountUsage(
  stageSets: Pick<ResourceCache<KubeObject>, "subscribe">,
  options: {
    readonly defaultServiceAccount: string | undefined;
    readonly release: (namespace: string, name: string) => void;
  },
): AccountUsage {
  const users = new Map<string, Map<string, Set<string>>>();
  const subscription = stageSets.subscribe(({ type, namespace, name, object }) => {
    const accounts = users.get(namespace) ?? new Map<string, Set<string>>();
    users.set(namespace, accounts);
    const named = type === "deleted" ? new Set<string>() : accountsOf(object, options.defaultServiceAccount);
    for (const account of named) accounts.set(account, (accounts.get(account) ?? new Set()).add(name));
    for (const [account, by] of accounts) {
      if (named.has(account) || !by.delete(name) || by.size > 0) continue;
      accounts.delete(account);
      options.release(namespace, account);
    }
    if (accounts.size === 0) users.delete(namespace);
  });
  return {
    count: (namespace, name) => users.get(namespace)?.get(name)?.size ?? 0,
    [Symbol.dispose]: () => subscription[Symbol.dispose](),
  };
}

/** Every ServiceAccount the StageSet or one of its stages acts as. */
function accountsOf(stageSet: KubeObject, defaultServiceAccount: string | undefined): ReadonlySet<string> {
  const own = asText(at(stageSet, "spec", "serviceAccountName")) || defaultServiceAccount;
  const stages = asArray(at(stageSet, "spec", "stages")).map((stage) => asText(at(stage, "serviceAccountName")));
  return new Set([own, ...stages].flatMap((name) => name || []));
}
