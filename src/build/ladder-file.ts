import type { LadderFile } from "../domain/versions/read-migrations.ts";
import { parseYaml, YamlProblem } from "./yaml-parse.ts";

/** What an unquoted version or constraint would lose as a number. */
const asWritten: ReadonlySet<string> = new Set(["to", "from"]);

/** Reads a file of migrations as YAML, of which JSON is a part; what is wrong with it is a value, not thrown. */
export function readLadderFile({ path, bytes }: { readonly path: string; readonly bytes: Uint8Array }): LadderFile {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return { kind: "unreadable", path, problem: "is not UTF-8 text" };
  }
  try {
    return { kind: "documents", path, documents: parseYaml(text, "api", asWritten) };
  } catch (error) {
    if (!(error instanceof YamlProblem)) throw error;
    return { kind: "unreadable", path, problem: `cannot be read: ${error.message}` };
  }
}
