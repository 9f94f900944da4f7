import type { ScopeLookup } from "../../build/build-stage.ts";
import type { RenderedObject } from "../../domain/rendered.ts";
import type { Access } from "../../identity/access.ts";
import { asText, at } from "../../lib/json.ts";
import type { Pass } from "../pass.ts";

type Scope = "Namespaced" | "Cluster";

/**
 * Scopes of kinds: from the CustomResourceDefinitions this release renders, whose kinds discovery shows only a while
 * after they are applied, else from the target's discovery (spec 20 §5.6).
 */
export function scopesOf(access: Access, pass: Pick<Pass, "facts">): ScopeLookup {
  const defined = definedKinds(renderedObjects(pass));
  return async (kinds, signal) => {
    const scopes = new Map<string, Scope | undefined>();
    await Promise.all(
      kinds.map(async ({ group, kind }) => {
        const name = `${group}/${kind}`;
        const own = defined.get(name);
        const resource = own === undefined ? await access.discovery.find({ group, kind }, { signal }) : undefined;
        const served = resource === undefined ? undefined : resource.namespaced ? "Namespaced" : "Cluster";
        scopes.set(name, own ?? served);
      }),
    );
    return scopes;
  };
}

/** What stages rendered so far. */
function renderedObjects(pass: Pick<Pass, "facts">): readonly RenderedObject[] {
  return [...pass.facts.values()].flatMap((fact) =>
    fact.kind === "render" && fact.render.kind === "rendered" ? fact.render.objects : [],
  );
}

/** Kinds that the CustomResourceDefinitions among these objects define, as `<group>/<kind>`. */
export function definedKinds(objects: readonly RenderedObject[]): ReadonlyMap<string, Scope> {
  const kinds = new Map<string, Scope>();
  for (const object of objects) {
    if (object.kind !== "CustomResourceDefinition" || object.group !== "apiextensions.k8s.io") continue;
    const definition: unknown = JSON.parse(Buffer.from(object.body).toString("utf8"));
    const group = asText(at(definition, "spec", "group")) ?? "";
    const kind = asText(at(definition, "spec", "names", "kind")) ?? "";
    kinds.set(`${group}/${kind}`, at(definition, "spec", "scope") === "Cluster" ? "Cluster" : "Namespaced");
  }
  return kinds;
}
