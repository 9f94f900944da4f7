import { malformed } from "./sops-problem.ts";

/**
 * The secret from its shares: Lagrange interpolation at 0 over GF(2^8) with the polynomial of AES, byte by byte. A share is
 * the values of the polynomials, and at its end where they were taken.
 *
 * @throws {SopsProblem} `malformed`, for shares that do not belong together
 */
export function combineShares(shares: readonly Uint8Array[]): Uint8Array {
  const size = (shares[0]?.byteLength ?? 0) - 1;
  const places = shares.map((share) => share[size] ?? 0);
  const fits = size > 0 && shares.every((share) => share.byteLength === size + 1);
  if (!fits || places.includes(0) || new Set(places).size !== places.length)
    throw malformed("the shares of its key groups do not fit together");
  // The same for each byte of the secret.
  const weights = places.map((place, index) =>
    places.reduce((weight, other, at) => (at === index ? weight : multiply(weight, divide(other, other ^ place))), 1),
  );
  const secret = new Uint8Array(size);
  for (let byte = 0; byte < size; byte++)
    for (const [index, share] of shares.entries())
      secret[byte] = (secret[byte] ?? 0) ^ multiply(share[byte] ?? 0, weights[index] ?? 0);
  return secret;
}

function multiply(one: number, other: number): number {
  let [product, factor] = [0, one];
  for (let bits = other; bits > 0; bits >>= 1) {
    if ((bits & 1) === 1) product ^= factor;
    factor = (factor << 1) ^ ((factor & 0x80) === 0 ? 0 : 0x11b);
  }
  return product;
}

/** In a field of 256 elements the inverse is the 254th power. */
function divide(one: number, by: number): number {
  let inverse = 1;
  for (let power = 0; power < 254; power++) inverse = multiply(inverse, by);
  return multiply(one, inverse);
}
