import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, symlink } from "node:fs/promises";
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../../", import.meta.url));
let installed: Promise<string> | undefined;

/**
 * The launcher of a bundle of the sources as they are now: what users run, with its flags and the pinned Node. Built once per
 * run, in a folder of its own that goes with this process: a `dist/` that is left from earlier is never measured.
 */
export function bundledProgram(): Promise<string> {
  installed ??= install();
  return installed;
}

async function install(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "stageset-bench-program-"));
  process.once("exit", () => rmSync(dir, { recursive: true, force: true }));
  await promisify(execFile)(process.execPath, [join(root, "scripts/build.ts"), "--out", join(dir, "dist")]);
  // The launcher looks for both beside its own folder.
  await symlink(join(root, "node_modules"), join(dir, "node_modules"));
  await mkdir(join(dir, "bin"));
  const launcher = join(dir, "bin", "stageset-controller");
  await copyFile(join(root, "bin", "stageset-controller"), launcher);
  return launcher;
}
