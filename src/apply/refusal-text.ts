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
 * The sentence status carries for a refused object: kind, name, the server's reason and text. About a Secret only the
 * reason and the fields at fault are said (spec 50 §11.3).
 */
export function refusalText(object: RenderedObject, error: KubeError): string {
  const reason = error.status?.reason ?? error.reason;
  const what = describeObject(object);
  if (object.group === "" && object.kind === "Secret" && !isAuthorizationRefusal(error)) {
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
