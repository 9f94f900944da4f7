import { randomBytes } from "node:crypto";

/** A private key of RSA whose numbers do not fit together, which is seen only when it signs; PKCS #1, PEM. */
export function costlyKey({
  modulusBytes,
  factorBytes,
}: {
  readonly modulusBytes: number;
  readonly factorBytes: number;
}): string {
  const numbers = [modulusBytes, modulusBytes, ...Array.from({ length: 5 }, () => factorBytes)].map(number);
  const [modulus = Buffer.of(), ...others] = numbers;
  const content = Buffer.concat([value(2, Buffer.of(0)), modulus, value(2, Buffer.of(1, 0, 1)), ...others]);
  const lines = value(0x30, content)
    .toString("base64")
    .match(/.{1,64}/g);
  return `-----BEGIN RSA PRIVATE KEY-----\n${(lines ?? []).join("\n")}\n-----END RSA PRIVATE KEY-----\n`;
}

function number(bytes: number): Buffer {
  const digits = randomBytes(bytes);
  digits[0] = 0x7f;
  digits[bytes - 1] = 0xff;
  return value(2, digits);
}

/** DER. */
function value(tag: number, content: Buffer): Buffer {
  const length = content.length < 128 ? [content.length] : [0x82, content.length >> 8, content.length & 0xff];
  return Buffer.concat([Buffer.of(tag, ...length), content]);
}
