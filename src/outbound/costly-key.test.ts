import { createPublicKey, generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import { isCostly } from "./costly-key.ts";

/** `n` of this many bits. */
const publicKey = (bits: number) => {
  const n = Buffer.alloc(bits / 8, 0xff).toString("base64url");
  return createPublicKey({ key: { kty: "RSA", n, e: "AQAB" }, format: "jwk" });
};

test("keys of more than 8,192 bits are costly, those of a certificate too", () => {
  expect([2_048, 8_192, 8_200, 16_384].map((bits) => isCostly(publicKey(bits)))).toEqual([false, false, true, true]);
});

test("keys as they are in use are not", () => {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
  const keys = [privateKey, generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey];
  expect([...keys, generateKeyPairSync("ed25519").privateKey].map(isCostly)).toEqual([false, false, false]);
});
