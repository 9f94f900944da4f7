import type { TSchema } from "typebox";
import { apiGroup } from "./group.ts";
import { type KindDefinition, kindDefinitions } from "./kinds.ts";
import type { Keywords } from "./schema/keywords.ts";

/** A CustomResourceDefinition, as the API server takes it. */
export interface CustomResourceDefinition {
  readonly apiVersion: "apiextensions.k8s.io/v1";
  readonly kind: "CustomResourceDefinition";
  readonly metadata: { readonly name: string };
  readonly spec: unknown;
}

/** The schema dialect of CustomResourceDefinitions: structural, without keywords of our own. */
export interface CrdSchema {
  readonly description?: string;
  readonly type: string;
  readonly properties?: Readonly<Record<string, CrdSchema>>;
  readonly items?: CrdSchema;
  readonly required?: readonly string[];
  readonly [keyword: string]: unknown;
}

/** One definition for each kind, in a stable order. */
export function renderCrds(): readonly CustomResourceDefinition[] {
  return kindDefinitions.map(renderCrd);
}

function renderCrd(definition: KindDefinition): CustomResourceDefinition {
  const { kind, plural, scope, shortNames, description, columns, spec, status } = definition;
  const version = {
    name: "v1",
    served: true,
    storage: true,
    schema: { openAPIV3Schema: rootSchema(description, spec, status) },
    ...(status && { subresources: { status: {} } }),
    additionalPrinterColumns: columns,
  };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${apiGroup}` },
    spec: {
      group: apiGroup,
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular: kind.toLowerCase(),
        ...(shortNames.length > 0 && { shortNames }),
      },
      scope,
      conversion: { strategy: "None" },
      versions: [version],
    },
  };
}

// Neither spec nor status is required: a stored object without spec must still lose its finalizer.
function rootSchema(description: string, spec: TSchema, status: TSchema | undefined): CrdSchema {
  return {
    type: "object",
    description,
    properties: {
      apiVersion: { type: "string", description: "Group and version of the object's schema." },
      kind: { type: "string", description: "Name of the object's schema." },
      metadata: { type: "object" }, // The API server describes it.
      spec: crdSchema(spec),
      ...(status && { status: crdSchema(status) }),
    },
  };
}

/** A schema as CustomResourceDefinitions have it; defaults the controller applies are told in the description. */
export function crdSchema(schema: TSchema): CrdSchema {
  const keywords: Keywords = schema;
  const { "x-default": fallback, "x-type": _, type = "", description = "", properties, items, ...rest } = keywords;
  return {
    type,
    description: fallback === undefined ? description : `${description} Default: ${fallback}.`,
    ...rest,
    ...(properties && {
      properties: Object.fromEntries(Object.entries(properties).map(([name, member]) => [name, crdSchema(member)])),
    }),
    ...(items && { items: crdSchema(items) }),
  };
}
