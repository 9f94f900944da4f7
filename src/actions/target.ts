import { IdentityError, isDenied } from "../identity/identity-error.ts";
import { isKubeError, KubeError } from "../kube/error.ts";
import type { ApiResource, ObjectName } from "../kube/request.ts";
import { joinApiVersion, splitApiVersion } from "../lib/kube-object.ts";
import { ActionError } from "./action-error.ts";
import type { Attempt } from "./context.ts";

/** A kind as a target names it; an empty apiVersion is looked up. */
export interface TargetKind {
  readonly apiVersion?: string | undefined;
  readonly kind: string;
}

/**
 * The kind as the cluster serves it. Without apiVersion: the core group's if it serves the kind, else the only group's that
 * does (spec 30 §3.1).
 *
 * @throws {ActionError} permanent when it is not served; also when several groups serve it
 */
export async function resourceOf(
  { apiVersion = "", kind }: TargetKind,
  attempt: Pick<Attempt, "access" | "signal">,
): Promise<ApiResource> {
  const { access, signal } = attempt;
  if (apiVersion !== "") {
    const { group, version } = splitApiVersion(apiVersion);
    const found = await access.discovery.find({ group, version, kind }, { signal });
    return found ?? notServed(`${kind}.${apiVersion}`);
  }
  const all = await access.discovery.preferredFor(kind, { signal });
  const found = all.find(({ group }) => group === "") ?? all[0];
  if (found === undefined) return notServed(kind);
  if (found.group !== "" && all.length > 1) {
    const groups = all.map(({ group, version }) => joinApiVersion(group, version)).sort();
    const message = `several groups serve kind "${kind}": set target.apiVersion to one of ${groups.join(", ")}`;
    throw new ActionError(message, { retry: "final" });
  }
  return found;
}

function notServed(what: string): never {
  throw new ActionError(`the target cluster does not serve ${what}: install its definition`, { class: "permanent" });
}

/** The target's coordinates; a namespace means nothing for a cluster-scoped kind. */
export function nameOf(
  resource: ApiResource,
  { namespace = "", name }: { readonly namespace?: string | undefined; readonly name: string },
  { context }: Pick<Attempt, "context">,
): ObjectName {
  if (!resource.namespaced) return { name };
  return { namespace: namespace === "" ? context.namespace : namespace, name };
}

export function describeTarget({ kind }: { readonly kind: string }, { namespace, name }: ObjectName): string {
  return namespace === undefined ? `${kind} ${name}` : `${kind} ${namespace}/${name}`;
}

/**
 * What an API server or an identity refused, as the failure of an attempt: a lack of rights is permanent. About a Secret
 * only the server's reason is said, and the fields at fault (spec 50 §11.3).
 */
export function refused(what: string, error: unknown, { secret = false } = {}): unknown {
  if (error instanceof IdentityError)
    return new ActionError(`${what}: ${error.message}`, {
      class: isDenied(error) ? "permanent" : "ordinary",
      cause: error,
    });
  if (!(error instanceof KubeError)) return error;
  const permanent = isDenied(error) || isKubeError(error, "NotServed");
  const retryAfterMs = isKubeError(error, "TooManyRequests", "ServerError") ? error.retryAfterMs : undefined;
  const reason = error.status?.reason ?? error.reason;
  const fields = (error.status?.details?.causes ?? []).flatMap(({ field }) => field ?? []);
  const text = !secret || permanent ? error.message : [reason, ...fields].join(" ");
  return new ActionError(`${what}: ${text}`, {
    class: permanent ? "permanent" : "ordinary",
    retryAfterMs,
    cause: error,
  });
}

/** Whether what is said about an object of this kind may quote what it holds. */
export function isSecret({ group, kind }: Pick<ApiResource, "group" | "kind">): boolean {
  return group === "" && kind === "Secret";
}
