/**
 * Lays out the root file system of the image in `--out DIR`: Node with the libraries it loads, the bundle in `--dist DIR`
 * (default `dist/`), the launchers, the definitions under `/crds`, and the user the programs run as. Nothing else: no shell,
 * no package manager. The Dockerfile and the test of the image use it alike.
 */
import { chmod, copyFile, mkdir, readdir, realpath, rm, writeFile } from "node:fs/promises";
import { execFile } from "node:child_process";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";

const root = fileURLToPath(new URL("../", import.meta.url));
const { values } = parseArgs({
  options: {
    out: { type: "string" },
    dist: { type: "string", default: join(root, "dist") },
    /** The Node that goes into the image: by default the one that runs this. */
    node: { type: "string", default: process.execPath },
  },
});
if (values.out === undefined) {
  process.stderr.write("Usage: npm run image-root -- --out DIR [--dist DIR] [--node PATH]\n");
  process.exitCode = 2;
} else await layOut(values.out, values);

async function layOut(out: string, { dist, node }: { readonly dist: string; readonly node: string }): Promise<void> {
  await rm(out, { recursive: true, force: true });
  const program = join(out, "usr/lib/stageset-controller");
  await copyInto(node, join(out, "usr/bin/node"), 0o755);
  for (const library of await librariesOf(node)) await copyInto(library, join(out, library), 0o755);
  for (const entry of await readdir(dist, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isDirectory()) await copyInto(path, join(program, relative(dist, path)), 0o644);
  }
  // The kernel reads the first line: neither a shell nor env is needed.
  for (const [name, bundle] of [
    ["stageset-controller", "controller.js"],
    ["stagesetctl", "stagesetctl.js"],
  ] as const) {
    const launcher = join(out, "usr/bin", name);
    await writeFile(launcher, `#!/usr/bin/node\nimport "/usr/lib/stageset-controller/${bundle}";\n`);
    await chmod(launcher, 0o755);
  }
  for (const name of await readdir(join(root, "config/crd")))
    await copyInto(join(root, "config/crd", name), join(out, "crds", name), 0o644);
  await writeInto(join(out, "etc/passwd"), "nonroot:x:65532:65532:nonroot:/nonexistent:/nonexistent\n");
  await writeInto(join(out, "etc/group"), "nonroot:x:65532:\n");
  await writeInto(join(out, "etc/nsswitch.conf"), "hosts: files dns\n");
  await mkdir(join(out, "tmp"), { recursive: true });
  await chmod(join(out, "tmp"), 0o1777);
}

/** What the dynamic loader would map, the loader among it, by the paths it looks them up under. */
async function librariesOf(program: string): Promise<readonly string[]> {
  const { stdout } = await promisify(execFile)("ldd", [program]);
  return stdout.split("\n").flatMap((line) => /(?:=> )?(\/\S+) \(0x/.exec(line)?.[1] ?? []);
}

async function copyInto(from: string, to: string, mode: number): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  // Links such as libc.so.6 → libc-2.36.so become the file under the name that is looked up.
  await copyFile(await realpath(from), join(dirname(to), basename(to)));
  await chmod(to, mode);
}

async function writeInto(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}
