import { BuildError } from "./build-error.ts";
import { renderJson } from "./json-render.ts";
import { parseYaml, YamlProblem } from "./yaml-parse.ts";
import { emptyMapping, isMapping, isSequence, textAt, type YamlMapping, type YamlValue } from "./yaml-value.ts";

/** One entry of `stages[].patches`: a strategic merge patch, or JSON 6902 operations. */
export interface StagePatch {
  readonly patch: string;
  /** Absent: a strategic merge patch for the object it names. */
  readonly target?: PatchTarget;
}

/** Regular expressions, anchored, and selectors (spec 20 §5.2). */
export interface PatchTarget {
  readonly group?: string;
  readonly version?: string;
  readonly kind?: string;
  readonly name?: string;
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly annotationSelector?: string;
}

/**
 * The patch as an entry of a kustomization's `patches`.
 *
 * @throws {BuildError} `Patch`, naming its place and never its text
 */
export function renderStagePatch({ patch, target }: StagePatch, index: number): YamlMapping {
  const refuse = (why: string): BuildError => new BuildError("Patch", `Cannot apply patches[${index}]: ${why}`);
  const documents = parsePatch(patch, refuse).filter((document) => document !== null);
  if (documents.length === 0) throw refuse("it is empty");
  for (const document of documents) {
    if (isMapping(document)) {
      const named = textAt(document, "kind") !== "" && textAt(document, "metadata", "name") !== "";
      if (target === undefined && !named) throw refuse("without a target it must have kind and metadata.name");
    } else if (!isSequence(document) || documents.length > 1)
      throw refuse("it is neither objects nor one list of operations");
    else if (target === undefined) throw refuse("a list of operations needs a target");
  }
  // kustomize reads a list in flow style as JSON only, which YAML need not be.
  const [operations] = documents.filter(isSequence);
  const entry = { ...emptyMapping(), patch: operations === undefined ? patch : renderJson(operations) };
  return target === undefined ? entry : { ...entry, target: definedMembers(target) };
}

function parsePatch(patch: string, refuse: (why: string) => BuildError): readonly YamlValue[] {
  try {
    return parseYaml(patch, "api");
  } catch (error) {
    if (error instanceof YamlProblem) throw refuse(error.message);
    throw error;
  }
}

function definedMembers(target: PatchTarget): YamlMapping {
  const members = emptyMapping();
  for (const [key, value] of Object.entries(target)) if (typeof value === "string") members[key] = value;
  return members;
}
