import { readFileSync } from "node:fs";
import { join } from "node:path";
import { totalmem } from "node:os";
import type { MemoryReading } from "../runtime/memory-guard.ts";

/** Where the kernel tells of control groups; others in tests. */
export interface ControlGroupFiles {
  readonly proc: string;
  readonly sys: string;
}

const systemFiles: ControlGroupFiles = { proc: "/proc/self/cgroup", sys: "/sys/fs/cgroup" };

/**
 * Reads how much memory this process's control group holds and may hold. Page cache is not counted: the kernel drops it before
 * it kills; files on tmpfs (a memory-backed emptyDir) are. Undefined where no limit below the machine's memory is set.
 */
export function controlGroupMemory(files: ControlGroupFiles = systemFiles): () => MemoryReading | undefined {
  const group = [secondVersion(files), firstVersion(files)].find((each) => each?.() !== undefined);
  return group ?? (() => undefined);
}

type Read = () => MemoryReading | undefined;

// Version 2: `0::/path`; in a container the path is that of its own namespace, most often `/`.
function secondVersion({ proc, sys }: ControlGroupFiles): Read | undefined {
  const path = pathIn(proc, /^0::(.*)$/m);
  if (path === undefined) return undefined;
  return inFolder([join(sys, path), sys], (folder) => {
    const limitBytes = limitIn(join(folder, "memory.max"));
    const stat = textOf(join(folder, "memory.stat"));
    const cache = numberIn(stat, "inactive_file") + numberIn(stat, "active_file") + numberIn(stat, "slab_reclaimable");
    return readingOf(limitBytes, Number(textOf(join(folder, "memory.current"))) - cache);
  });
}

// Version 1: a hierarchy of its own for memory; in a container its root is the container's group, while the path is the host's.
function firstVersion({ proc, sys }: ControlGroupFiles): Read | undefined {
  const path = pathIn(proc, /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m);
  if (path === undefined) return undefined;
  const root = join(sys, "memory");
  return inFolder([join(root, path), root], (folder) => {
    const limitBytes = limitIn(join(folder, "memory.limit_in_bytes"));
    const stat = textOf(join(folder, "memory.stat"));
    const cache = numberIn(stat, "total_inactive_file") + numberIn(stat, "total_active_file");
    return readingOf(limitBytes, Number(textOf(join(folder, "memory.usage_in_bytes"))) - cache);
  });
}

function inFolder(folders: readonly string[], read: (folder: string) => MemoryReading | undefined): Read | undefined {
  const quietly = (folder: string): MemoryReading | undefined => {
    try {
      return read(folder);
    } catch {
      return undefined;
    }
  };
  const folder = folders.find((each) => quietly(each) !== undefined);
  return folder === undefined ? undefined : () => quietly(folder);
}

function readingOf(limitBytes: number, usedBytes: number): MemoryReading | undefined {
  // "max" is no number, and version 1 names one beyond any machine.
  if (!Number.isFinite(usedBytes) || !(limitBytes > 0 && limitBytes < totalmem())) return undefined;
  return { usedBytes, limitBytes };
}

function pathIn(file: string, line: RegExp): string | undefined {
  try {
    return line.exec(textOf(file))?.[1];
  } catch {
    return undefined;
  }
}

function limitIn(file: string): number {
  return Number(textOf(file));
}

function numberIn(stat: string, field: string): number {
  return Number(new RegExp(`^${field} (\\d+)$`, "m").exec(stat)?.[1] ?? "0");
}

// Read by the kernel from memory, in less than 0.1 ms: a thread of the pool would take longer to hand it over.
function textOf(file: string): string {
  return readFileSync(file, "utf8").trim();
}
