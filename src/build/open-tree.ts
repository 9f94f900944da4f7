import { statSync } from "node:fs";
import type { ArtifactTree } from "../pack/artifact-tree.ts";
import { openPack } from "../pack/pack-tree.ts";
import { openDirectory } from "./directory-tree.ts";

/**
 * The files of an artifact: of a pack, or of a real directory, whatever is there. To be disposed.
 *
 * @throws {PackError} also later, from what is read
 * @throws a file system's error
 */
export async function openTree(root: string): Promise<ArtifactTree> {
  return statSync(root).isDirectory() ? openDirectory(root) : openPack(root);
}
