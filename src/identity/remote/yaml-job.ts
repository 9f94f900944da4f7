import { load } from "js-yaml";

export const yamlJobName = "yaml";

/** Aliases share what they stand for, so they cost nothing here; nobody writes many. */
const mostAliases = 100;
const deepest = 50;

/**
 * A YAML or JSON text of a tenant as a value, whatever it names its keys. There are no merge keys and no tags of own types.
 *
 * @throws an error that quotes the text
 */
export function parseTenantYaml(text: string): unknown {
  return load(text, { json: true, maxAliases: mostAliases, maxDepth: deepest });
}

/** In a worker: the text in, the value out. */
export function yamlJob(input: unknown): { readonly output: unknown } {
  return { output: parseTenantYaml(typeof input === "string" ? input : "") };
}
