/**
 * Renders the chart for those who install without Helm: the kustomize base and its components in `deploy/`, and with
 * `--out DIR` the release assets `install.yaml`, `install-minimal.yaml` and `crds.yaml`. `--check` fails, when `deploy/` is
 * not what the chart renders.
 */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { stringify } from "yaml";
import { components, renderBundles, renderKustomize } from "./chart/plain-manifests.ts";

const root = fileURLToPath(new URL("../deploy/", import.meta.url));
const { values } = parseArgs({ options: { check: { type: "boolean", default: false }, out: { type: "string" } } });

const files = await renderKustomize();
if (values.out !== undefined) {
  await mkdir(values.out, { recursive: true });
  for (const [name, objects] of await renderBundles())
    await writeFile(
      join(values.out, name),
      objects.map((object) => `---\n${stringify(object, { lineWidth: 0 })}`).join(""),
    );
} else if (values.check) await check();
else await write();

async function write(): Promise<void> {
  await rm(root, { recursive: true, force: true });
  for (const [path, content] of files) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
  process.stdout.write(`wrote the base and ${Object.keys(components).length} components to deploy/\n`);
}

async function check(): Promise<void> {
  const found = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
  const paths = found
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length));
  const stale = paths.filter((path) => !files.has(path));
  for (const [path, content] of files) {
    const text = await readFile(join(root, path), "utf8").catch(() => undefined); // A missing file is stale too.
    if (text !== content) stale.push(path);
  }
  if (stale.length === 0) return;
  process.stderr.write(
    `Not what the chart renders, run "npm run manifests":\n${stale.map((path) => `  deploy/${path}\n`).join("")}`,
  );
  process.exitCode = 1;
}
