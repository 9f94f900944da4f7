import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initTUF } from "@sigstore/tuf";

/** The trusted root of the public instance, by TUF, which needs a folder for as long as it takes. */
export async function fetchPublicRoot(
  tuf: {
    /** Default: the public instance. */
    readonly mirrorURL?: string;
    readonly rootPath?: string;
  } = {},
): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "stageset-tuf-"));
  try {
    const client = await initTUF({ ...tuf, cachePath: dir, timeout: 10_000, retry: false });
    return await client.getTarget("trusted_root.json");
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
