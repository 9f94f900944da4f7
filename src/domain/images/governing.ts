import {
  parseImageVerificationPolicy,
  type Authority,
  type ImageVerificationPolicySpec,
} from "../../api/image-verification-policy.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { matchesGlob } from "../formats/glob.ts";
import { reviewImageVerificationPolicy } from "../validation/image-verification-policy.ts";
import type { ImageReference } from "./reference.ts";

/** A policy as images are judged by it. */
export interface JudgingPolicy {
  readonly name: string;
  /** Of the object and its spec: what was judged under another one says nothing. */
  readonly version: string;
  readonly images: readonly string[];
  readonly skip: readonly string[];
  readonly authorities: readonly Authority[];
  /** Why no image can pass it: it got past admission, and what it governs is held (spec 10 §10). */
  readonly broken: string | undefined;
}

/** A policy that cannot be read governs whatever its globs may have been: every image. */
const everything = ["**"];

export function judgingPolicy(object: KubeObject): JudgingPolicy {
  const { name, uid = "", generation = 0 } = object.metadata;
  const parsed = parseImageVerificationPolicy(object);
  const spec: Partial<ImageVerificationPolicySpec> =
    (parsed.kind === "valid" ? parsed.value.spec : parsed.readable?.spec) ?? {};
  const [first, ...more] = reviewImageVerificationPolicy(object).violations;
  const readable = spec.images?.filter((glob) => glob.trim() !== "") ?? [];
  return {
    name,
    version: `${uid} ${generation}`,
    // What could not be read of them may have been any glob.
    images: readable.length > 0 && readable.length === listLength(object) ? readable : everything,
    skip: spec.skip ?? [],
    authorities: spec.authorities ?? [],
    broken: first === undefined ? undefined : more.length === 0 ? first : `${first} (and ${more.length} more)`,
  };
}

function listLength(object: KubeObject): number {
  const spec: unknown = object["spec"];
  const images: unknown = typeof spec === "object" && spec !== null && "images" in spec ? spec.images : undefined;
  return Array.isArray(images) ? images.length : 0;
}

/** What policies say of one image before any signature is looked at. */
export interface Governance {
  /** All of them must accept the image. */
  readonly governing: readonly JudgingPolicy[];
  /** Policies that match the image and exempt it from themselves, which disarms no other one. */
  readonly skipping: readonly JudgingPolicy[];
}

export function governanceOf(
  { spellings }: Pick<ImageReference, "spellings">,
  policies: readonly JudgingPolicy[],
): Governance {
  const matches = (globs: readonly string[]): boolean =>
    globs.some((glob) => spellings.some((spelling) => matchesGlob(withLowerHost(glob), spelling)));
  const matching = policies.filter(({ images }) => matches(images));
  const skipping = matching.filter(({ skip }) => matches(skip));
  return { governing: matching.filter((policy) => !skipping.includes(policy)), skipping };
}

/** Hosts are compared in lower case (spec 50 §4.1). */
function withLowerHost(glob: string): string {
  const slash = glob.indexOf("/");
  const first = slash < 0 ? "" : glob.slice(0, slash);
  return /[.:]/.test(first) ? first.toLowerCase() + glob.slice(slash) : glob;
}
