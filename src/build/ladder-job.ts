import type { Job } from "../compute/job.ts";
import { readMigrations, type ReadMigrations } from "../domain/versions/read-migrations.ts";
import { readLadderTree } from "./ladder-tree.ts";

/** The name under which workers run {@link ladderJob}. */
export const ladderJobName = "ladder";

/** Of all that is wrong with a ladder, no message says more. */
const mostProblems = 100;

export interface LadderInput {
  /** Of the artifact's pack. */
  readonly root: string;
  readonly path: string;
}
export type LadderOutput =
  /** `bytes`: of the files. */
  ({ readonly kind: "read"; readonly bytes: number } & ReadMigrations) | { readonly kind: "damaged" };

/** Reads and parses a ladder away from everybody else: its YAML comes from a tenant. */
export const ladderJob: Job = async (input) => {
  // What the engine posted, cloned.
  const { root, path } = input as LadderInput;
  const tree = await readLadderTree(root, path);
  if (tree.kind === "damaged") return { output: tree satisfies LadderOutput };
  const { migrations, problems } = readMigrations(tree.files);
  return {
    output: {
      kind: "read",
      bytes: tree.bytes,
      migrations,
      problems: problems.slice(0, mostProblems),
    } satisfies LadderOutput,
  };
};
