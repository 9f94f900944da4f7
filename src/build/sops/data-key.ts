import { createHash } from "node:crypto";
import type { CloudKey, MasterKey, SopsMetadata } from "./sops-metadata.ts";
import type { PrivateKeys } from "./private-keys.ts";
import { combineShares } from "./shamir.ts";
import { malformed, SopsProblem } from "./sops-problem.ts";

/** Shares, or whole data keys, that services opened: by {@link shareName}. */
export type OpenedShares = ReadonlyMap<string, Uint8Array>;

/** What only services can open of a document. */
export interface WantedShares {
  /** So many more of the groups are needed. */
  readonly missing: number;
  readonly groups: readonly WantedGroup[];
}

export interface WantedGroup {
  readonly name: string;
  /** Any of them will do. */
  readonly keys: readonly CloudKey[];
}

export type DataKey =
  { readonly kind: "key"; readonly key: Uint8Array } | { readonly kind: "wanted"; readonly wanted: WantedShares };

/**
 * The key of a document: from its master keys, age and PGP first; from as many groups as its threshold says.
 *
 * @throws {SopsProblem} `no usable key`, `malformed`
 */
export async function recoverDataKey(
  { groups, threshold }: SopsMetadata,
  { keys, opened }: { readonly keys: PrivateKeys; readonly opened: OpenedShares },
): Promise<DataKey> {
  const shares: Uint8Array[] = [];
  const wanted: WantedGroup[] = [];
  for (const group of groups) {
    if (shares.length === threshold) break;
    const name = shareName(group);
    const share = opened.get(name) ?? (await openGroup(group, keys));
    if (share !== undefined) shares.push(share);
    else if (group.some(isCloudKey)) wanted.push({ name, keys: group.filter(isCloudKey) });
  }
  const missing = threshold - shares.length;
  if (missing === 0) {
    const [only] = shares;
    if (groups.length > 1) return { kind: "key", key: combineShares(shares) };
    if (only === undefined) throw malformed("it has no key group");
    return { kind: "key", key: only };
  }
  if (wanted.length >= missing) return { kind: "wanted", wanted: { missing, groups: wanted } };
  throw new SopsProblem("no usable key", `none of the keys fits: it is for ${describeGroups(groups)}`);
}

async function openGroup(group: readonly MasterKey[], keys: PrivateKeys): Promise<Uint8Array | undefined> {
  for (const key of group) {
    if (isCloudKey(key)) continue;
    const share = await keys.open(key);
    if (share !== undefined) return share;
  }
  return undefined;
}

function isCloudKey(key: MasterKey): key is CloudKey {
  return key.kind !== "age" && key.kind !== "pgp";
}

/** Equal groups, in whatever document, have equal names. */
function shareName(group: readonly MasterKey[]): string {
  return createHash("sha256").update(JSON.stringify(group)).digest("hex");
}

/** For the log. */
function describeGroups(groups: readonly (readonly MasterKey[])[]): string {
  const shown = groups.flat().slice(0, 10).map(describeMasterKey);
  return shown.length === 0 ? "no key at all" : shown.join(", ");
}

export function describeMasterKey(key: MasterKey): string {
  switch (key.kind) {
    case "age":
    case "pgp":
      return `${key.kind} ${key.recipient.slice(0, 100)}`;
    case "aws":
      return `AWS KMS ${key.arn}`;
    case "gcp":
      return `GCP KMS ${key.resource}`;
    case "azure":
      return `Azure Key Vault ${key.vaultUrl}/keys/${key.name}`;
    case "vault":
      return `Vault ${key.address} ${key.enginePath}/${key.keyName}`;
  }
}
