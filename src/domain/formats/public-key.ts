/** Algorithms a signature is verified with, by the DER of their object identifiers (RFC 3279, 5480, 8410). */
const algorithms = [
  "06072a8648ce3d0201", // id-ecPublicKey
  "06092a864886f70d010101", // rsaEncryption
  "06032b6570", // id-Ed25519
];
const block = /^\s*-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*$/;

/** Whether the text is one PEM block with a SubjectPublicKeyInfo (PKIX) of an ECDSA, RSA or Ed25519 key. */
export function isPublicKeyPem(text: string): boolean {
  const base64 = block.exec(text)?.[1]?.replace(/\s/g, "");
  if (base64 === undefined || base64.length % 4 !== 0) return false;
  const der = bytesOf(base64);
  const outer = der && element(der, 0x30);
  const algorithm = outer && element(outer.content, 0x30);
  const key = algorithm && element(algorithm.rest, 0x03);
  if (outer === undefined || algorithm === undefined || key === undefined) return false;
  if (outer.rest.length > 0 || key.rest.length > 0) return false;
  // The first byte counts the bits of the last one that are not used; keys are whole bytes.
  if (key.content.length < 2 || key.content[0] !== 0) return false;
  const identifier = algorithm.content.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return algorithms.some((known) => identifier.startsWith(known));
}

function bytesOf(base64: string): readonly number[] | undefined {
  try {
    return Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}

/** The first element of a DER text, which must have the tag. */
function element(
  der: readonly number[],
  tag: number,
): { readonly content: readonly number[]; readonly rest: readonly number[] } | undefined {
  const first = der[1];
  if (der[0] !== tag || first === undefined) return undefined;
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
  if (lengthBytes > 3) return undefined;
  const start = 2 + lengthBytes;
  const length = lengthBytes === 0 ? first : der.slice(2, start).reduce((sum, byte) => sum * 256 + byte, 0);
  if (der.length < start + length) return undefined;
  return { content: der.slice(start, start + length), rest: der.slice(start + length) };
}
