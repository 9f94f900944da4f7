import { PackError } from "../pack/pack-error.ts";
import { openTree } from "./open-tree.ts";

/** The text of a file, or why there is none: `problem` reads on after its name. */
export type TextFile =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "unreadable"; readonly problem: string }
  /** What is kept of the artifact is not what was fetched. */
  | { readonly kind: "damaged" };

/** Reads a small file of an artifact as UTF-8 text. */
export async function readTextFile(
  root: string,
  { path: written, mostBytes }: { readonly path: string; readonly mostBytes: number },
): Promise<TextFile> {
  const path = cleanedPath(written);
  try {
    using tree = await openTree(root);
    const entry = path === undefined ? undefined : tree.find(path);
    if (path === undefined || entry?.kind !== "file")
      return { kind: "unreadable", problem: "is not there: the artifact has no such file" };
    if (entry.bytes > mostBytes)
      return { kind: "unreadable", problem: `has ${entry.bytes} bytes, more than ${mostBytes}` };
    return { kind: "text", text: new TextDecoder("utf-8", { fatal: true }).decode(tree.read(path)) };
  } catch (error) {
    if (error instanceof PackError) return { kind: "damaged" };
    if (error instanceof TypeError) return { kind: "unreadable", problem: "is not UTF-8 text" };
    throw error;
  }
}

/** `./VERSION` is `VERSION`; undefined: it leads out of the artifact. */
export function cleanedPath(path: string): string | undefined {
  const segments: string[] = [];
  for (const segment of path.split("/")) {
    if (segment === "" || segment === ".") continue;
    if (segment !== "..") segments.push(segment);
    else if (segments.pop() === undefined) return undefined;
  }
  return segments.join("/");
}
