import { createPublicKey, verify, type KeyObject } from "node:crypto";
import { bundleFromJSON, type Bundle } from "@sigstore/bundle";
import { TrustedRoot } from "@sigstore/protobuf-specs";
import { toSignedEntity, toTrustMaterial, Verifier, type TrustMaterial } from "@sigstore/verify";
import { RE2JS } from "re2js";
import type { Authority } from "../api/image-verification-policy.ts";
import type { JobResult } from "../compute/job.ts";
import type { BundleToCheck, CheckedBundle } from "./bundle-to-check.ts";
import { asArray, asText, at } from "../lib/json.ts";

/** Of one bundle: more would only cost time, and nobody makes such. */
const mostLogEntries = 16;
const mostTimestamps = 16;
const mostSignatures = 8;
const inTotoType = "application/vnd.in-toto+json";

/** In a worker: nothing of what it reads is trusted, and what it throws would be a bug. */
export function bundleJob(input: unknown): JobResult {
  // What the verifier posted, cloned.
  return { output: checkBundle(input as BundleToCheck) };
}

export function checkBundle({ bundle: bytes, digest, policies, trustedRoot }: BundleToCheck): CheckedBundle {
  const none = policies.map(() => false);
  const bundle = readBundle(bytes);
  if (bundle === undefined) return { accepted: none, why: "its bundle cannot be read" };
  if (!isAbout(bundle, digest)) return { accepted: none, why: "its bundle is about something else" };
  const trust = trustedRoot === undefined ? undefined : trustOf(trustedRoot);
  const signer = trust === undefined ? undefined : keylessSigner(bundle, trust);
  const problems = policies.map((authorities) => {
    const verdicts = authorities.map((authority) => problemOf(authority, bundle, signer));
    return verdicts.length > 0 && verdicts.includes(undefined) ? undefined : (verdicts.at(-1) ?? "the policy is empty");
  });
  return { accepted: problems.map((problem) => problem === undefined), why: problems.findLast((each) => each) };
}

interface Trust {
  readonly material: TrustMaterial;
  /** The root lists logs of certificates, so that a certificate has to be in one. */
  readonly certificateLogs: boolean;
}

/** Undefined: it is no trusted root. */
export function trustOf(json: string): Trust | undefined {
  try {
    const root = TrustedRoot.fromJSON(JSON.parse(json));
    if (root.certificateAuthorities.length === 0) return undefined;
    return { material: toTrustMaterial(root), certificateLogs: root.ctlogs.length > 0 };
  } catch {
    return undefined;
  }
}

function readBundle(bytes: Uint8Array): Bundle | undefined {
  try {
    const bundle = bundleFromJSON(JSON.parse(Buffer.from(bytes).toString("utf8")));
    const { tlogEntries, timestampVerificationData } = bundle.verificationMaterial;
    const timestamps = timestampVerificationData?.rfc3161Timestamps ?? [];
    return tlogEntries.length > mostLogEntries || timestamps.length > mostTimestamps ? undefined : bundle;
  } catch {
    return undefined;
  }
}

/** A statement of in-toto whose subject has the digest; what it states beyond that is not looked at (spec 50 §4.3). */
function isAbout({ content }: Bundle, digest: string): boolean {
  if (content.$case !== "dsseEnvelope" || content.dsseEnvelope.payloadType !== inTotoType) return false;
  try {
    const statement: unknown = JSON.parse(content.dsseEnvelope.payload.toString("utf8"));
    return asArray(at(statement, "subject")).some((each) => asText(at(each, "digest", "sha256")) === digest.slice(7));
  } catch {
    return false;
  }
}

/** Undefined: the authority accepts the bundle. Else why not. */
function problemOf({ key, keyless }: Authority, bundle: Bundle, signer: Signer | undefined): string | undefined {
  // Both or neither were refused at admission; what got past it accepts nothing.
  if ((key === undefined) === (keyless === undefined)) return "the policy names no signer";
  if (key !== undefined) return isSignedBy(bundle, key.publicKey) ? undefined : "it is not signed with the key";
  if (signer === undefined) return "there is no trusted root";
  if (signer.kind === "untrusted") return signer.why;
  const fits =
    matches(signer.issuer, keyless?.issuer, keyless?.issuerRegExp) &&
    matches(signer.subject, keyless?.subject, keyless?.subjectRegExp);
  return fits ? undefined : `it is signed by ${shown(signer.subject)} of ${shown(signer.issuer)}`;
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}

/** Exactly one of the two is set, or nothing matches. */
function matches(value: string, exact = "", expression = ""): boolean {
  if (value === "" || (exact === "") === (expression === "")) return false;
  if (exact !== "") return value === exact;
  try {
    return RE2JS.compile(expression).matcher(value).find();
  } catch {
    return false;
  }
}

type Signer =
  | { readonly kind: "signer"; readonly issuer: string; readonly subject: string }
  | { readonly kind: "untrusted"; readonly why: string };

/**
 * Who signed with a certificate of the trusted root: chain, inclusion in a log, observed time, and, where the root lists
 * logs of certificates, inclusion in one.
 */
function keylessSigner(bundle: Bundle, { material, certificateLogs }: Trust): Signer {
  if (bundle.verificationMaterial.content.$case === "publicKey")
    return { kind: "untrusted", why: "it is signed with a key, not a certificate" };
  try {
    const verifier = new Verifier(material, {
      tlogThreshold: 1,
      timestampThreshold: 1,
      ctlogThreshold: certificateLogs ? 1 : 0,
    });
    const { identity } = verifier.verify(toSignedEntity(bundle));
    return {
      kind: "signer",
      issuer: identity?.extensions?.issuer ?? "",
      subject: identity?.subjectAlternativeName ?? "",
    };
  } catch (error) {
    const code = error instanceof Error && "code" in error && typeof error.code === "string" ? ` (${error.code})` : "";
    return { kind: "untrusted", why: `its signature does not lead to the trusted root${code}` };
  }
}

/** The signature alone, made with the key at whatever time; nothing else of the bundle counts. */
function isSignedBy({ content }: Bundle, publicKey: string): boolean {
  if (content.$case !== "dsseEnvelope") return false;
  const { payload, payloadType, signatures } = content.dsseEnvelope;
  const signed = preAuthEncoding(payloadType, payload);
  try {
    const key = createPublicKey(publicKey);
    return signatures
      .slice(0, mostSignatures)
      .some(({ sig }) => hashesOf(key).some((hash) => verify(hash, signed, key, sig)));
  } catch {
    return false;
  }
}

/** Hashes that signers use with a key of this kind; none for Ed25519, which has its own. */
function hashesOf({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): readonly (string | null)[] {
  if (asymmetricKeyType === "ed25519") return [null];
  if (asymmetricKeyType === "rsa") return ["sha256"];
  if (asymmetricKeyType !== "ec") return [];
  const larger = new Map([
    ["secp384r1", "sha384"],
    ["secp521r1", "sha512"],
  ]).get(asymmetricKeyDetails?.namedCurve ?? "");
  return larger === undefined ? ["sha256"] : [larger, "sha256"];
}

/** DSSE's encoding of what is signed (github.com/secure-systems-lab/dsse). */
function preAuthEncoding(type: string, payload: Uint8Array): Uint8Array {
  const head = `DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.byteLength} `;
  return Buffer.concat([Buffer.from(head, "utf8"), payload]);
}
