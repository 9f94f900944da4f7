import { secretKey, type KubeConfigReference } from "../../domain/target.ts";
import { isKubeError } from "../../kube/error.ts";
import { getRequest, type ApiResource } from "../../kube/request.ts";
import { asObject, asText, at } from "../../lib/json.ts";
import type { Access } from "../access.ts";
import { IdentityError } from "../identity-error.ts";

const core = (kind: string, plural: string): ApiResource => ({
  group: "",
  version: "v1",
  kind,
  plural,
  namespaced: true,
  verbs: [],
});
const secrets = core("Secret", "secrets");
const configMaps = core("ConfigMap", "configmaps");

/** A kubeconfig in a Secret is read up to this size (spec 50 §2.1). */
export const mostKubeConfigBytes = 1024 * 1024;

/** What `spec.kubeConfig` names, as it was read. Holds secrets. */
export interface ReadReference {
  /** Names object and entry in messages. */
  readonly where: string;
  /** uid and resourceVersion. */
  readonly version: string;
  readonly content:
    | { readonly kind: "kubeconfig"; readonly text: string }
    | { readonly kind: "cloud"; readonly entries: Readonly<Record<string, string>> };
}

/**
 * Reads what `spec.kubeConfig` names, live, as whoever is going to use it (spec 50 §1.1).
 *
 * @throws {IdentityError} `TargetMissing`, `TargetInvalid`, and those of the identity
 * @throws {KubeError} when it cannot be read for another reason
 */
export async function readReference(
  access: Access,
  { namespace, reference }: { readonly namespace: string; readonly reference: KubeConfigReference },
  signal: AbortSignal,
): Promise<ReadReference> {
  const { secretRef, configMapRef } = reference;
  if (secretRef !== undefined) {
    const shown = `Secret "${namespace}/${secretRef.name}"`;
    const object = await readObject(access, secrets, { namespace, name: secretRef.name, shown }, signal);
    if (object === undefined) throw new IdentityError("TargetMissing", `${shown} does not exist`);
    const key = secretKey(secretRef.key);
    const where = `${shown} key "${key}"`;
    const encoded = asText(at(object, "data", key));
    if (encoded === undefined) throw new IdentityError("TargetMissing", `${where} is missing or empty`);
    if (encoded.length > (mostKubeConfigBytes * 4) / 3 + 4)
      throw new IdentityError(
        "TargetInvalid",
        `spec.kubeConfig: ${where}: is larger than 1 MiB: keep the context that is used and remove the others`,
      );
    const text = Buffer.from(encoded, "base64").toString("utf8");
    return { where, version: versionOf(object), content: { kind: "kubeconfig", text } };
  }
  const name = configMapRef?.name ?? "";
  const where = `ConfigMap "${namespace}/${name}"`;
  const object = await readObject(access, configMaps, { namespace, name, shown: where }, signal);
  if (object === undefined)
    throw new IdentityError("TargetInvalid", `spec.kubeConfig: ${where}: does not exist: create it`);
  const entries = Object.entries(asObject(object["data"]) ?? {}).flatMap(([key, value]) =>
    typeof value === "string" ? [[key, value] as const] : [],
  );
  return { where, version: versionOf(object), content: { kind: "cloud", entries: Object.fromEntries(entries) } };
}

async function readObject(
  access: Access,
  resource: ApiResource,
  of: { readonly namespace: string; readonly name: string; readonly shown: string },
  signal: AbortSignal,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  try {
    return asObject(await access.client.send(getRequest(resource, of), { signal }));
  } catch (error) {
    if (isKubeError(error, "NotFound")) return undefined;
    throw error;
  }
}

function versionOf(object: unknown): string {
  return [at(object, "metadata", "uid"), at(object, "metadata", "resourceVersion")]
    .map((part) => asText(part) ?? "")
    .join("@");
}
