/**
 * Why an encrypted document could not be decrypted, as status tells it (spec 50 §3.3). The same document and keys give
 * the same class, but for `KMS unavailable`.
 */
export type SopsProblemClass = "malformed" | "MAC mismatch" | "no usable key" | "KMS denied" | "KMS unavailable";

/** `message` is for the log: it may name recipients and fingerprints, but quotes no key and no content. */
export class SopsProblem extends Error {
  override name = "SopsProblem";
  readonly class: SopsProblemClass;
  constructor(problemClass: SopsProblemClass, message: string, options?: ErrorOptions) {
    super(message, options);
    this.class = problemClass;
  }
}

export function malformed(message: string): SopsProblem {
  return new SopsProblem("malformed", message);
}
