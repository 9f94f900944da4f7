import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { extract } from "tar-stream";
import type { Clock } from "../lib/clock.ts";
import type { GuardedFetch } from "../outbound/guard.ts";
import { SourceError } from "./source-error.ts";
export interface OpenArtifact extends AsyncDisposable {
  readonly root: string;
  readonly digest: string;
}
export interface ArtifactStore extends AsyncDisposable {
  open(
    artifact: { readonly url: string; readonly digest: string },
    o: { readonly signal: AbortSignal },
  ): Promise<OpenArtifact>;
  openKept(digest: string, o: { readonly signal: AbortSignal }): Promise<OpenArtifact | undefined>;
}
export function createArtifactStore({
  dir,
  fetch,
}: {
  readonly dir: string;
  readonly fetch: GuardedFetch;
  readonly clock: Clock;
}): ArtifactStore {
  const kept = new Map<string, Promise<string>>();
  const get = async (a: { url: string; digest: string }, signal: AbortSignal): Promise<string> => {
    const r = await fetch(a.url, { signal });
    if (r.status === 404) throw new SourceError("Moved", "moved");
    const bytes = Buffer.from(await r.arrayBuffer());
    if ("sha256:" + createHash("sha256").update(bytes).digest("hex") !== a.digest)
      throw new SourceError("DigestMismatch", `digest is not ${a.digest}`);
    const root = join(dir, a.digest.replace(":", "-"));
    await mkdir(root, { recursive: true });
    const x = extract();
    x.end(gunzipSync(bytes));
    for await (const entry of x) {
      const chunks: Buffer[] = [];
      for await (const c of entry) chunks.push(c as Buffer);
      const path = join(root, entry.header.name);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, Buffer.concat(chunks));
    }
    return root;
  };
  const opened = (root: string, digest: string): OpenArtifact => ({
    root,
    digest,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
  return {
    async open(a, { signal }) {
      const p = kept.get(a.digest) ?? get(a, signal);
      kept.set(a.digest, p);
      p.catch(() => kept.delete(a.digest));
      return opened(await p, a.digest);
    },
    async openKept(digest) {
      const p = kept.get(digest);
      return p === undefined ? undefined : opened(await p, digest);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
