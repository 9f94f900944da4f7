import { createHash, generateKeyPair, type KeyObject, randomBytes, sign } from "node:crypto";
import { promisify } from "node:util";
import { AsnConvert, OctetString } from "@peculiar/asn1-schema";
import * as x509 from "@peculiar/asn1-x509";
import { authorityName, type PairMaterial } from "./pair.ts";

/** The machine of whoever checks may be late. */
const backdatedMs = 60_000;
const ecdsaWithSha256 = "1.2.840.10045.4.3.2";
const commonName = "2.5.4.3";

export interface IssueOptions {
  /** DNS names; the first is also the common name. */
  readonly names: readonly [string, ...string[]];
  /** Of authority and certificate. */
  readonly validityMs: number;
  /** Epoch milliseconds. */
  readonly now: number;
}

/** Makes an authority, has it sign one server certificate (ECDSA P-256), and forgets the authority's key. */
export async function issuePair({ names, validityMs, now }: IssueOptions): Promise<PairMaterial> {
  const [authority, server] = await Promise.all([createKey(), createKey()]);
  const validity = new x509.Validity({
    notBefore: wholeSeconds(now - backdatedMs),
    notAfter: wholeSeconds(now + validityMs),
  });
  const authorityKeyId = keyId(authority.publicKey);
  const extension = (extnID: string, value: unknown, critical = false): x509.Extension =>
    new x509.Extension({ extnID, critical, extnValue: new OctetString(AsnConvert.serialize(value)) });
  const nameOf = (text: string): x509.Name =>
    new x509.Name([
      new x509.RelativeDistinguishedName([
        new x509.AttributeTypeAndValue({ type: commonName, value: new x509.AttributeValue({ utf8String: text }) }),
      ]),
    ]);
  const certify = (
    subject: string,
    { key, extensions }: { readonly key: KeyObject; readonly extensions: readonly x509.Extension[] },
  ): string => {
    const algorithm = new x509.AlgorithmIdentifier({ algorithm: ecdsaWithSha256 });
    const tbsCertificate = new x509.TBSCertificate({
      version: x509.Version.v3,
      serialNumber: toArrayBuffer(serialNumber()),
      signature: algorithm,
      issuer: nameOf(authorityName),
      validity,
      subject: nameOf(subject),
      subjectPublicKeyInfo: AsnConvert.parse(spkiOf(key), x509.SubjectPublicKeyInfo),
      extensions: new x509.Extensions([
        ...extensions,
        extension(x509.id_ce_subjectKeyIdentifier, new x509.SubjectKeyIdentifier(toArrayBuffer(keyId(key)))),
        extension(
          x509.id_ce_authorityKeyIdentifier,
          new x509.AuthorityKeyIdentifier({ keyIdentifier: new x509.KeyIdentifier(toArrayBuffer(authorityKeyId)) }),
        ),
      ]),
    });
    const signed = Buffer.from(AsnConvert.serialize(tbsCertificate));
    const signatureValue = toArrayBuffer(sign("sha256", signed, authority.privateKey));
    const certificate = new x509.Certificate({ tbsCertificate, signatureAlgorithm: algorithm, signatureValue });
    return renderPem(Buffer.from(AsnConvert.serialize(certificate)));
  };
  const usage = (flags: x509.KeyUsageFlags): x509.Extension =>
    extension(x509.id_ce_keyUsage, new x509.KeyUsage(flags), true);
  const caPem = certify(authorityName, {
    key: authority.publicKey,
    extensions: [
      extension(x509.id_ce_basicConstraints, new x509.BasicConstraints({ cA: true, pathLenConstraint: 0 }), true),
      usage(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign),
    ],
  });
  const certPem = certify(names[0], {
    key: server.publicKey,
    extensions: [
      extension(x509.id_ce_basicConstraints, new x509.BasicConstraints({ cA: false }), true),
      usage(x509.KeyUsageFlags.digitalSignature),
      extension(x509.id_ce_extKeyUsage, new x509.ExtendedKeyUsage([x509.id_kp_serverAuth])),
      extension(
        x509.id_ce_subjectAltName,
        new x509.SubjectAlternativeName(names.map((dNSName) => new x509.GeneralName({ dNSName }))),
      ),
    ],
  });
  return { certPem, keyPem: server.privateKey.export({ type: "pkcs8", format: "pem" }).toString(), caPem };
}

function createKey(): Promise<{ readonly publicKey: KeyObject; readonly privateKey: KeyObject }> {
  return promisify(generateKeyPair)("ec", { namedCurve: "P-256" });
}

function spkiOf(key: KeyObject): Buffer {
  return key.export({ type: "spki", format: "der" });
}

/** SHA-1 of the whole key structure: authorities of one name are told apart by it (RFC 5280 §4.2.1.2). */
function keyId(key: KeyObject): Buffer {
  return createHash("sha1").update(spkiOf(key)).digest();
}

/** 128 random bits, positive and as short as can be: a zero byte leads only where the sign bit is set (X.690 §8.3). */
function serialNumber(): Buffer {
  const bytes = randomBytes(16);
  const first = bytes[0] ?? 0;
  if (first === 0) return serialNumber();
  return first < 0x80 ? bytes : Buffer.concat([Buffer.from([0]), bytes]);
}

/** Certificates know no milliseconds. */
function wholeSeconds(epochMs: number): Date {
  return new Date(Math.floor(epochMs / 1_000) * 1_000);
}

function toArrayBuffer(bytes: Buffer): ArrayBuffer {
  return Uint8Array.from(bytes).buffer;
}

function renderPem(der: Buffer): string {
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}
