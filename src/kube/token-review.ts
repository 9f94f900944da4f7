import { asArray, asObject, asText, at } from "../lib/json.ts";
import type { ReviewedUser } from "./access-review.ts";
import type { KubeClient } from "./client.ts";
import { type ApiResource, createRequest } from "./request.ts";

const reviews: ApiResource = {
  group: "authentication.k8s.io",
  version: "v1",
  kind: "TokenReview",
  plural: "tokenreviews",
  namespaced: false,
  verbs: [],
};

/**
 * Whose bearer token this is, by the API server's own authenticators; undefined: nobody's, or none that is meant for it.
 *
 * @throws {KubeError} when it cannot be asked within `timeoutMs`
 */
export async function reviewToken(
  client: KubeClient,
  token: string,
  o: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<ReviewedUser | undefined> {
  const object = { apiVersion: "authentication.k8s.io/v1", kind: reviews.kind, spec: { token } };
  const answer = await client.send(createRequest(reviews, { object }), { ...o, urgent: true });
  const user = at(answer, "status", "user");
  const username = asText(at(user, "username"));
  if (at(answer, "status", "authenticated") !== true || username === undefined) return undefined;
  return {
    username,
    uid: asText(at(user, "uid")) ?? "",
    groups: asArray(at(user, "groups")).flatMap((group) => asText(group) ?? []),
    extra: Object.fromEntries(
      Object.entries(asObject(at(user, "extra")) ?? {}).map(([key, values]) => [
        key,
        asArray(values).flatMap((value) => asText(value) ?? []),
      ]),
    ),
  };
}
