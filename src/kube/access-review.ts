import { at } from "../lib/json.ts";
import type { KubeClient } from "./client.ts";
import { type ApiResource, createRequest } from "./request.ts";

const reviews: ApiResource = {
  group: "authorization.k8s.io",
  version: "v1",
  kind: "SubjectAccessReview",
  plural: "subjectaccessreviews",
  namespaced: false,
  verbs: [],
};

/** A user as the API server has authenticated them. */
export interface ReviewedUser {
  readonly username: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

export interface ReviewedAccess {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
}

/**
 * Whether the user may do something, by the API server's own authorizers.
 *
 * @throws {KubeError} when they cannot be asked within `timeoutMs`
 */
export async function isAllowed(
  client: KubeClient,
  { user, access }: { readonly user: ReviewedUser; readonly access: ReviewedAccess },
  o: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<boolean> {
  const { username, ...rest } = user;
  const object = {
    apiVersion: "authorization.k8s.io/v1",
    kind: reviews.kind,
    spec: { resourceAttributes: access, user: username, ...rest },
  };
  const answer = await client.send(createRequest(reviews, { object }), { ...o, urgent: true });
  return at(answer, "status", "allowed") === true;
}
