import { isKubeError } from "./error.ts";

const quoted = String.raw`"(?:[^"\\]|\\.){0,1000}"`;

/** `User "…" cannot <verb> resource …` or `… path …`: how the API server words its authorizer's answer. */
const authorizer = new RegExp(String.raw`^User ${quoted} cannot [a-zA-Z*]+ (?:resource|path) "`);

/** How RBAC words the refusal to hand out rights the writer does not hold. */
const escalation = new RegExp(String.raw`^user ${quoted}[^\n]{0,10000}? is attempting to grant `);

/**
 * Whether the API server refused for want of rights, so that waiting cannot help but a grant does (`RBACDenied`, spec 20
 * §6.5). Other refusals of status 403 — admission webhooks and policies, quota, Pod Security, a terminating namespace —
 * are not; their free text may quote the same words, so the sentence must be the server's own: the first one.
 */
export function isAuthorizationRefusal(error: unknown): boolean {
  if (!isKubeError(error, "Forbidden") || isNamespaceTerminating(error)) return false;
  const message = error.status?.message ?? "";
  const bare = "forbidden: ";
  const marker = ` is ${bare}`;
  const at = message.indexOf(marker);
  const said = message.startsWith(bare)
    ? message.slice(bare.length)
    : at < 0
      ? message
      : message.slice(at + marker.length);
  if (message.slice(0, Math.max(0, at)).includes("admission webhook ")) return false;
  return authorizer.test(said) || escalation.test(said);
}

/** Whether the write was refused because its namespace is being deleted. */
export function isNamespaceTerminating(error: unknown): boolean {
  return (
    isKubeError(error) &&
    (error.status?.details?.causes.some((cause) => cause.reason === "NamespaceTerminating") ?? false)
  );
}
