import type { ObjectId } from "./object-id.ts";

type Kind = Pick<ObjectId, "group" | "kind">;

/** Groups whose kinds, but for those named, nobody asks whether another object may be written. */
const plainGroups: ReadonlySet<string> = new Set(["", "apps", "batch", "policy", "autoscaling", "networking.k8s.io"]);
const notPlain: ReadonlySet<string> = new Set(["Namespace", "ResourceQuota", "LimitRange", "IngressClass"]);

/**
 * Whether writing an object of this kind may change what the API server accepts next: quotas, rights, webhooks, policies,
 * definitions of kinds, and whatever an operator makes of its own kinds.
 */
export function mayGuideAdmission({ group, kind }: Kind): boolean {
  return !plainGroups.has(group) || notPlain.has(kind);
}

/** Kinds that change a manifest before it is validated, so that what was invalid may be valid. */
const mutating: ReadonlySet<string> = new Set([
  "/LimitRange",
  "admissionregistration.k8s.io/MutatingWebhookConfiguration",
  "admissionregistration.k8s.io/MutatingAdmissionPolicy",
  "admissionregistration.k8s.io/MutatingAdmissionPolicyBinding",
]);

export function mayMendManifests({ group, kind }: Kind): boolean {
  return mutating.has(`${group}/${kind}`);
}
