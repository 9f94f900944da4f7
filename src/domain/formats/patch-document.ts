import { load } from "js-yaml";
import { asArray, asObject } from "../../lib/json.ts";

const operations = ["add", "remove", "replace", "move", "copy", "test"];
const withValue = new Set(["add", "replace", "test"]);
const withSource = new Set(["move", "copy"]);

/** Why a text (YAML or JSON) is no patch of the type; undefined when it is one. */
export function patchProblem(text: string, type: "merge" | "json6902"): string | undefined {
  const document = parseDocument(text);
  if (document.kind === "malformed") return "is no YAML or JSON document";
  if (type === "merge") return asObject(document.value) === undefined ? "is no object, as type merge wants" : undefined;
  if (!Array.isArray(document.value)) return "is no list of operations, as type json6902 wants";
  for (const [index, operation] of asArray(document.value).entries()) {
    const problem = operationProblem(operation);
    if (problem !== undefined) return `has an operation ${index} that ${problem}`;
  }
  return undefined;
}

function operationProblem(operation: unknown): string | undefined {
  const members = asObject(operation);
  if (members === undefined) return "is no object";
  const { op, path, from } = members;
  if (typeof op !== "string" || !operations.includes(op)) return `has no "op" of ${operations.join(", ")}`;
  if (!isPointer(path)) return 'has no "path" such as "/spec/replicas"';
  if (withSource.has(op) && !isPointer(from)) return 'has no "from" such as "/spec/replicas"';
  if (withValue.has(op) && !Object.hasOwn(members, "value")) return 'has no "value"';
  return undefined;
}

/** RFC 6901: empty, or parts that each begin with a slash. */
function isPointer(value: unknown): boolean {
  return typeof value === "string" && (value === "" || value.startsWith("/")) && !/~(?![01])/.test(value);
}

function parseDocument(
  text: string,
): { readonly kind: "document"; readonly value: unknown } | { readonly kind: "malformed" } {
  try {
    return { kind: "document", value: load(text) };
  } catch {
    return { kind: "malformed" }; // Its message quotes the text, which may hold what does not belong in a status.
  }
}
