import type { Manifest } from "./manifest.ts";
import { mappingAt, scalarText } from "./yaml-value.ts";

/** The hooks of an object, in lower case: `helm.sh/hook` is a list with commas. Empty when it is none. */
export function helmHooks({ value }: Pick<Manifest, "value">): readonly string[] {
  const written = mappingAt(value, "metadata", "annotations")?.["helm.sh/hook"];
  const hooks = scalarText(written)?.split(",") ?? [];
  return hooks.map((hook) => hook.trim().toLowerCase());
}

/** Without hooks applied, only CustomResourceDefinitions stay whose one hook is `crd-install` (spec 20 §5.4). */
export function isDroppedHook(manifest: Manifest, applyHelmHookResources: boolean): boolean {
  const hooks = helmHooks(manifest);
  if (hooks.length === 0 || applyHelmHookResources) return false;
  const definition = manifest.kind === "CustomResourceDefinition" && manifest.group === "apiextensions.k8s.io";
  return !(definition && hooks.length === 1 && hooks[0] === "crd-install");
}
