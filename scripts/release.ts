/**
 * Writes the assets of a release to `--out DIR`, from what `npm run build` left in `dist/` (`--dist DIR`): the chart as a package, the
 * install bundles, the dashboard, the npm package of `stagesetctl`, an archive of it, notes from the changelog, SHA256SUMS.
 * `--check-version V` fails, when not everything that names a version names V.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { parse, stringify } from "yaml";
import { toolPath } from "../src/dev/tools.ts";
import { asText, at } from "../src/lib/json.ts";
import { version } from "../src/main/version.ts";
import { renderBundles } from "./chart/plain-manifests.ts";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../", import.meta.url));
const chart = join(root, "charts/stageset-controller");
const { values } = parseArgs({
  options: {
    out: { type: "string" },
    dist: { type: "string", default: join(root, "dist") },
    "check-version": { type: "string" },
  },
});

/** What npm shows of the package. */
const commandLineReadme = `# stagesetctl

Looks at [StageSets](https://github.com/metio/stageset-controller) from a terminal: what a release waits for, what the gate of a stage answers.

\`\`\`sh
npm install --global stagesetctl
stagesetctl gate shop --namespace shop --stage app
\`\`\`

Needs Node 24.15 or later, and talks to the cluster of your kubeconfig with your own rights. It is installed as \`kubectl-stageset\` too:
\`kubectl stageset gate …\` is the same.
`;

if (values["check-version"] !== undefined) await checkVersion(values["check-version"]);
else if (values.out !== undefined) await writeAssets(values.out);
else {
  process.stderr.write("Usage: node scripts/release.ts --out DIR | --check-version VERSION\n");
  process.exitCode = 2;
}

async function checkVersion(wanted: string): Promise<void> {
  const manifest: unknown = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  const chartFile: unknown = parse(await readFile(join(chart, "Chart.yaml"), "utf8"));
  const named = {
    "package.json": asText(at(manifest, "version")),
    "src/main/version.ts": version,
    "Chart.yaml, version": asText(at(chartFile, "version")),
    "Chart.yaml, appVersion": asText(at(chartFile, "appVersion")),
  };
  for (const [where, found] of Object.entries(named)) {
    if (found === wanted) continue;
    process.stderr.write(`${where} names version "${found ?? ""}", not "${wanted}"\n`);
    process.exitCode = 1;
  }
}

async function writeAssets(out: string): Promise<void> {
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  await run(await toolPath("helm"), ["package", chart, `--destination=${out}`]);
  for (const [name, objects] of await renderBundles())
    await writeFile(join(out, name), objects.map((object) => `---\n${stringify(object, { lineWidth: 0 })}`).join(""));
  await copyFile(join(chart, "files/dashboard.json"), join(out, "dashboard.json"));
  await packCommandLine(out);
  await writeFile(join(out, "NOTES.md"), await notes());
  await writeSums(out);
}

/** The npm package: the bundle and two names for it. The archive holds the same, for those without npm but with Node. */
async function packCommandLine(out: string): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "stagesetctl-"));
  try {
    const folder = join(dir, "stagesetctl");
    await mkdir(join(folder, "bin"), { recursive: true });
    await cp(join(values.dist, "stagesetctl.js"), join(folder, "lib/stagesetctl.js"));
    await cp(join(values.dist, "web"), join(folder, "lib/web"), { recursive: true });
    await cp(join(values.dist, "stagesetctl.js.LEGAL.txt"), join(folder, "lib/stagesetctl.js.LEGAL.txt"));
    await copyFile(join(root, "LICENSE"), join(folder, "LICENSE"));
    await writeFile(join(folder, "README.md"), commandLineReadme);
    const launcher = join(folder, "bin/stagesetctl.js");
    await writeFile(launcher, '#!/usr/bin/env node\nimport "../lib/stagesetctl.js";\n');
    await chmod(launcher, 0o755);
    const bin = { stagesetctl: "bin/stagesetctl.js", "kubectl-stageset": "bin/stagesetctl.js" };
    const manifest = {
      name: "stagesetctl",
      version,
      description: "Looks at StageSets and what they wait for",
      license: "Apache-2.0",
      // npm's provenance compares it with where the workflow runs.
      repository: { type: "git", url: "git+https://github.com/metio/stageset-controller.git" },
      type: "module",
      engines: { node: ">=24.15" },
      bin,
    };
    await writeFile(join(folder, "package.json"), `${JSON.stringify(manifest, undefined, 2)}\n`);
    await run("npm", ["pack", folder, `--pack-destination=${out}`], { cwd: dir });
    await run("tar", ["-czf", join(out, `stagesetctl-${version}.tar.gz`), "-C", dir, "stagesetctl"]);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** The changelog's section of this version, else what is unreleased. */
async function notes(): Promise<string> {
  const text = await readFile(join(root, "CHANGELOG.md"), "utf8");
  const sections = new Map(
    text
      .split(/^## /m)
      .slice(1)
      .map((section) => [section.slice(0, section.indexOf("\n")).trim(), section.slice(section.indexOf("\n")).trim()]),
  );
  return `${sections.get(version) ?? sections.get("Unreleased") ?? ""}\n`;
}

async function writeSums(out: string): Promise<void> {
  const names = (await readdir(out)).filter((name) => name !== "NOTES.md").sort();
  const lines = await Promise.all(
    names.map(async (name) => {
      const hash = createHash("sha256")
        .update(await readFile(join(out, name)))
        .digest("hex");
      return `${hash}  ${name}\n`;
    }),
  );
  await writeFile(join(out, "SHA256SUMS"), lines.join(""));
}
