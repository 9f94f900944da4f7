/**
 * Bundles what a release holds into `dist/`: the programs, the entry of the workers, the WebAssembly modules, the web UI.
 * The launchers in `bin/` run it when it is there. `--out DIR` writes elsewhere.
 */
import { copyFile, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createRequire, isBuiltin } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build, type BuildOptions } from "esbuild";
import { celWasm, kustomizeWasm } from "../src/dev/tools.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
/** Files by name in `dist/`, whole; `worker.js` and the modules are looked for beside the program. */
const wholes = { stagesetctl: "src/main/stagesetctl.ts" };
/** What they load on demand (tracing, credential plugins, certificates, keys) is in files of its own and costs no memory before. */
const parted = { controller: "src/main/controller.ts", worker: "src/main/worker.ts" };

const otlpBase = "@opentelemetry/otlp-grpc-exporter-base";
const common = {
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node24",
  minifySyntax: true,
  minifyWhitespace: true,
  // Licences stay with the code they are of.
  legalComments: "linked",
  // Builds WebAssembly in a checkout; a release has the modules beside its programs.
  external: ["*/dev/tools.ts"],
  // Its ECMAScript form asks for gRPC in a way no bundler sees.
  alias: { [otlpBase]: createRequire(import.meta.url).resolve(otlpBase) },
  // Packages written as CommonJS ask for Node's modules at run time.
  banner: {
    js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
  },
  logLevel: "warning",
} satisfies BuildOptions;

const { values } = parseArgs({ options: { out: { type: "string", default: join(root, "dist") } } });
await buildRelease(values.out);

async function buildRelease(out: string): Promise<void> {
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  await build({ ...common, entryPoints: wholes, outdir: out });
  await build({ ...common, entryPoints: parted, outdir: out, splitting: true, chunkNames: "[name]-[hash]" });
  await refuseUnbundled(out);
  await writeFile(join(out, "package.json"), '{ "type": "module" }\n');
  const onProgress = (line: string): void => void process.stderr.write(`${line}\n`);
  await copyFile(await kustomizeWasm({ onProgress }), join(out, "kustomize.wasm"));
  await copyFile(await celWasm({ onProgress }), join(out, "cel.wasm"));
  // The page of the web UI is served as it is committed.
  await mkdir(join(out, "web"));
  for (const name of await readdir(join(root, "web")))
    if (/\.(?:html|js|css|svg)$/.test(name)) await copyFile(join(root, "web", name), join(out, "web", name));
  for (const name of [
    ...Object.keys({ ...parted, ...wholes }).map((entry) => `${entry}.js`),
    "kustomize.wasm",
    "cel.wasm",
  ]) {
    const { size } = await stat(join(out, name));
    process.stdout.write(`${(size / 1_000_000).toFixed(1).padStart(6)} MB  ${join(out, name)}\n`);
  }
}

/** A package that is asked for at run time is not there in an image. */
async function refuseUnbundled(out: string): Promise<void> {
  for (const name of await readdir(out)) {
    const code = await readFile(join(out, name), "utf8");
    const asked = [...code.matchAll(/\b__require\d*\("([^"]+)"\)/g)].map(([, module = ""]) => module);
    const missing = asked.find((module) => !isBuiltin(module));
    if (missing !== undefined)
      throw new Error(`${name} asks for "${missing}" at run time: bundle it (alias, or an import)`);
  }
}
