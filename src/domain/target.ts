import type { StageSetSpec } from "../api/stage-set.ts";
import { asObject, asText, at } from "../lib/json.ts";

/** What names the cluster a StageSet is applied to. */
export type KubeConfigReference = NonNullable<StageSetSpec["kubeConfig"]>;

/** The cluster the controller runs in. */
export const localTarget = "local";

/**
 * The name of a StageSet's cluster within its namespace, as inventories record it (spec 20 §8.1): `local`,
 * `Secret/<name>/<key>` or `ConfigMap/<name>`. Equal names are the same cluster, whatever credential leads there.
 *
 * @param kubeConfig `spec.kubeConfig`; read leniently, since what is recorded must be found of an invalid spec, too
 */
export function targetName(kubeConfig: unknown): string {
  if (asObject(kubeConfig) === undefined) return localTarget;
  const secret = asText(at(kubeConfig, "secretRef", "name"));
  if (secret !== undefined) return `Secret/${secret}/${secretKey(asText(at(kubeConfig, "secretRef", "key")))}`;
  return `ConfigMap/${asText(at(kubeConfig, "configMapRef", "name")) ?? ""}`;
}

/** The entry of the Secret that holds the kubeconfig. */
export function secretKey(key: string | undefined): string {
  return key === undefined || key === "" ? "value" : key;
}
