import type { KeyObject } from "node:crypto";

/** Modulus of RSA and DSA, bits. Signing takes the third power of it: some 30 ms at this size, seconds at 32 768 bits. */
export const mostModulusBits = 8_192;

/**
 * Whether signing with a private key, or checking with a public one, would hold up everything else: its modulus, or any
 * number in it, is larger than those of a key of {@link mostModulusBits} bits.
 */
export function isCostly(key: KeyObject): boolean {
  if ((key.asymmetricKeyDetails?.modulusLength ?? 0) > mostModulusBits) return true;
  if (key.type !== "private" || key.asymmetricKeyType !== "rsa") return false;
  // Whoever writes a key may write a small modulus beside huge factors, which are what is computed with.
  const numbers = key.export({ format: "jwk" });
  const mostDigits = Math.ceil(mostModulusBits / 6);
  return Object.values(numbers).some((number) => typeof number === "string" && number.length > mostDigits);
}
