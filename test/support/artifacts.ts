import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { createGzip } from "node:zlib";
import { pack, type Header } from "tar-stream";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import type { TestCluster } from "./cluster.ts";

/** What the server answers on a path. */
export type ArtifactReply =
  | { readonly kind: "bytes"; readonly body: Buffer; readonly contentType?: string }
  | { readonly kind: "redirect"; readonly location: string; readonly status?: number }
  | { readonly kind: "status"; readonly status: number; readonly body?: string }
  /** `chunkBytes` every `everyMs`. */
  | { readonly kind: "slow"; readonly body: Buffer; readonly chunkBytes: number; readonly everyMs: number }
  /** Announces the whole body, sends its beginning, and closes the connection. */
  | { readonly kind: "cut"; readonly body: Buffer; readonly afterBytes: number }
  /** Zeros, until the client goes. */
  | { readonly kind: "endless" }
  /** Accepts the request and says nothing. */
  | { readonly kind: "hang" };

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
}

export interface ArtifactServer extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`, without a slash at the end. */
  readonly url: string;
  readonly port: number;
  /** Every request so far, oldest first. */
  readonly requests: readonly SeenRequest[];
  /** Requests for one path. */
  count(path: string): number;
  /** Sets what is answered on a path; bytes may be given as such. A function is asked for each request. */
  serve(path: string, reply: ArtifactReply | Buffer | ((request: SeenRequest) => ArtifactReply)): void;
  stop(): Promise<void>;
}

/** An HTTP server on a free port of 127.0.0.1; unknown paths answer 404. */
export async function startArtifactServer({
  host = "127.0.0.1",
}: { readonly host?: string } = {}): Promise<ArtifactServer> {
  const replies = new Map<string, (request: SeenRequest) => ArtifactReply>();
  const requests: SeenRequest[] = [];
  const server = createServer((incoming, outgoing) => {
    const seen = { method: incoming.method ?? "", path: pathOf(incoming), headers: incoming.headers };
    requests.push(seen);
    const reply = replies.get(seen.path)?.(seen) ?? { kind: "status", status: 404, body: "not found" };
    answer(reply, outgoing).catch(() => outgoing.destroy()); // The client went away.
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, host, resolve);
  });
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const stop = async (): Promise<void> => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  };
  return {
    url: `http://${host}:${port}`,
    port,
    requests,
    count: (path) => requests.filter((request) => request.path === path).length,
    serve(path, reply) {
      const fixed: ArtifactReply | undefined = Buffer.isBuffer(reply)
        ? { kind: "bytes", body: reply }
        : typeof reply === "function"
          ? undefined
          : reply;
      replies.set(path, typeof reply === "function" ? reply : () => fixed ?? { kind: "status", status: 500 });
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function pathOf(incoming: IncomingMessage): string {
  return new URL(incoming.url ?? "/", "http://server").pathname;
}

async function answer(reply: ArtifactReply, outgoing: ServerResponse): Promise<void> {
  switch (reply.kind) {
    case "bytes":
      outgoing.writeHead(200, {
        "content-type": reply.contentType ?? "application/gzip",
        "content-length": reply.body.length,
      });
      outgoing.end(reply.body);
      return;
    case "redirect":
      outgoing.writeHead(reply.status ?? 302, { location: reply.location });
      outgoing.end();
      return;
    case "status":
      outgoing.writeHead(reply.status, { "content-type": "text/plain" });
      outgoing.end(reply.body ?? "");
      return;
    case "slow":
      outgoing.writeHead(200, { "content-length": reply.body.length });
      for (let start = 0; start < reply.body.length && !outgoing.destroyed; start += reply.chunkBytes) {
        outgoing.write(reply.body.subarray(start, start + reply.chunkBytes));
        await delay(reply.everyMs);
      }
      outgoing.end();
      return;
    case "cut":
      outgoing.writeHead(200, { "content-length": reply.body.length });
      await new Promise((resolve) => outgoing.write(reply.body.subarray(0, reply.afterBytes), resolve));
      outgoing.destroy();
      return;
    case "endless":
      outgoing.writeHead(200);
      while (!outgoing.destroyed) await new Promise((resolve) => outgoing.write(Buffer.alloc(1 << 16), resolve));
      return;
    case "hang":
      return;
  }
}

/** An entry of an archive beyond a plain file: a link, a device, a folder, any name. */
export interface ArchiveEntry {
  readonly header: Partial<Header> & Pick<Header, "name">;
  readonly body?: string | Buffer;
}

/** A gzipped tar of plain files by path, then of `entries`; the same input gives the same bytes. */
export async function tarGz(
  files: Readonly<Record<string, string | Buffer>>,
  entries: readonly ArchiveEntry[] = [],
): Promise<Buffer> {
  const archive = pack();
  const plain = Object.entries(files).map(([name, body]): ArchiveEntry => ({ header: { name }, body }));
  const feed = async (): Promise<void> => {
    for (const { header, body } of [...plain, ...entries]) {
      await new Promise<void>((resolve, reject) => {
        archive.entry({ mode: 0o644, ...header, mtime: new Date(0) }, body ?? "", (error) => {
          if (error) reject(error);
          else resolve();
        });
      });
    }
    archive.finalize();
  };
  const packed = archive.pipe(createGzip({ level: 1 }));
  const chunks: Buffer[] = [];
  const drain = async (): Promise<void> => {
    for await (const chunk of packed) chunks.push(chunk as Buffer); // A stream without encoding yields buffers.
  };
  await Promise.all([feed(), drain()]);
  return Buffer.concat(chunks);
}

/** `sha256:<hex>`. */
export function sha256(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

export interface PublishOptions {
  readonly server: ArtifactServer;
  readonly namespace: string;
  readonly name: string;
  /** Manifests and other files by path; or the archive itself. */
  readonly files: Readonly<Record<string, string | Buffer>> | Buffer;
  /** Default: `latest@<digest>`. */
  readonly revision?: string;
  /** The Ready condition; default true. */
  readonly ready?: boolean;
  /** Default: the digest of what is served. */
  readonly digest?: string;
  readonly sourceRef?: Readonly<Record<string, string>>;
}

export interface PublishedArtifact {
  readonly revision: string;
  readonly digest: string;
  readonly url: string;
  /** The path of {@link PublishedArtifact.url}, for `server.count` and `server.serve`. */
  readonly path: string;
  readonly size: number;
  readonly object: KubeObject;
}

/** Serves the files and creates, or moves on, the ExternalArtifact that points at them, as a source controller does. */
export async function publishArtifact({ admin }: TestCluster, options: PublishOptions): Promise<PublishedArtifact> {
  const { server, namespace, name, files, ready = true, sourceRef } = options;
  const bytes = Buffer.isBuffer(files) ? files : await tarGz(files);
  const digest = options.digest ?? sha256(bytes);
  const revision = options.revision ?? `latest@${digest}`;
  const path = `/externalartifact/${namespace}/${name}/${digest.replace(/^.*:/, "")}.tar.gz`;
  const url = server.url + path;
  server.serve(path, bytes);
  const ref = {
    apiVersion: "source.toolkit.fluxcd.io/v1",
    kind: "ExternalArtifact",
    metadata: { name, namespace },
  };
  const applied = await admin.apply({ ...ref, spec: sourceRef === undefined ? {} : { sourceRef } });
  const at = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const object = await admin.patchStatus(ref, {
    artifact: { url, digest, revision, path: path.slice(1), size: bytes.length, lastUpdateTime: at },
    conditions: [
      {
        type: "Ready",
        status: ready ? "True" : "False",
        reason: ready ? "Succeeded" : "Failed",
        message: ready ? `stored artifact for revision '${revision}'` : "source failed",
        lastTransitionTime: at,
        observedGeneration: applied.metadata.generation ?? 1,
      },
    ],
  });
  return { revision, digest, url, path, size: bytes.length, object };
}
