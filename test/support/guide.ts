import { readFile } from "node:fs/promises";
import { parseAllDocuments } from "yaml";
import type { Manifest } from "./test-client.ts";

/** The YAML blocks of a guide by their title, with parts of their text replaced. */
export async function guideBlocks(
  file: string,
  replace: Readonly<Record<string, string>> = {},
): Promise<ReadonlyMap<string, readonly Manifest[]>> {
  const text = await readFile(new URL(`../../docs/guides/${file}`, import.meta.url), "utf8");
  const blocks = new Map<string, readonly Manifest[]>();
  for (const [, title, body] of text.matchAll(/```yaml title=(\S+)\n(.*?)```/gs)) {
    if (title === undefined || body === undefined) continue;
    let shown = body;
    for (const [from, to] of Object.entries(replace)) shown = shown.replaceAll(from, to);
    // The guide's blocks are manifests.
    blocks.set(
      title,
      parseAllDocuments(shown).map((document) => document.toJS() as Manifest),
    );
  }
  return blocks;
}
