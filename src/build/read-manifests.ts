import { BuildError } from "./build-error.ts";
import { manifestsOf, type Manifest } from "./manifest.ts";
import { parseYaml, YamlProblem } from "./yaml-parse.ts";
import type { YamlDialect } from "./yaml-scalar.ts";
import type { YamlValue } from "./yaml-value.ts";

/**
 * The manifests in the bytes of one file. `origin` names it in messages.
 *
 * @throws {BuildError} `Yaml`, `NotAManifest`, `Invalid`
 */
export function readManifests(bytes: Uint8Array, origin: string, dialect: YamlDialect): readonly Manifest[] {
  const documents = parseDocuments(decode(bytes, origin), origin, dialect);
  return documents.flatMap((document, index) =>
    manifestsOf(document, documents.length === 1 ? origin : `${origin}, document ${index + 1}`),
  );
}

/** The documents of a YAML text, with the problem told in our terms. */
export function parseDocuments(text: string, origin: string, dialect: YamlDialect): readonly YamlValue[] {
  try {
    return parseYaml(text, dialect);
  } catch (error) {
    if (!(error instanceof YamlProblem)) throw error;
    throw new BuildError("Yaml", `Cannot read ${origin}: ${error.message}`);
  }
}

export function decode(bytes: Uint8Array, origin: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new BuildError("Yaml", `Cannot read ${origin}: it is not UTF-8 text`);
  }
}
