import type { Authority } from "../api/image-verification-policy.ts";

export const bundleJobName = "bundles";

/** What a worker looks at: a bundle as a registry sent it, which may hold anything. */
export interface BundleToCheck {
  readonly bundle: Uint8Array;
  /** Of the image, `sha256:<hex>`. */
  readonly digest: string;
  /** Of each policy that is to accept the image. */
  readonly policies: readonly (readonly Authority[])[];
  /** A Sigstore trusted root as JSON; undefined: no authority is keyless. */
  readonly trustedRoot: string | undefined;
}

/** For each policy: whether some authority of it accepts the bundle. */
export interface CheckedBundle {
  readonly accepted: readonly boolean[];
  /** Why the last policy that does not accept it does not, in words of ours. */
  readonly why: string | undefined;
}
