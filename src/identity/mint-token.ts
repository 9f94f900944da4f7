import type { KubeClient } from "../kube/client.ts";
import { isKubeError } from "../kube/error.ts";
import { isAuthorizationRefusal } from "../kube/refusal.ts";
import { tokenRequest } from "../kube/request.ts";
import { asArray, asText, at } from "../lib/json.ts";
import { IdentityError } from "./identity-error.ts";
import { requestedLifeSeconds, type MintedToken, type ServiceAccountName } from "./tokens.ts";

/**
 * A new token of a ServiceAccount.
 *
 * @param audiences whom it is for; undefined: the API server itself
 * @throws {IdentityError} `TokenForbidden`, `ServiceAccountMissing`, `TokenFailed`
 */
export async function mintToken(
  client: KubeClient,
  { account, audiences }: { readonly account: ServiceAccountName; readonly audiences?: readonly string[] | undefined },
  signal: AbortSignal,
): Promise<MintedToken> {
  const shown = `"${account.namespace}/${account.name}"`;
  let serverNow: number | undefined;
  let body: unknown;
  try {
    body = await client.send(tokenRequest({ ...account, audiences, expirationSeconds: requestedLifeSeconds }), {
      signal,
      onAnswer: ({ dateMs }) => {
        serverNow = dateMs;
      },
    });
  } catch (error) {
    throw mintFailure(account, error);
  }
  const token = asText(at(body, "status", "token"));
  const expiresAt = Date.parse(asText(at(body, "status", "expirationTimestamp")) ?? "");
  if (token === undefined || Number.isNaN(expiresAt)) {
    throw new IdentityError("TokenFailed", `Cannot mint a token for ServiceAccount ${shown}: the answer holds none`);
  }
  // Both instants are the server's: its clock may differ from ours. Without a date only the life asked for is known.
  const lifeMs = serverNow === undefined ? requestedLifeSeconds * 1000 : expiresAt - serverNow;
  return { token, lifeMs: Math.max(0, lifeMs) };
}

function mintFailure(account: ServiceAccountName, error: unknown): unknown {
  const shown = `ServiceAccount "${account.namespace}/${account.name}"`;
  if (isAuthorizationRefusal(error)) {
    return new IdentityError(
      "TokenForbidden",
      `Cannot act as ${shown}: the controller lacks "create serviceaccounts/token" in namespace "${account.namespace}"`,
      error,
    );
  }
  if (isKubeError(error, "NotFound")) {
    return new IdentityError("ServiceAccountMissing", `${shown} does not exist`, error);
  }
  if (isKubeError(error)) {
    return new IdentityError("TokenFailed", `Cannot mint a token for ${shown}: ${error.message}`, error);
  }
  return error;
}

/** Whom a JSON Web Token is for (RFC 7519 §4.1.3), as it says itself; undefined: it is none. */
export function audiencesOf(token: string): readonly string[] | undefined {
  const [, claims, signature] = token.split(".");
  if (claims === undefined || signature === undefined) return undefined;
  try {
    const audience = at(JSON.parse(Buffer.from(claims, "base64url").toString("utf8")), "aud");
    const list = typeof audience === "string" ? [audience] : asArray(audience);
    return list.flatMap((each) => asText(each) ?? []);
  } catch {
    return undefined;
  }
}
