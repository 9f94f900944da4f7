import { openTree } from "../../src/build/open-tree.ts";
import type { ArtifactTree } from "../../src/pack/artifact-tree.ts";

/** All files of a pack or directory, as binary strings by path. */
export async function filesIn(root: string): Promise<Readonly<Record<string, string>>> {
  using tree = await openTree(root);
  return Object.fromEntries(walk(tree, ""));
}

function* walk(tree: ArtifactTree, directory: string): Generator<readonly [string, string]> {
  for (const { name, kind } of tree.list(directory)) {
    const path = directory === "" ? name : `${directory}/${name}`;
    if (kind === "directory") yield* walk(tree, path);
    else yield [path, Buffer.from(tree.read(path)).toString("latin1")];
  }
}
