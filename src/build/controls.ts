import type { ObjectControls } from "../domain/rendered.ts";
import { ignoreFieldsKey, readLeftFields } from "./left-fields.ts";
import { annotationOrLabel } from "./manifest.ts";
import type { YamlMapping } from "./yaml-value.ts";

const own = "stages.metio.wtf/";
const flux = "kustomize.toolkit.fluxcd.io/";

/** Every control with the values it takes, in lower case (spec 20 §6.6; of `force` spec 10 §11 says that any other is ignored). */
const accepted: readonly (readonly [key: string, values: readonly string[]])[] = [
  [`${own}prune`, ["enabled", "disabled"]],
  [`${own}force`, ["enabled", "true"]],
  [`${own}keep-existing`, ["true", "false"]],
  [`${own}reconcile`, ["enabled", "disabled"]],
  [`${flux}prune`, ["enabled", "disabled"]],
  [`${flux}force`, ["enabled", "disabled", "true", "false"]],
  [`${flux}reconcile`, ["enabled", "disabled"]],
  [`${flux}ssa`, ["override", "merge", "ifnotpresent", "ignore"]],
];

const noControls: ObjectControls = Object.freeze({
  prune: "enabled",
  force: false,
  keepExisting: false,
  reconcile: "enabled",
  ignored: Object.freeze([]),
});

/** What the manifest says about its own handling, by annotation or label. */
export function readControls(value: YamlMapping): ObjectControls {
  const found = new Map<string, string>();
  const ignored: string[] = [];
  for (const [key, values] of accepted) {
    const written = annotationOrLabel(value, key)?.toLowerCase();
    if (written === undefined) continue;
    if (values.includes(written)) found.set(key, written);
    else ignored.push(key);
  }
  if (readLeftFields(value).unusable.length > 0) ignored.push(ignoreFieldsKey);
  const says = (key: string, ...values: readonly string[]): boolean => values.includes(found.get(key) ?? "");
  const either = (name: string, value: string): boolean => says(own + name, value) || says(flux + name, value);
  // What most objects have is held once, not once per object of every render that is kept.
  if (found.size === 0 && ignored.length === 0) return noControls;
  return {
    prune: either("prune", "disabled") ? "disabled" : "enabled",
    force: says(`${own}force`, "enabled", "true") || says(`${flux}force`, "enabled"),
    keepExisting: says(`${own}keep-existing`, "true") || says(`${flux}ssa`, "ifnotpresent"),
    reconcile: either("reconcile", "disabled") || says(`${flux}ssa`, "ignore") ? "disabled" : "enabled",
    ignored,
  };
}

/** The object is not substituted (spec 20 §5.3). */
export function isSubstitutionDisabled(value: YamlMapping): boolean {
  return [own, flux].some((prefix) => annotationOrLabel(value, `${prefix}substitute`)?.toLowerCase() === "disabled");
}
