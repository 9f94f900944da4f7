import { createPrivateKey, X509Certificate } from "node:crypto";

/** Common name of every authority this program makes; many of them share it (spec 50 §7.1). */
export const authorityName = "stageset-controller-webhook-ca";

/** Certificate, key and, where it is ours, the authority that signed it; PEM. */
export interface PairMaterial {
  readonly certPem: string;
  readonly keyPem: string;
  readonly caPem: string;
}

/** A pair that can be served. */
export interface ServingPair {
  readonly certPem: string;
  readonly keyPem: string;
  /** Tells pairs apart. */
  readonly fingerprint: string;
  /** Epoch milliseconds. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** A pair of which the authority is known, too. */
export interface OwnPair extends ServingPair {
  readonly caPem: string;
  readonly caFingerprint: string;
}

export type ReadPair<Pair> =
  | { readonly kind: "usable"; readonly pair: Pair }
  /** Never with anything of the key in it. */
  | { readonly kind: "unusable"; readonly problem: string };

/** Reads certificate and key as files hold them; refused when they do not belong together or the time is over. */
export function readServingPair(
  { certPem, keyPem }: { readonly certPem: string; readonly keyPem: string },
  now: number,
): ReadPair<ServingPair> {
  const certificate = readCertificate(certPem);
  if (certificate === undefined) return unusable("the certificate cannot be read");
  if (!hasKey(certificate, keyPem)) return unusable("the key cannot be read or is not the certificate's");
  const notAfter = certificate.validToDate.getTime();
  if (notAfter <= now) return unusable(`the certificate expired at ${certificate.validToDate.toISOString()}`);
  const notBefore = certificate.validFromDate.getTime();
  return { kind: "usable", pair: { certPem, keyPem, fingerprint: certificate.fingerprint256, notBefore, notAfter } };
}

/** {@link readServingPair}, and the authority must have signed the certificate, which must be for every one of `names`. */
export function readOwnPair(
  material: PairMaterial,
  { names, now }: { readonly names: readonly string[]; readonly now: number },
): ReadPair<OwnPair> {
  const read = readServingPair(material, now);
  if (read.kind === "unusable") return read;
  const authority = readCertificate(material.caPem);
  if (authority?.ca !== true) return unusable("the authority cannot be read");
  if (authority.validToDate.getTime() <= now) return unusable("the authority expired");
  const certificate = new X509Certificate(material.certPem);
  if (!certificate.checkIssued(authority) || !certificate.verify(authority.publicKey))
    return unusable("the certificate is not signed by the authority");
  const missing = names.find((name) => certificate.checkHost(name, { subject: "never" }) === undefined);
  if (missing !== undefined) return unusable(`the certificate is not for "${missing}"`);
  const { caPem } = material;
  return { kind: "usable", pair: { ...read.pair, caPem, caFingerprint: authority.fingerprint256 } };
}

/** The first certificate of the text; undefined when it holds none. */
export function readCertificate(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

function hasKey(certificate: X509Certificate, keyPem: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(keyPem));
  } catch {
    return false;
  }
}

function unusable(problem: string): { readonly kind: "unusable"; readonly problem: string } {
  return { kind: "unusable", problem };
}
