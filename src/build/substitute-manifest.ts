import { BuildError } from "./build-error.ts";
import { isSubstitutionDisabled } from "./controls.ts";
import { describeManifest, parseManifest, type Manifest } from "./manifest.ts";
import { substitute } from "./substitute.ts";
import { ExpressionProblem } from "./substitution-template.ts";
import { parseYaml, YamlProblem } from "./yaml-parse.ts";
import { printYaml } from "./yaml-print.ts";
import type { YamlValue } from "./yaml-value.ts";

/**
 * The object with the expressions in its YAML replaced and the result read again, so that a lone `${N}` may become a
 * number (spec 20 §5.3). `values` are those of `usableValues`.
 *
 * @throws {BuildError} `Substitution`, naming object and expression, never a value
 */
export function substituteManifest(manifest: Manifest, values: ReadonlyMap<string, string>): Manifest {
  if (isSubstitutionDisabled(manifest.value)) return manifest;
  const text = printYaml(manifest.value);
  if (!text.includes("$")) return manifest;
  try {
    return parseManifest(readBack(substitute(text, values)), manifest.origin);
  } catch (error) {
    throw new BuildError(
      "Substitution",
      `Cannot substitute in ${describeManifest(manifest)}: ${reasonOf(error, manifest)}`,
    );
  }
}

function readBack(text: string): YamlValue {
  const [document = null, ...more] = parseYaml(text, "api");
  if (more.length > 0) throw new YamlProblem("more than one document", { line: 1, column: 1 });
  return document;
}

function reasonOf(error: unknown, { group, kind }: Manifest): string {
  if (error instanceof ExpressionProblem) {
    const secret = group === "" && kind === "Secret";
    return `"${secret ? error.brief : error.expression}": ${error.message}`;
  }
  if (error instanceof YamlProblem) return `the result is ${error.kind}`;
  if (error instanceof BuildError) return "the result has no apiVersion, kind or name any more, or none that is text";
  throw error;
}
