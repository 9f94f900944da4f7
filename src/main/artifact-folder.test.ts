import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createArtifactFolder } from "./artifact-folder.ts";

let parent = "";
beforeEach(async () => void (parent = await mkdtemp(join(tmpdir(), "artifact-folder-"))));
afterEach(() => rm(parent, { recursive: true, force: true }));

/** A process that has been and gone. */
async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ["-e", ""]);
  await new Promise((resolve) => child.once("exit", resolve));
  return child.pid ?? 0;
}

test("folders of killed processes go, those of living ones and everything else stay", async () => {
  const dead = `stageset-artifacts-${await deadPid()}-abcdef`;
  await mkdir(join(parent, dead, "artifacts-x"), { recursive: true });
  await writeFile(join(parent, dead, "artifacts-x", "0"), "left behind", { mode: 0o400 });
  const others = [`stageset-artifacts-${process.ppid}-abcdef`, "stageset-artifacts-x", "something-else"];
  for (const name of others) await mkdir(join(parent, name));
  const first = await createArtifactFolder(parent);
  const second = await createArtifactFolder(parent);
  expect((await readdir(parent)).toSorted()).toEqual([...others, basename(first), basename(second)].toSorted());
});

test("one of a process with this one's number goes if it is from before this one", async () => {
  const before = performance.timeOrigin;
  const left = join(parent, `stageset-artifacts-${process.pid}-before`);
  await mkdir(left);
  try {
    Object.defineProperty(performance, "timeOrigin", { value: Date.now() + 60_000, configurable: true });
    await createArtifactFolder(parent);
  } finally {
    Object.defineProperty(performance, "timeOrigin", { value: before, configurable: true });
  }
  expect(await readdir(parent)).not.toContain(basename(left));
});
