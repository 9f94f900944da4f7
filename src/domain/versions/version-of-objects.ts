import type { VersionSpec } from "../../api/stage-set.ts";
import { asText, at } from "../../lib/json.ts";
import { selectText } from "../formats/json-path-select.ts";
import { parseJsonPath } from "../formats/json-path.ts";
import { quote } from "../validation/finding.ts";
import type { RenderedObject } from "../rendered.ts";

/** The version a render tells, or why none can be had: `problem` reads on after the field it came from. */
export type VersionReading =
  { readonly kind: "text"; readonly text: string } | { readonly kind: "unreadable"; readonly problem: string };

const versionLabel = "app.kubernetes.io/version";
/** Of objects that tell different versions. */
const mostNamed = 5;

/**
 * Reads `spec.version.fromObject` from what a stage renders (spec 30 §5.1). Several objects may match, in different
 * namespaces for one, as long as they tell the same. Values of Secrets are in no message.
 */
export function versionOfObjects(
  objects: readonly Pick<RenderedObject, "id" | "kind" | "name" | "body" | "secretInput">[],
  wanted: NonNullable<VersionSpec["fromObject"]>,
): VersionReading {
  const { kind, name, apiVersion } = wanted;
  const found: { readonly id: string; readonly text: string; readonly secret: boolean }[] = [];
  for (const object of objects) {
    if (object.kind !== kind || object.name !== name) continue;
    const content: unknown = JSON.parse(new TextDecoder().decode(object.body));
    if (apiVersion !== undefined && at(content, "apiVersion") !== apiVersion) continue;
    const reading = valueOf(content, wanted.fieldPath);
    if (reading.kind === "unreadable") return unreadable(`finds no version in ${object.id}: ${reading.problem}`);
    const secret = object.kind === "Secret" || object.secretInput === true;
    found.push({ id: object.id, text: reading.text.trim(), secret });
  }
  const [first] = found;
  if (first === undefined) {
    const of = apiVersion === undefined ? kind : `${apiVersion} ${kind}`;
    return unreadable(`matches nothing: the stage renders no ${of} ${quote(name)}`);
  }
  if (found.every(({ text }) => text === first.text)) return { kind: "text", text: first.text };
  const listed = found.slice(0, mostNamed).map(({ id, text, secret }) => (secret ? id : `${id} has ${quote(text)}`));
  const more = found.length > mostNamed ? ` and ${found.length - mostNamed} more` : "";
  return unreadable(`matches objects with different versions: ${listed.join(", ")}${more}`);
}

function valueOf(content: unknown, fieldPath: string | undefined): VersionReading {
  if (fieldPath === undefined) {
    const text = asText(at(content, "metadata", "labels", versionLabel));
    return text === undefined ? unreadable(`it has no label ${versionLabel}`) : { kind: "text", text };
  }
  const parsed = parseJsonPath(fieldPath);
  if (parsed.kind === "malformed") return unreadable(`${quote(fieldPath)} is no JSONPath: ${parsed.problem}`);
  const selected = selectText(parsed.path, content);
  return selected.kind === "text" ? selected : unreadable(`${quote(fieldPath)}: ${selected.problem}`);
}

function unreadable(problem: string): VersionReading {
  return { kind: "unreadable", problem };
}
