import { imagesOf } from "../domain/images/pod-spec.ts";
import type { ObjectControls } from "../domain/rendered.ts";
import { readControls } from "./controls.ts";
import { helmHooks } from "./helm-hook.ts";
import { renderMembers } from "./json-render.ts";
import { withoutLeftFields } from "./left-fields.ts";
import type { Manifest } from "./manifest.ts";
import { emptyMapping, mappingAt, scalarText, textAt, valueAt, withMembers, type YamlMapping } from "./yaml-value.ts";

export type Scope = "Namespaced" | "Cluster";

/** The owner of a render: the values of our three labels (spec 20 §5.7). */
export interface OwnerLabels {
  /** Undefined, like the others: objects do not carry the label. */
  readonly stage: string | undefined;
  readonly name: string | undefined;
  readonly namespace: string | undefined;
}

/** An object that only waits for its scope: `head`, its namespace if any, and `tail` are its JSON with sorted keys. */
export interface Draft extends Omit<Manifest, "value"> {
  readonly controls: ObjectControls;
  readonly helmHook: boolean;
  readonly expires: boolean;
  readonly images: readonly string[];
  readonly head: Uint8Array;
  readonly tail: Uint8Array;
}

/** The object without the fields it leaves to others, and with our labels, which win over the manifest's. */
export function draftManifest(manifest: Manifest, labels: OwnerLabels): Draft {
  const { value: whole, ...identity } = manifest;
  const value = withoutLeftFields(whole);
  const written = mappingAt(value, "metadata") ?? emptyMapping();
  const metadata = withMembers(written, {
    namespace: undefined,
    labels: withMembers(mappingAt(written, "labels") ?? emptyMapping(), {
      "stages.metio.wtf/stage": labels.stage,
      "stages.metio.wtf/name": labels.name,
      "stages.metio.wtf/namespace": labels.namespace,
    }),
  });
  // "name" is always there and sorts before, so that a namespace always follows a comma.
  const inside = splitKeys(metadata, "namespace");
  const outside = splitKeys(value, "metadata");
  const before = renderMembers(value, outside.before);
  const after = renderMembers(value, outside.after);
  const rest = renderMembers(metadata, inside.after);
  return {
    ...identity,
    controls: readControls(value),
    helmHook: helmHooks(manifest).length > 0,
    expires: isExpiringJob(manifest),
    images: imagesOf(value, manifest),
    head: Buffer.from(`{${before}${before === "" ? "" : ","}"metadata":{${renderMembers(metadata, inside.before)}`),
    tail: Buffer.from(`${rest === "" ? "" : ","}${rest}}${after === "" ? "" : ","}${after}}`),
  };
}

function isExpiringJob({ group, kind, value }: Manifest): boolean {
  return (
    kind === "Job" && group === "batch" && scalarText(valueAt(value, "spec", "ttlSecondsAfterFinished")) !== undefined
  );
}

function splitKeys(
  mapping: YamlMapping,
  at: string,
): { readonly before: readonly string[]; readonly after: readonly string[] } {
  const keys = Object.keys(mapping);
  return { before: keys.filter((key) => key < at), after: keys.filter((key) => key > at) };
}

/** The scope a CustomResourceDefinition gives its kind, by `<group>/<kind>`; undefined for other objects. */
export function definedScope({ group, kind, value }: Manifest): readonly [string, Scope] | undefined {
  if (kind !== "CustomResourceDefinition" || group !== "apiextensions.k8s.io") return undefined;
  const scope = textAt(value, "spec", "scope");
  if (scope !== "Namespaced" && scope !== "Cluster") return undefined;
  return [`${textAt(value, "spec", "group")}/${textAt(value, "spec", "names", "kind")}`, scope];
}
