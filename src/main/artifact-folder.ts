import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";

const prefix = "stageset-artifacts-";

/**
 * A new folder below `parent` for the artifacts of this process, who removes it. Those of processes that were killed go now:
 * the volume of a container outlives it, and would fill up over a row of crashes.
 */
export async function createArtifactFolder(parent: string): Promise<string> {
  for (const name of await readdir(parent)) {
    const pid = /^stageset-artifacts-(\d+)-/.exec(name)?.[1];
    if (pid === undefined) continue;
    const path = join(parent, name);
    // What cannot be removed is another user's.
    if (await isLeftBehind(path, Number(pid))) await rm(path, { recursive: true, force: true }).catch(() => undefined);
  }
  return mkdtemp(join(parent, `${prefix}${process.pid}-`));
}

/** Its process is gone; or had the number that is ours now, as in a container that starts again. */
async function isLeftBehind(path: string, pid: number): Promise<boolean> {
  if (pid !== process.pid) return !isAlive(pid);
  const found = await stat(path).catch(() => undefined);
  return found !== undefined && found.birthtimeMs < performance.timeOrigin;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // No permission means that there is one.
    return !(error instanceof Error && "code" in error && error.code === "ESRCH");
  }
}
