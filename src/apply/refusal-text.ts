import { describeObject } from "../domain/object-id.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import { isKubeError, type KubeError } from "../kube/error.ts";
import { isAuthorizationRefusal } from "../kube/refusal.ts";

/** Why one object was not accepted, in the classes of spec 20 §10. */
export type RefusalClass = "authorization" | "notServed" | "invalid" | "other";

export function refusalClass(error: KubeError): RefusalClass {
  if (isAuthorizationRefusal(error)) return "authorization";
  switch (error.reason) {
    case "NotServed":
      return "notServed";
    case "Invalid":
    case "BadRequest":
    case "TooLarge":
      return "invalid";
    default:
      return "other";
  }
}

/**
 * Whether another time the same manifest may be accepted. `lasting`: nothing but another manifest, or another object in its
 * place, helps; `unknown`: its kind or namespace is not there yet; `for now`: what admission, quotas or rights say may change.
 */
export type Outlook = "lasting" | "for now" | "unknown";

/** Not the object's own validation, but what is decided about it elsewhere: webhooks and policies, shared ranges. */
const decidedElsewhere = /admission webhook|denied (the )?request|already allocated/i;

export function outlookOf(error: KubeError): Outlook {
  if (error.reason === "NotFound" || error.reason === "NotServed") return "unknown";
  if (refusalClass(error) !== "invalid" || decidedElsewhere.test(error.message)) return "for now";
  if (error.reason !== "Invalid") return "lasting";
  // Validation names the fields at fault; those of the status are not the manifest's.
  const causes = error.status?.details?.causes ?? [];
  const ofManifest = causes.every(({ field = "" }) => field !== "" && !field.startsWith("status"));
  return causes.length > 0 && ofManifest ? "lasting" : "for now";
}

/**
 * The sentence status carries for a refused object: kind, name, the server's reason and text. About a Secret, or what one
 * may have gone into, only the reason and the fields at fault are said (spec 50 §11.3).
 */
export function refusalText(object: RenderedObject, error: KubeError): string {
  const reason = error.status?.reason ?? error.reason;
  const what = describeObject(object);
  const secret = object.secretInput === true || (object.group === "" && object.kind === "Secret");
  if (secret && !isAuthorizationRefusal(error)) {
    const fields = (error.status?.details?.causes ?? []).flatMap((cause) => cause.field ?? []);
    return fields.length === 0 ? `${what}: ${reason}` : `${what}: ${reason} (${fields.join(", ")})`;
  }
  return `${what}: ${reason}: ${error.message}`;
}

const immutableText = /immutable|may not change|cannot change|updates to .* are forbidden/i;

/** Every cause of the refusal speaks of a field that cannot be changed (spec 20 §7.4a). */
export function speaksOfImmutability(error: KubeError): boolean {
  const causes = error.status?.details?.causes ?? [];
  const texts = causes.length === 0 ? [error.message] : causes.map((cause) => cause.message ?? "");
  return texts.every((text) => immutableText.test(text));
}

/** An update of an existing object was refused in a way that recreating it might mend. */
export function mayBeImmutable(error: unknown): error is KubeError {
  return (
    isKubeError(error, "Invalid") || (isKubeError(error, "BadRequest", "Forbidden") && speaksOfImmutability(error))
  );
}

/** The object is fine, only a webhook cannot answer dry runs. */
export function lacksDryRun(error: KubeError): boolean {
  return error.reason === "BadRequest" && /admission webhook .* does not support dry run/.test(error.message);
}
