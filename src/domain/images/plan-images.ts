import type { Authority } from "../../api/image-verification-policy.ts";
import { quote } from "../validation/finding.ts";
import { governanceOf, type JudgingPolicy } from "./governing.ts";
import { parseImageReference, type ImageReference } from "./reference.ts";

/** An image that some policies govern, all of which must accept it. */
export interface GovernedImage {
  readonly image: string;
  readonly reference: ImageReference;
  readonly policies: readonly JudgingPolicy[];
}

/** What policies ask for a list of images, before any registry is asked. */
export interface ImagePlan {
  readonly governed: readonly GovernedImage[];
  /** Images that no policy governs because these exempt them from themselves. */
  readonly exempted: readonly { readonly image: string; readonly policies: readonly string[] }[];
  /** Why an image can never be accepted; the first one. */
  readonly refused: string | undefined;
}

/** @param unmatched what becomes of an image that no policy matches (`--require-image-verification`) */
export function planImages(
  images: readonly string[],
  { policies, unmatched }: { readonly policies: readonly JudgingPolicy[]; readonly unmatched: "allowed" | "refused" },
): ImagePlan {
  const governed: GovernedImage[] = [];
  const exempted: { readonly image: string; readonly policies: readonly string[] }[] = [];
  let refused: string | undefined;
  if (policies.length === 0 && unmatched === "allowed") return { governed, exempted, refused };
  for (const image of images) {
    const reference = parseImageReference(image);
    if (reference === undefined) {
      // Nobody can say whether a policy governs it.
      refused ??= `image ${quote(image)} is no image reference`;
      continue;
    }
    const { governing, skipping } = governanceOf(reference, policies);
    const broken = governing.find((policy) => policy.broken !== undefined);
    if (broken !== undefined)
      refused ??= `image ${quote(image)}: ImageVerificationPolicy "${broken.name}" is invalid: ${broken.broken ?? ""}`;
    else if (governing.length > 0) governed.push({ image, reference, policies: governing });
    else if (skipping.length > 0) exempted.push({ image, policies: skipping.map(({ name }) => name).sort() });
    else if (unmatched === "refused")
      refused ??= `image ${quote(image)}: no ImageVerificationPolicy matches it, which --require-image-verification asks for`;
  }
  return { governed, exempted, refused };
}

/** Whether some authority of the policies needs the trusted root: nobody fetches it for keys alone. */
export function needsTrustedRoot(authorities: readonly Authority[]): boolean {
  return authorities.some(({ keyless }) => keyless !== undefined);
}
