import { duration, format, list, object, optional, text } from "./field.ts";

const keyless = () =>
  object(
    "Signed with a short-lived certificate: one of issuer and issuerRegExp, and one of subject and subjectRegExp.",
    {
      issuer: optional(text("Issuer of the signer's identity.")),
      issuerRegExp: optional(format("regular expression", "Expression the issuer must match.")),
      subject: optional(text("Identity of the signer.")),
      subjectRegExp: optional(format("regular expression", "Expression the identity must match.")),
    },
  );

export const imageVerificationPolicySpecSchema = object("Which images must be signed, and by whom.", {
  images: list(format("image glob", "Images by repository, without tag and digest."), "Images the policy governs.", {
    minItems: 1,
  }),
  authorities: optional(
    list(
      object("A signer that is accepted: exactly one of keyless and key.", {
        keyless: optional(keyless()),
        key: optional(
          object("Signed with a key.", { publicKey: text("Public key of the signer, as PEM of a PKIX structure.") }),
        ),
      }),
      "Signers; the signature of one of them is enough.",
    ),
  ),
  requireAttestations: optional(
    list(
      object("An attestation the image must have.", {
        predicateType: text("Type of the attestation's predicate."),
        maxAge: optional(duration("How old the attestation may be.")),
      }),
      "Reserved: must be empty until attestations are enforced.",
    ),
  ),
  skip: optional(
    list(format("image glob", "Images by repository, without tag and digest."), "Images this policy exempts."),
  ),
});
