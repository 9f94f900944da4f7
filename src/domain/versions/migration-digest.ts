import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { Migration } from "../../api/stage-set.ts";
import { canonicalJson } from "../../lib/canonical-json.ts";
import type { Json } from "../../lib/json.ts";

const digits = 12;

/**
 * Tells whether a migration is still the one whose steps were recorded (spec 10 §5.4): twelve hex digits of the SHA-256
 * of its canonical JSON without what is absent, null, empty text or an empty list. All else counts as it is spelled, so
 * `60m` is not `1h` and `retries: 0` is not none. Vectors: docs/reference/migration-digests.md.
 */
export function migrationDigest(migration: Migration): string {
  return bytesToHex(sha256(utf8ToBytes(digestInput(migration)))).slice(0, digits);
}

/** The text the digest is made of. */
export function digestInput(value: Json): string {
  return canonicalJson(withoutEmpty(value));
}

/** Only members are left out: an item of a list is part of it, whatever it is. */
function withoutEmpty(value: Json): Json {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(withoutEmpty);
  const members: [string, Json][] = [];
  for (const [key, member] of Object.entries(value))
    if (member !== undefined && !isEmpty(member)) members.push([key, withoutEmpty(member)]);
  return Object.fromEntries(members);
}

function isEmpty(value: Json): boolean {
  return value === null || value === "" || (Array.isArray(value) && value.length === 0);
}
