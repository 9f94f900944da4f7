import type { Decryptor } from "./decryptor.ts";
import type { Manifest } from "./manifest.ts";
import { formatByMarkers, formatOf } from "./sops/sops-format.ts";
import { emptyMapping, mappingAt, withMembers } from "./yaml-value.ts";

/**
 * A Secret whose `data` holds encrypted documents, such as one that was generated from an encrypted file, with them in the
 * clear (spec 50 §3.1.4). Other manifests stay as they are.
 *
 * @throws {DecryptionError}
 */
export async function decryptSecret(manifest: Manifest, decryptor: Decryptor): Promise<Manifest> {
  const { group, kind, name, value } = manifest;
  const data = group === "" && kind === "Secret" ? mappingAt(value, "data") : undefined;
  if (data === undefined) return manifest;
  const plain = emptyMapping();
  for (const [key, written] of Object.entries(data)) {
    if (typeof written !== "string") continue;
    const bytes = Buffer.from(written, "base64");
    if (!bytes.includes("sops")) continue;
    const formats = { input: formatByMarkers(bytes), output: formatOf(key) };
    const found = await decryptor.decrypt(`entry "${key}" of Secret "${name}"`, bytes, formats);
    if (found !== undefined) plain[key] = Buffer.from(found).toString("base64");
  }
  if (Object.keys(plain).length === 0) return manifest;
  return { ...manifest, value: withMembers(value, { data: withMembers(data, plain) }) };
}
