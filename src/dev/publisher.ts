import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join, relative } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { pack } from "tar-stream";
import { asNumber, at } from "../lib/json.ts";
import { type ApiTarget, callApi } from "./api-call.ts";

/** Files of an artifact by path. */
export type ArtifactFiles = Readonly<Record<string, string | Buffer>>;

/** Serves artifacts on loopback and announces them as ExternalArtifacts, as a source controller would. */
export interface Publisher extends AsyncDisposable {
  /** Creates the ExternalArtifact, or moves it on. */
  publish(artifact: {
    readonly namespace: string;
    readonly name: string;
    readonly revision: string;
    readonly files: ArtifactFiles;
  }): Promise<void>;
}

const compress = promisify(gzip);

export async function startPublisher(api: ApiTarget): Promise<Publisher> {
  const archives = new Map<string, Buffer>();
  const server = createServer((request, response) => {
    const body = archives.get(request.url ?? "");
    response.writeHead(body === undefined ? 404 : 200, { "content-length": body?.byteLength ?? 0 });
    response.end(body);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === "object" ? (address?.port ?? 0) : 0}`;
  return {
    async publish({ namespace, name, revision, files }) {
      const archive = await archiveOf(files);
      const hash = createHash("sha256").update(archive).digest("hex");
      const path = `/${namespace}/${name}/${hash}.tar.gz`;
      archives.set(path, archive);
      await announce(api, { namespace, name, revision, url: url + path, digest: `sha256:${hash}` });
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Reads every file below a folder. */
export async function readFolder(folder: string): Promise<ArtifactFiles> {
  const files: Record<string, Buffer> = {};
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    files[relative(folder, path)] = await readFile(path);
  }
  return files;
}

async function archiveOf(files: ArtifactFiles): Promise<Buffer> {
  const archive = pack();
  for (const [name, body] of Object.entries(files)) archive.entry({ name, mode: 0o644, mtime: new Date(0) }, body);
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer); // A stream without encoding yields buffers.
  return compress(Buffer.concat(chunks), { level: 1 });
}

interface Announced {
  readonly namespace: string;
  readonly name: string;
  readonly revision: string;
  readonly url: string;
  readonly digest: string;
}

async function announce(api: ApiTarget, artifact: Announced): Promise<void> {
  const { namespace, name, revision, url, digest } = artifact;
  const path = `/apis/source.toolkit.fluxcd.io/v1/namespaces/${namespace}/externalartifacts/${name}`;
  const object = {
    apiVersion: "source.toolkit.fluxcd.io/v1",
    kind: "ExternalArtifact",
    metadata: { namespace, name },
  };
  const applied = await send(api, "PATCH", `${path}?fieldManager=publisher&force=true`, {
    body: { ...object, spec: {} },
    contentType: "application/apply-patch+yaml",
  });
  const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const ready = {
    type: "Ready",
    status: "True",
    reason: "Succeeded",
    message: `stored artifact for revision '${revision}'`,
    lastTransitionTime: now,
    observedGeneration: asNumber(at(applied, "metadata", "generation")) ?? 1,
  };
  const status = { artifact: { url, digest, revision, path: url, lastUpdateTime: now }, conditions: [ready] };
  await send(api, "PATCH", `${path}/status?fieldManager=publisher`, {
    body: { status },
    contentType: "application/merge-patch+json",
  });
}

async function send(
  api: ApiTarget,
  method: string,
  path: string,
  input: { readonly body: unknown; readonly contentType: string },
): Promise<unknown> {
  const { status, body } = await callApi(api, method, path, input);
  if (status >= 300) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(body)}`);
  return body;
}
