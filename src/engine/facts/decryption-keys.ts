import { createHash } from "node:crypto";
import type { StageSetSpec } from "../../api/stage-set.ts";
import { KeyProblem, type KeyText } from "../../build/sops/key-text.ts";
import { ageIdentities, type PrivateKeyTexts } from "../../build/sops/private-keys.ts";
import type { Access } from "../../identity/access.ts";
import { IdentityError, isDenied } from "../../identity/identity-error.ts";
import { KubeError } from "../../kube/error.ts";
import { getRequest } from "../../kube/request.ts";
import { asObject } from "../../lib/json.ts";
import { secrets } from "../../kube/core-resources.ts";

/** What a stage is decrypted with; lives as long as its render. */
export interface DecryptionKeys {
  readonly texts: PrivateKeyTexts;
  /** By entry: static credentials of services. */
  readonly credentials: ReadonlyMap<string, string>;
  /** Of all that was read, for the key of the render cache; never leaves this process. */
  readonly digest: string;
}

export type ReadKeys =
  | { readonly kind: "keys"; readonly keys: DecryptionKeys }
  | { readonly kind: "missing" | "denied" | "unreadable" | "unusable"; readonly cause: string };

/** Entries of static credentials (spec 50 §3.2). */
const credentialEntries = ["sops.vault-token", "sops.aws-kms", "sops.azure-kv", "sops.gcp-kms"];
/** Of one credential, bytes: they are read on the way of every pass. */
const mostCredentialBytes = 16 * 1024;

/** Reads the Secret of `spec.decryption`, live. Without one there are no keys, and services may still have some. */
export async function readDecryptionKeys(
  decryption: NonNullable<StageSetSpec["decryption"]>,
  context: { readonly namespace: string; readonly access: () => Promise<Access>; readonly signal: AbortSignal },
): Promise<ReadKeys> {
  const { secretRef } = decryption;
  if (secretRef === undefined) return { kind: "keys", keys: keysOf([]) };
  const described = `Secret "${context.namespace}/${secretRef.name}"`;
  try {
    const { client } = await context.access();
    const request = getRequest(secrets, { namespace: context.namespace, name: secretRef.name });
    const data = asObject(asObject(await client.send(request, { signal: context.signal }))?.["data"]) ?? {};
    return { kind: "keys", keys: keysOf(Object.entries(data)) };
  } catch (error) {
    if (error instanceof KeyProblem) return { kind: "unusable", cause: unusableKey(described, error) };
    if (!(error instanceof KubeError) && !(error instanceof IdentityError)) throw error;
    if (error instanceof KubeError && error.reason === "NotFound")
      return { kind: "missing", cause: `${described} does not exist` };
    return {
      kind: isDenied(error) ? "denied" : "unreadable",
      cause: `Cannot read ${described}: ${error.message}`,
    };
  }
}

export function unusableKey(described: string, { entry, why }: KeyProblem): string {
  return `decryption failed: entry "${entry}" of ${described} ${why}`;
}

function keysOf(entries: readonly (readonly [string, unknown])[]): DecryptionKeys {
  const age: KeyText[] = [];
  const pgp: KeyText[] = [];
  const credentials = new Map<string, string>();
  const hash = createHash("sha256");
  for (const [entry, written] of [...entries].sort(([one], [other]) => (one < other ? -1 : 1))) {
    if (typeof written !== "string") continue;
    const text = Buffer.from(written, "base64").toString("utf8");
    if (text.trim() === "") continue;
    if (entry.endsWith(".agekey")) age.push(...ageIdentities({ entry, text }));
    else if (entry.endsWith(".asc")) pgp.push({ entry, text });
    else if (credentialEntries.includes(entry)) {
      if (Buffer.byteLength(text) > mostCredentialBytes) throw new KeyProblem(entry, "is larger than 16 KiB");
      credentials.set(entry, text.trim());
    } else continue;
    hash.update(`${entry.length}:${entry}${text.length}:${text}`);
  }
  return { texts: { age, pgp }, credentials, digest: hash.digest("hex") };
}
