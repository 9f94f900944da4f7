import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { runbookIds } from "../../src/api/runbook.ts";
import { controllerFlags } from "../../src/main/flags.ts";

const root = new URL("../../", import.meta.url);
const run = promisify(execFile);

test("[60.29] every runbook id has a page with all of its parts, and every page an id", async () => {
  const folder = new URL("docs/runbooks/", root);
  const pages = (await readdir(folder)).filter((name) => name !== "README.md").map((name) => name.replace(/\.md$/, ""));
  expect(pages.toSorted()).toEqual([...runbookIds].toSorted());
  const index = await readFile(new URL("README.md", folder), "utf8");
  for (const id of runbookIds) {
    const page = await readFile(new URL(`${id}.md`, folder), "utf8");
    const parts = [...page.matchAll(/^## (.+)\n\n(?!#|\n)/gm)].map(([, title]) => title);
    expect(parts, id).toEqual(["Symptom", "Meaning", "First check", "Fix", "When to escalate"]);
    expect(index).toContain(`(${id}.md)`);
  }
});

test("[60.29] reference pages and the chart's values are what the code says", async () => {
  const script = fileURLToPath(new URL("scripts/generate.ts", root));
  const { stderr } = await run(process.execPath, [script, "--check"], { cwd: fileURLToPath(root) });
  expect(stderr).toBe("");
  const flags = await readFile(new URL("docs/reference/flags.md", root), "utf8");
  for (const { name } of controllerFlags) expect(flags).toContain(`\`--${name}`);
}, 120_000);
