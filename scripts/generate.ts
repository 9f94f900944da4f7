/**
 * Writes what follows from the code: CustomResourceDefinitions and reference pages.
 *   npm run generate          writes the files
 *   npm run generate:check    fails if a file is not what would be written
 */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { apiGroup } from "../src/api/group.ts";
import { renderCrds } from "../src/api/crd.ts";
import { renderApiReference } from "./api-reference.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const crdFolder = "config/crd";
const command = "npm run generate";

/** Content by path from the root of the repository. */
function generated(): ReadonlyMap<string, string> {
  const header = `# Written by "${command}" from src/api; change it there.\n`;
  const crds = renderCrds().map((crd): [string, string] => [
    `${crdFolder}/${crdFileName(crd.metadata.name)}`,
    `${header}---\n${stringify(crd, { lineWidth: 0, aliasDuplicateObjects: false })}`,
  ]);
  return new Map([...crds, ["docs/reference/api.md", renderApiReference(command)]]);
}

function crdFileName(name: string): string {
  return `${apiGroup}_${name.slice(0, name.indexOf("."))}.yaml`;
}

/** Files in folders that hold nothing but generated ones, for which there is no content any more. */
async function leftovers(files: ReadonlyMap<string, string>): Promise<readonly string[]> {
  const names = await readdir(join(root, crdFolder)).catch(() => []); // Nothing was generated yet.
  return names.map((name) => `${crdFolder}/${name}`).filter((path) => !files.has(path));
}

async function write(files: ReadonlyMap<string, string>): Promise<void> {
  for (const [path, content] of files) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
  for (const path of await leftovers(files)) await rm(join(root, path));
}

async function check(files: ReadonlyMap<string, string>): Promise<void> {
  const stale = [...(await leftovers(files))];
  for (const [path, content] of files) {
    const found = await readFile(join(root, path), "utf8").catch(() => undefined); // A missing file is stale too.
    if (found !== content) stale.push(path);
  }
  if (stale.length === 0) return;
  process.stderr.write(
    `Not what would be generated, run "${command}":\n${stale.map((path) => `  ${path}\n`).join("")}`,
  );
  process.exitCode = 1;
}

const args = process.argv.slice(2);
if (args.some((arg) => arg !== "--check")) {
  process.stderr.write(`Usage: ${command} [-- --check]\n`);
  process.exitCode = 2;
} else if (args.includes("--check")) await check(generated());
else await write(generated());
