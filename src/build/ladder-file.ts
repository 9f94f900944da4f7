import type { LadderFile } from "../domain/versions/read-migrations.ts";
import { parseYaml, YamlProblem } from "./yaml-parse.ts";

/** Of all files of a ladder: as much as a StageSet can hold inline. Parsed, a hostile one takes some 200 MB for a moment. */
export const mostLadderBytes = 1024 * 1024;

/** What is wrong with the file that does not fit any more, and what helps. */
export const tooLarge = `makes the ladder larger than ${mostLadderBytes} bytes: give long content to steps as artifacts, or take out migrations that no installation has to cross`;

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
