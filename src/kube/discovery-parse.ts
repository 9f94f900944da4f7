import { asArray, asObject, asText, at } from "../lib/json.ts";
import { splitApiVersion } from "../lib/kube-object.ts";
import type { ApiResource } from "./request.ts";

/** Answers with `APIGroupDiscoveryList` where the server can, else with the legacy document. */
export const aggregatedAccept = [
  "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
  "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
  "application/json",
].join(",");

/** What `/api` or `/apis` answered. `versions` are group versions to be read one by one, preferred first in each group. */
export type DiscoveryAnswer =
  | { readonly kind: "aggregated"; readonly resources: readonly ApiResource[] }
  | { readonly kind: "legacy"; readonly versions: readonly GroupVersion[] };

export interface GroupVersion {
  readonly group: string;
  readonly version: string;
}

/** Entries that are malformed are left out; order is the server's, which is its preference. */
export function parseDiscovery(body: unknown): DiscoveryAnswer {
  switch (at(body, "kind")) {
    case "APIGroupDiscoveryList":
      return { kind: "aggregated", resources: asArray(at(body, "items")).flatMap(parseGroup) };
    case "APIVersions":
      return {
        kind: "legacy",
        versions: asArray(at(body, "versions")).flatMap((version) =>
          typeof version === "string" ? [{ group: "", version }] : [],
        ),
      };
    case "APIGroupList":
      return { kind: "legacy", versions: asArray(at(body, "groups")).flatMap(parseLegacyGroup) };
    default:
      return { kind: "legacy", versions: [] };
  }
}

function parseGroup(group: unknown): readonly ApiResource[] {
  const name = asText(at(group, "metadata", "name")) ?? "";
  return asArray(at(group, "versions")).flatMap((entry) => {
    const version = asText(at(entry, "version"));
    if (version === undefined) return [];
    return asArray(at(entry, "resources")).flatMap((resource) => {
      const plural = asText(at(resource, "resource"));
      const kind = asText(at(resource, "responseKind", "kind"));
      if (plural === undefined || kind === undefined) return [];
      const namespaced = at(resource, "scope") === "Namespaced";
      return [{ group: name, version, kind, plural, namespaced, verbs: texts(at(resource, "verbs")) }];
    });
  });
}

function parseLegacyGroup(group: unknown): readonly GroupVersion[] {
  const name = asText(at(group, "name"));
  if (name === undefined) return [];
  const preferred = asText(at(group, "preferredVersion", "version"));
  const versions = asArray(at(group, "versions")).flatMap((entry) => asText(at(entry, "version")) ?? []);
  return [...versions]
    .sort((a, b) => Number(b === preferred) - Number(a === preferred))
    .map((version) => ({ group: name, version }));
}

/** One `APIResourceList`; subresources are left out. */
export function parseResourceList(body: unknown): readonly ApiResource[] {
  const { group, version } = splitApiVersion(asText(at(body, "groupVersion")) ?? "");
  return asArray(at(body, "resources")).flatMap((resource) => {
    const object = asObject(resource);
    const plural = asText(object?.["name"]);
    const kind = asText(object?.["kind"]);
    if (plural === undefined || kind === undefined || plural.includes("/")) return [];
    return [
      { group, version, kind, plural, namespaced: object?.["namespaced"] === true, verbs: texts(object?.["verbs"]) },
    ];
  });
}

function texts(value: unknown): readonly string[] {
  return asArray(value).filter((entry) => typeof entry === "string");
}
