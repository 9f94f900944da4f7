import { createHash, scrypt } from "node:crypto";
import type { Variables } from "./variables.ts";

/**
 * A digest that tells whether variables changed: hex SHA-256 of the canonical input of spec 10 §5.4, or, as soon as any
 * value is from a Secret, `s1:` and hex scrypt with this salt, so that values cannot be guessed (spec 50 §11.5). Empty
 * without variables. Values count as read, line feeds included.
 */
export async function substitutionDigest(variables: Variables, salt: string): Promise<string> {
  if (variables.values.size === 0) return "";
  const input = canonicalInput(variables.values);
  if (!variables.secret) return createHash("sha256").update(input).digest("hex");
  return `s1:${(await derive(input, salt)).toString("hex")}`;
}

function canonicalInput(values: ReadonlyMap<string, string>): Buffer {
  const entries = [...values].map(([key, value]) => [Buffer.from(key), Buffer.from(value)] as const);
  entries.sort(([one], [other]) => Buffer.compare(one, other));
  const newline = Buffer.from("\n");
  return Buffer.concat(
    entries.flatMap(([key, value]) => [
      Buffer.from(`${key.length}:`),
      key,
      Buffer.from(`=${value.length}:`),
      value,
      newline,
    ]),
  );
}

function derive(input: Buffer, salt: string): Promise<Buffer> {
  // N 2^15 and r 8 take 32 MiB, above Node's default bound.
  const cost = { N: 2 ** 15, r: 8, p: 1, maxmem: 64 * 1024 * 1024 };
  return new Promise((resolve, reject) => {
    scrypt(input, Buffer.from(salt, "utf8"), 32, cost, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}
