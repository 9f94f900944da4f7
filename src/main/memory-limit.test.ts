import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { controlGroupMemory } from "./memory-limit.ts";

const mebibyte = 1024 * 1024;
let dirs: string[] = [];
afterEach(async () => {
  await Promise.all(dirs.map((dir) => rm(dir, { recursive: true })));
  dirs = [];
});

/** The kernel's files as these texts. */
async function kernel(own: string, files: Readonly<Record<string, string>>) {
  const dir = await mkdtemp(join(tmpdir(), "stageset-cgroup-"));
  dirs.push(dir);
  const write = async (name: string, text: string): Promise<void> => {
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await writeFile(join(dir, name), text);
  };
  await write("own", own);
  for (const [name, text] of Object.entries(files)) await write(`sys/${name}`, text);
  return { read: controlGroupMemory({ proc: join(dir, "own"), sys: join(dir, "sys") }), write };
}

const second = (folder: string, max = String(512 * mebibyte)): Readonly<Record<string, string>> => ({
  [`${folder}memory.max`]: `${max}\n`,
  [`${folder}memory.current`]: `${300 * mebibyte}\n`,
  [`${folder}memory.stat`]: [
    `anon ${150 * mebibyte}`,
    `file ${140 * mebibyte}`,
    `shmem ${20 * mebibyte}`,
    `inactive_file ${80 * mebibyte}`,
    `active_file ${40 * mebibyte}`,
    `slab_reclaimable ${10 * mebibyte}`,
  ].join("\n"),
});
const first = (folder: string, limit = String(512 * mebibyte)): Readonly<Record<string, string>> => ({
  [`memory/${folder}memory.limit_in_bytes`]: `${limit}\n`,
  [`memory/${folder}memory.usage_in_bytes`]: `${300 * mebibyte}\n`,
  [`memory/${folder}memory.stat`]: `inactive_file 1\ntotal_inactive_file ${80 * mebibyte}\ntotal_active_file ${40 * mebibyte}\n`,
});
const firstOwn = (path: string): string => `5:cpu,cpuacct:/other\n4:memory:${path}\n0::/\n`;

describe("the memory of the control group", () => {
  test.each([
    ["version 2, its own folder", "0::/kube/pod\n", second("kube/pod/"), 170],
    ["version 2, in a container", "0::/\n", second(""), 170],
    ["version 2, with the host's path", "0::/../../pod\n", second(""), 170],
    ["version 1, its own folder", firstOwn("/kube/pod"), first("kube/pod/"), 180],
    ["version 1, in a container", firstOwn("/kube/pod"), first(""), 180],
  ])("%s: what the kernel cannot take back, of the limit", async (_, own, files, usedMiB) => {
    const { read } = await kernel(own, files);
    expect(read()).toEqual({ usedBytes: usedMiB * mebibyte, limitBytes: 512 * mebibyte });
  });

  test.each([
    ["version 2 without a limit", "0::/\n", second("", "max")],
    ["version 1 without a limit", firstOwn("/"), first("", "9223372036854771712")],
    ["a limit above what the machine has", "0::/\n", second("", "1000000000000000")],
    ["nothing readable", "0::/\n", {}],
    ["a file that says nothing", "", {}],
  ])("%s: unknown", async (_, own, files) => {
    const { read } = await kernel(own, files);
    expect(read()).toBeUndefined();
  });

  test("a limit that is changed later counts", async () => {
    const { read, write } = await kernel("0::/\n", second(""));
    await write("sys/memory.max", String(400 * mebibyte));
    expect(read()?.limitBytes).toBe(400 * mebibyte);
  });

  test("this machine's own files can be read, or say nothing", () => {
    const reading = controlGroupMemory()();
    if (reading !== undefined) expect(reading.usedBytes).toBeLessThan(2 * reading.limitBytes);
  });
});
