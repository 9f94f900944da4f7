/**
 * Whom requests to a cluster are made as: a ServiceAccount of the StageSet's namespace, or the controller itself
 * (spec 50 §1).
 */
export type Identity = { readonly kind: "controller" } | { readonly kind: "serviceAccount"; readonly name: string };

export function identityKey(identity: Identity): string {
  return identity.kind === "controller" ? "controller" : `serviceAccount/${identity.name}`;
}
