import type { Discovery } from "../kube/discovery.ts";
import type { ApiResource } from "../kube/request.ts";

export const fluxGroup = "source.toolkit.fluxcd.io";
export const fluxKinds = ["ExternalArtifact", "GitRepository", "OCIRepository", "Bucket"] as const;

/** The asked version, else v1, else what the group prefers (spec 20 §3.2). */
export async function sourceResource(
  discovery: Discovery,
  wanted: { readonly kind: string; readonly version: string | undefined },
  signal: AbortSignal,
): Promise<ApiResource | undefined> {
  const { kind, version = "v1" } = wanted;
  const exact = await discovery.find({ group: fluxGroup, kind, version }, { signal });
  return exact ?? discovery.find({ group: fluxGroup, kind }, { signal });
}
