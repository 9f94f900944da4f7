/**
 * Writes what follows from the code: CustomResourceDefinitions, rights, the chart's values and reference pages.
 *   npm run generate          writes the files
 *   npm run generate:check    fails if a file is not what would be written
 */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { apiGroup } from "../src/api/group.ts";
import { renderCrds } from "../src/api/crd.ts";
import { controllerFlags } from "../src/main/flags.ts";
import { renderApiReference } from "./api-reference.ts";
import {
  renderChartBuild,
  renderChartCrd,
  renderValuesSchema,
  renderValuesTable,
  renderValuesYaml,
} from "./chart/render-chart.ts";
import { renderChartRules, renderPlainRoles } from "./chart/render-rbac.ts";
import { chartValues } from "./chart/values.ts";
import {
  renderEventReference,
  renderFlagReference,
  renderMetricReference,
  renderReasonReference,
} from "./reference.ts";
import { renderDashboard } from "./monitoring/dashboard.ts";
import { renderChartAlerts, renderPlainAlerts } from "./monitoring/render-rules.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const crdFolder = "config/crd";
const chart = "charts/stageset-controller";
/** Folders that hold nothing but generated files. */
const ownFolders = [crdFolder, `${chart}/templates/crds`];
const command = "npm run generate";

/** Content by path from the root of the repository. */
async function generated(): Promise<ReadonlyMap<string, string>> {
  const header = `# Written by "${command}" from src/api; change it there.\n`;
  const crds = renderCrds().map((crd): [string, string] => [
    `${crdFolder}/${crdFileName(crd.metadata.name)}`,
    `${header}---\n${stringify(crd, { lineWidth: 0, aliasDuplicateObjects: false })}`,
  ]);
  const chartCrds = renderCrds().map((crd): [string, string] => [
    `${chart}/templates/crds/${crdFileName(crd.metadata.name)}`,
    renderChartCrd(crd, command),
  ]);
  return new Map([
    ...crds,
    ...chartCrds,
    ["docs/reference/api.md", renderApiReference(command)],
    ["docs/reference/flags.md", renderFlagReference(command)],
    ["docs/reference/metrics.md", renderMetricReference(command)],
    ["docs/reference/reasons.md", renderReasonReference(command)],
    ["docs/reference/events.md", renderEventReference(command)],
    ["config/rbac/controller.yaml", renderPlainRoles(command)],
    [`${chart}/templates/_rules.tpl`, renderChartRules(command)],
    [`${chart}/templates/_build.tpl`, renderChartBuild(controllerFlags, command)],
    [`${chart}/values.yaml`, renderValuesYaml(chartValues, command)],
    [`${chart}/values.schema.json`, renderValuesSchema(chartValues)],
    ["config/monitoring/alerts.yaml", renderPlainAlerts(command)],
    [`${chart}/files/alerts.yaml`, renderChartAlerts(command)],
    [`${chart}/files/dashboard.json`, renderDashboard()],
    [`${chart}/README.md`, await withValuesTable(`${chart}/README.md`)],
  ]);
}

/** The page as it is, its table of values as it should be. */
async function withValuesTable(path: string): Promise<string> {
  const [begin, end] = ["<!-- values -->\n", "<!-- /values -->\n"];
  const page = await readFile(join(root, path), "utf8");
  const [start, stop] = [page.indexOf(begin), page.indexOf(end)];
  if (start < 0 || stop < start) throw new Error(`${path}: the marks of the values table are missing`);
  return page.slice(0, start + begin.length) + renderValuesTable(chartValues) + page.slice(stop);
}

function crdFileName(name: string): string {
  return `${apiGroup}_${name.slice(0, name.indexOf("."))}.yaml`;
}

/** Files in folders that hold nothing but generated ones, for which there is no content any more. */
async function leftovers(files: ReadonlyMap<string, string>): Promise<readonly string[]> {
  const found = await Promise.all(
    ownFolders.map(async (folder) => {
      const names = await readdir(join(root, folder)).catch(() => []); // Nothing was generated yet.
      return names.map((name) => `${folder}/${name}`);
    }),
  );
  return found.flat().filter((path) => !files.has(path));
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
} else if (args.includes("--check")) await check(await generated());
else await write(await generated());
