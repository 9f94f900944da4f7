import { migration as migrationSchemaOf } from "../../api/schema/stage-set-spec.ts";
import { compileReader } from "../../api/schema/reader.ts";
import type { Migration } from "../../api/stage-set.ts";
import type { PlacedMigration } from "../validation/places.ts";

/** One file of a ladder: its YAML documents, an empty one as `null`, or why it cannot be read. */
export type LadderFile =
  | { readonly kind: "documents"; readonly path: string; readonly documents: readonly unknown[] }
  | { readonly kind: "unreadable"; readonly path: string; readonly problem: string };

/** What is wrong with a ladder. `path` begins with that of the file; it is empty for what is wrong with all of it. */
export interface LadderProblem {
  readonly path: string;
  readonly message: string;
}

export interface ReadMigrations {
  /** Those that fit the schema, in the order of the files. */
  readonly migrations: readonly PlacedMigration[];
  readonly problems: readonly LadderProblem[];
}

/** Of more, only the number is told: a file of 16 MiB can hold a million. */
const mostRead = 10_000;
const read = compileReader(migrationSchemaOf(), "refused");

/** Whether a file of an artifact, by its path from the ladder's root, is one of the ladder. */
export function isLadderFile(path: string): boolean {
  return /\.(?:ya?ml|json)$/i.test(path) && !path.split("/").some((part) => part.startsWith("."));
}

/**
 * Reads the documents of a ladder's files strictly: each is one migration or a list of them, and a field that the schema
 * does not have is a problem, since a misspelt one must never fall back to a default (spec 30 §7). Rules beyond the
 * schema are `ladderProblems`.
 */
export function readMigrations(files: readonly LadderFile[]): ReadMigrations {
  const migrations: PlacedMigration[] = [];
  const problems: LadderProblem[] = [];
  let found = 0;
  for (const file of files) {
    if (file.kind === "unreadable") {
      problems.push({ path: file.path, message: file.problem });
      continue;
    }
    for (const { value, at } of itemsOf(file.documents)) {
      found++;
      if (found > mostRead) continue;
      const outcome = read(
        value,
        typeof at.item === "number" ? { parent: undefined, key: at.item } : undefined,
        (one) => {
          problems.push({ path: problemPath(heading(file.path, at.document, one.path)), message: one.message });
        },
      );
      if (outcome.kind !== "read") continue;
      const migration = outcome.value as Migration; // The reader was compiled from the schema whose type this is.
      const inFile = typeof at.item === "number" ? `[${at.item}]` : "";
      migrations.push({
        place: {
          path: heading(file.path, at.document, inFile),
          subject: `migration ${JSON.stringify(migration.name)}`,
        },
        migration,
      });
    }
  }
  if (found > mostRead) problems.push({ path: "", message: `has ${found} migrations, of which ${mostRead} were read` });
  if (found === 0 && problems.length === 0) problems.push({ path: "", message: "holds no migration" });
  return { migrations, problems };
}

interface Item {
  readonly value: unknown;
  readonly at: {
    /** Counted from 1; undefined for the only one. */
    readonly document: number | undefined;
    /** Undefined: the document is the migration. */
    readonly item: number | undefined;
  };
}

function* itemsOf(documents: readonly unknown[]): Generator<Item> {
  for (const [index, document] of documents.entries()) {
    if (document === null || document === undefined) continue;
    const number = documents.length > 1 ? index + 1 : undefined;
    if (Array.isArray(document))
      for (const [item, value] of document.entries()) yield { value, at: { document: number, item } };
    else yield { value: document, at: { document: number, item: undefined } };
  }
}

/** `ladder.yaml: document 2, [0].to`; it ends in a space where members of the document follow. */
function heading(file: string, document: number | undefined, path: string): string {
  return `${file}: ${document === undefined ? "" : `document ${document}, `}${path}`;
}

/** The place without what would lead on to a member. */
export function problemPath(path: string): string {
  return path.replace(/[:,] $/, "");
}
