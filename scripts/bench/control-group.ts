import { mkdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sleep, systemClock } from "../../src/lib/clock.ts";

/** What a pod may use. */
export interface Limits {
  readonly cpus: number;
  readonly memoryMiB: number;
}

/** A control group like a pod's. */
export interface ControlGroup extends AsyncDisposable {
  add(pid: number): Promise<void>;
  /** How often the kernel ended a process of it for its memory. */
  killed(): Promise<number>;
  /** The most memory it held, page cache included, MB. */
  peakMb(): Promise<number>;
}

const root = "/sys/fs/cgroup";
const periodMicros = 100_000;
const mebibyte = 1024 * 1024;
let made = 0;

/**
 * Makes one, version 1 or 2; every process of it must have ended before it is disposed.
 *
 * @throws {Error} where this user may not: the rows it is for measure nothing without
 */
export async function createControlGroup(limits: Limits): Promise<ControlGroup> {
  const name = `stageset-bench-${process.pid}-${made++}`;
  const kinds = [firstVersion, secondVersion];
  const failures: unknown[] = [];
  for (const make of kinds)
    try {
      return await make(name, limits);
    } catch (error) {
      failures.push(error);
    }
  throw new AggregateError(
    failures,
    "Cannot make a control group: run this row as root, where /sys/fs/cgroup is writable",
  );
}

async function firstVersion(name: string, { cpus, memoryMiB }: Limits): Promise<ControlGroup> {
  const [memory, cpu] = [join(root, "memory", name), join(root, "cpu", name)];
  await mkdir(memory);
  await mkdir(cpu);
  await writeFile(join(memory, "memory.limit_in_bytes"), String(memoryMiB * mebibyte));
  await writeFile(join(cpu, "cpu.cfs_period_us"), String(periodMicros));
  await writeFile(join(cpu, "cpu.cfs_quota_us"), String(cpus * periodMicros));
  return {
    async add(pid) {
      for (const folder of [memory, cpu]) await writeFile(join(folder, "cgroup.procs"), String(pid));
    },
    killed: async () => numberOf(/oom_kill (\d+)/, await readFile(join(memory, "memory.oom_control"), "utf8")),
    peakMb: async () => Number(await readFile(join(memory, "memory.max_usage_in_bytes"), "utf8")) / 1e6,
    async [Symbol.asyncDispose]() {
      for (const folder of [memory, cpu]) await removeGroup(folder);
    },
  };
}

async function secondVersion(name: string, { cpus, memoryMiB }: Limits): Promise<ControlGroup> {
  const folder = join(root, name);
  await mkdir(folder);
  await writeFile(join(folder, "memory.max"), String(memoryMiB * mebibyte));
  await writeFile(join(folder, "memory.swap.max"), "0");
  await writeFile(join(folder, "cpu.max"), `${cpus * periodMicros} ${periodMicros}`);
  return {
    add: (pid) => writeFile(join(folder, "cgroup.procs"), String(pid)),
    killed: async () => numberOf(/oom_kill (\d+)/, await readFile(join(folder, "memory.events"), "utf8")),
    peakMb: async () => Number(await readFile(join(folder, "memory.peak"), "utf8")) / 1e6,
    [Symbol.asyncDispose]: () => removeGroup(folder),
  };
}

/** A process is in its group until the kernel has taken it apart. */
async function removeGroup(folder: string): Promise<void> {
  for (let left = 50; ; left--)
    try {
      await rmdir(folder);
      return;
    } catch (error) {
      if (left === 0) throw error;
      await sleep(systemClock, 100);
    }
}

function numberOf(pattern: RegExp, text: string): number {
  return Number(pattern.exec(text)?.[1] ?? "0");
}
