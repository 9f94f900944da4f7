import { RE2JS } from "re2js";
import { asArray, asObject, asText } from "../../lib/json.ts";
import { malformed, SopsProblem } from "./sops-problem.ts";

/** One way to the data key, or to a group's share of it. */
export type MasterKey =
  { readonly kind: "age" | "pgp"; readonly recipient: string; readonly encrypted: string } | CloudKey;

/** A key that is with a service: what it needs to be asked, as the file says it. */
export type CloudKey =
  | {
      readonly kind: "aws";
      readonly arn: string;
      readonly role: string;
      readonly context: Readonly<Record<string, string>>;
      readonly encrypted: string;
    }
  | { readonly kind: "gcp"; readonly resource: string; readonly encrypted: string }
  | {
      readonly kind: "azure";
      readonly vaultUrl: string;
      readonly name: string;
      readonly version: string;
      readonly encrypted: string;
    }
  | {
      readonly kind: "vault";
      readonly address: string;
      readonly enginePath: string;
      readonly keyName: string;
      readonly encrypted: string;
    };

export interface SopsMetadata {
  /** RFC 3339, without fractions: what the MAC is bound to. */
  readonly lastModified: string;
  readonly mac: string;
  readonly macOnlyEncrypted: boolean;
  readonly rules: SopsRules;
  readonly groups: readonly (readonly MasterKey[])[];
  /** So many groups are needed. */
  readonly threshold: number;
}

/** Which values are encrypted. Regular expressions are searched for, not anchored. */
export interface SopsRules {
  readonly unencryptedSuffix: string;
  readonly encryptedSuffix: string;
  readonly unencryptedRegex: RE2JS | undefined;
  readonly encryptedRegex: RE2JS | undefined;
  readonly unencryptedCommentRegex: RE2JS | undefined;
  readonly encryptedCommentRegex: RE2JS | undefined;
}

/** Spec 50 §3.1. */
const mostGroups = 8;
const mostMasterKeys = 64;
const longestRegex = 4_096;

const keyLists = ["age", "pgp", "kms", "gcp_kms", "azure_kv", "hc_vault", "hckms", "key_groups"];

/**
 * Whether this is metadata of SOPS: it has a MAC and a time. One of the two, beside master keys, is an encrypted document
 * that somebody tore, which must not pass for a plain one.
 */
export function isSopsMetadata(value: unknown): boolean {
  const member = asObject(value);
  if (member === undefined) return false;
  const [mac, time] = ["mac", "lastmodified"].map((key) => member[key] !== undefined);
  if (mac === true && time === true) return true;
  return (mac === true || time === true) && keyLists.some((key) => Array.isArray(member[key]));
}

/** @throws {SopsProblem} `malformed`; `MAC mismatch`, when there is no MAC */
export function parseMetadata(value: unknown): SopsMetadata {
  const member = asObject(value) ?? {};
  const mac = asText(member["mac"]) ?? "";
  if (mac === "") throw new SopsProblem("MAC mismatch", "the document has no MAC");
  const time = asText(member["lastmodified"]) ?? "";
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[-+]\d\d:\d\d)$/.test(time))
    throw malformed("sops.lastmodified is no time");
  const lists = asArray(member["key_groups"]);
  const groups = (lists.length > 0 ? lists.map((each) => asObject(each) ?? {}) : [member]).map(masterKeys);
  if (groups.length > mostGroups) throw malformed(`there are ${groups.length} key groups, at most ${mostGroups}`);
  const keys = groups.reduce((sum, group) => sum + group.length, 0);
  if (keys > mostMasterKeys) throw malformed(`there are ${keys} master keys, at most ${mostMasterKeys}`);
  return {
    lastModified: time.replace(/\.\d+/, ""),
    mac,
    macOnlyEncrypted: isTrue(member["mac_only_encrypted"]),
    rules: {
      unencryptedSuffix: textOf(member, "unencrypted_suffix"),
      encryptedSuffix: textOf(member, "encrypted_suffix"),
      unencryptedRegex: regexOf(member, "unencrypted_regex"),
      encryptedRegex: regexOf(member, "encrypted_regex"),
      unencryptedCommentRegex: regexOf(member, "unencrypted_comment_regex"),
      encryptedCommentRegex: regexOf(member, "encrypted_comment_regex"),
    },
    groups,
    threshold: thresholdOf(member["shamir_threshold"], groups.length),
  };
}

/** None written: all groups. */
function thresholdOf(value: unknown, groups: number): number {
  if (groups === 1) return 1;
  const threshold = Number(value ?? 0);
  if (!Number.isInteger(threshold) || threshold < 0 || threshold > groups)
    throw malformed("sops.shamir_threshold is no number of groups");
  return threshold === 0 ? groups : Math.max(2, threshold);
}

/** In the order in which they are tried: age, PGP, then the rest (spec 50 §3.2). */
function masterKeys(member: Readonly<Record<string, unknown>>): readonly MasterKey[] {
  const listed = (name: string) => asArray(member[name]).map((each) => asObject(each) ?? {});
  const text = textOf;
  return [
    ...listed("age").map((key) => ({
      kind: "age" as const,
      recipient: text(key, "recipient"),
      encrypted: text(key, "enc"),
    })),
    ...listed("pgp").map((key) => ({ kind: "pgp" as const, recipient: text(key, "fp"), encrypted: text(key, "enc") })),
    ...listed("kms").map((key) => ({
      kind: "aws" as const,
      arn: text(key, "arn"),
      role: text(key, "role"),
      context: contextOf(key["context"]),
      encrypted: text(key, "enc"),
    })),
    ...listed("gcp_kms").map((key) => ({
      kind: "gcp" as const,
      resource: text(key, "resource_id"),
      encrypted: text(key, "enc"),
    })),
    ...listed("azure_kv").map((key) => ({
      kind: "azure" as const,
      vaultUrl: text(key, "vault_url"),
      name: text(key, "name"),
      version: text(key, "version"),
      encrypted: text(key, "enc"),
    })),
    ...listed("hc_vault").map((key) => ({
      kind: "vault" as const,
      address: text(key, "vault_address"),
      enginePath: text(key, "engine_path"),
      keyName: text(key, "key_name"),
      encrypted: text(key, "enc"),
    })),
  ];
}

function contextOf(value: unknown): Readonly<Record<string, string>> {
  const context: Record<string, string> = { __proto__: null } as unknown as Record<string, string>;
  for (const [name, each] of Object.entries(asObject(value) ?? {})) if (typeof each === "string") context[name] = each;
  return context;
}

function textOf(member: Readonly<Record<string, unknown>>, name: string): string {
  return asText(member[name]) ?? "";
}

function isTrue(value: unknown): boolean {
  return value === true || value === "true" || value === "True" || value === "1";
}

function regexOf(member: Readonly<Record<string, unknown>>, name: string): RE2JS | undefined {
  const text = textOf(member, name);
  if (text === "") return undefined;
  if (text.length > longestRegex) throw malformed(`sops.${name} is longer than ${longestRegex} characters`);
  try {
    return RE2JS.compile(text);
  } catch {
    throw malformed(`sops.${name} is no regular expression`);
  }
}
