import { skipImageVerificationAnnotation } from "../api/keys.ts";
import { quote } from "../domain/validation/finding.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import type { AdmissionUser, Reviewer } from "./admission.ts";

/** Who may have a StageSet released without its images verified (`--image-verification-break-glass`). */
export type BreakGlassMode = "authorized" | "any" | "off";

/** What an authorizer says; `unknown`: it could not be asked, which counts as no. */
export type AccessVerdict =
  { readonly kind: "allowed" | "denied" } | { readonly kind: "unknown"; readonly problem: string };

/** The verb on `stagesets.stages.metio.wtf` whose holders may break the glass. */
export const breakGlassVerb = "skip-image-verification";

/** Lets the annotation be added or changed only by those who may; removing it and every other change is free (spec 50 §4.6). */
export function createBreakGlass(options: {
  readonly mode: BreakGlassMode;
  readonly authorize: (
    user: AdmissionUser,
    stageSet: { readonly namespace: string; readonly name: string },
    o: { readonly signal: AbortSignal },
  ) => Promise<AccessVerdict>;
}): Reviewer {
  const { mode, authorize } = options;
  const path = `metadata.annotations["${skipImageVerificationAnnotation}"]`;
  return async ({ object, oldObject, user, namespace, name }, o) => {
    const asked = reasonOf(object);
    const isNew = asked !== "" && asked !== (oldObject === undefined ? "" : reasonOf(oldObject));
    if (!isNew || mode === "any" || object.metadata.deletionTimestamp !== undefined) return pass;
    const refused = (why: string) => ({ violations: [`${path} is ${quote(asked)}, ${why}`], warnings: [] });
    if (mode === "off") return refused("want none: this controller runs with --image-verification-break-glass=off");
    const verdict = await authorize(user, { namespace, name }, o);
    if (verdict.kind === "allowed") return pass;
    const needed = `want a user with the verb "${breakGlassVerb}" on stagesets.stages.metio.wtf "${name}"`;
    return refused(verdict.kind === "unknown" ? `${needed}, which cannot be checked: ${verdict.problem}` : needed);
  };
}

const pass = { violations: [], warnings: [] } as const;

function reasonOf(object: KubeObject): string {
  const annotations = object.metadata.annotations ?? {};
  const value: unknown = Object.hasOwn(annotations, skipImageVerificationAnnotation)
    ? annotations[skipImageVerificationAnnotation]
    : undefined;
  return typeof value === "string" ? value : "";
}
