import { type Parsed, parseResource, type Resource } from "./parse.ts";
import type { ValueOf } from "./schema/field.ts";
import { imageVerificationPolicySpecSchema } from "./schema/image-verification-policy.ts";
import { compileReader } from "./schema/reader.ts";

export type ImageVerificationPolicySpec = ValueOf<typeof imageVerificationPolicySpecSchema>;
/** Images that need a signature, and whose. */
export type ImageVerificationPolicy = Resource<ImageVerificationPolicySpec>;
/** A signer: `keyless` or `key`. */
export type Authority = NonNullable<ImageVerificationPolicySpec["authorities"]>[number];

const spec = compileReader(imageVerificationPolicySpecSchema);

/**
 * Reads an ImageVerificationPolicy; an object without spec is refused. The images an invalid policy governs must be
 * held: where anything is readable, `readable.spec.images` are the globs that fit.
 */
export function parseImageVerificationPolicy(value: unknown): Parsed<ImageVerificationPolicy> {
  return parseResource<ImageVerificationPolicySpec, never>(value, {
    kind: "ImageVerificationPolicy",
    spec,
    absentSpec: "refused",
  });
}
