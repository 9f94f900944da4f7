import { execFile } from "node:child_process";
import { createHash, generateKeyPairSync } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { fulcioHandler, initializeCA, initializeCTLog, initializeTLog } from "@sigstore/mock";
import { freePort } from "../../src/dev/free-port.ts";
import { createProcessGroup } from "../../src/dev/process-group.ts";
import { toolPath } from "../../src/dev/tools.ts";
import { eventually } from "./eventually.ts";

const exec = promisify(execFile);
const manifestType = "application/vnd.oci.image.manifest.v1+json";

/** A real registry on loopback, in the clear. */
export interface ImageRegistry extends AsyncDisposable {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  /** Pushes an image of its own content and gives its digest. */
  push(repository: string, tag: string, content: string): Promise<string>;
}

export async function startImageRegistry(port?: number): Promise<ImageRegistry> {
  const listen = port ?? (await freePort());
  const dir = await mkdtemp(join(tmpdir(), "stageset-registry-"));
  const group = createProcessGroup({ temporaryDir: dir });
  const process = await group.start({
    name: "registry",
    path: await toolPath("registry"),
    args: ["-port", `${listen}`],
    env: globalThis.process.env,
    logFile: join(dir, "registry.log"),
  });
  const host = `localhost:${listen}`;
  await eventually(async () => (await fetch(`http://${host}/v2/`)).status === 200, { timeoutMs: 30_000 });
  return {
    host,
    push: (repository, tag, content) => pushImage(host, { repository, tag, content }),
    async [Symbol.asyncDispose]() {
      await process.end("SIGTERM", 5_000);
      await group.close();
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function pushImage(
  host: string,
  { repository, tag, content }: { readonly repository: string; readonly tag: string; readonly content: string },
): Promise<string> {
  const config = Buffer.from(
    JSON.stringify({ architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: [] }, content }),
  );
  const start = await fetch(`http://${host}/v2/${repository}/blobs/uploads/`, { method: "POST" });
  const upload = new URL(start.headers.get("location") ?? "", `http://${host}`);
  upload.searchParams.set("digest", digestOf(config));
  await fetch(upload, { method: "PUT", body: config, headers: { "content-type": "application/octet-stream" } });
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: manifestType,
      config: {
        mediaType: "application/vnd.oci.image.config.v1+json",
        digest: digestOf(config),
        size: config.length,
      },
      layers: [],
    }),
  );
  const put = await fetch(`http://${host}/v2/${repository}/manifests/${tag}`, {
    method: "PUT",
    body: manifest,
    headers: { "content-type": manifestType },
  });
  if (put.status !== 201) throw new Error(`the registry refused the image: ${put.status}`);
  return digestOf(manifest);
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Signs images with cosign. */
export interface Signer extends AsyncDisposable {
  /** PEM. */
  readonly publicKey: string;
  sign(registry: ImageRegistry, repository: string, digest: string): Promise<void>;
}

const cosignEnv = { COSIGN_PASSWORD: "", PATH: "/usr/bin:/bin", HOME: "/nonexistent" };

/** With a key pair of its own; works offline. */
export async function createKeySigner(): Promise<Signer> {
  const cosign = await toolPath("cosign");
  const dir = await mkdtemp(join(tmpdir(), "stageset-cosign-"));
  const env = { ...cosignEnv, HOME: dir };
  await exec(cosign, ["generate-key-pair", "--output-key-prefix", join(dir, "key")], { env });
  return {
    publicKey: await readFile(join(dir, "key.pub"), "utf8"),
    async sign({ host }, repository, digest) {
      const flags = ["--key", join(dir, "key.key"), "--tlog-upload=false", "--use-signing-config=false"];
      await exec(cosign, ["sign", ...flags, "--yes", "--allow-http-registry", `${host}/${repository}@${digest}`], {
        env,
      });
    },
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}

/** A Sigstore of its own: an authority, logs of certificates and of signatures, on loopback. */
export interface Sigstore extends AsyncDisposable {
  /** For verifiers, as a file. */
  readonly trustedRootPath: string;
  readonly trustedRoot: string;
  /** Signs as who the token of an issuer says. */
  sign(
    registry: ImageRegistry,
    o: {
      readonly repository: string;
      readonly digest: string;
      readonly subject: string;
      readonly issuer: string;
    },
  ): Promise<void>;
}

export async function startSigstore(): Promise<Sigstore> {
  const cosign = await toolPath("cosign");
  const dir = await mkdtemp(join(tmpdir(), "stageset-sigstore-"));
  const pair = () => generateKeyPairSync("ec", { namedCurve: "P-256" });
  const ctlog = await initializeCTLog(pair());
  const ca = await initializeCA(pair(), ctlog);
  const port = await freePort();
  const url = `http://localhost:${port}`;
  const tlog = await initializeTLog(url, pair());
  const authority = fulcioHandler(ca, { subjectClaim: "email" });
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const text = Buffer.concat(chunks).toString();
      const answer =
        request.url === authority.path
          ? authority.fn(withToken(text, request.headers.authorization)).then((made) => ({ status: 200, ...made }))
          : logged(tlog, text);
      answer.then(
        ({ status, response: body, ...more }) => {
          response.writeHead(status, {
            "content-type": "application/json",
            ...("etag" in more ? { etag: more.etag } : {}),
          });
          response.end(body);
        },
        () => response.destroy(),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(port, "localhost", resolve));
  const since = new Date(Date.now() - 3_600_000).toISOString();
  const base64 = (bytes: ArrayBufferView<ArrayBuffer>): string =>
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
  const log = (baseUrl: string, publicKey: Buffer) => ({
    baseUrl,
    hashAlgorithm: "SHA2_256",
    publicKey: {
      rawBytes: publicKey.toString("base64"),
      keyDetails: "PKIX_ECDSA_P256_SHA_256",
      validFor: { start: since },
    },
    logId: { keyId: createHash("sha256").update(publicKey).digest("base64") },
  });
  const trustedRoot = JSON.stringify({
    mediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    tlogs: [log(url, tlog.publicKey)],
    certificateAuthorities: [
      {
        subject: { organization: "test", commonName: "test" },
        uri: url,
        certChain: { certificates: [{ rawBytes: base64(ca.rootCertificate) }] },
        validFor: { start: since },
      },
    ],
    ctlogs: [log(url, ctlog.publicKey)],
    timestampAuthorities: [],
  });
  const service = { url, majorApiVersion: 1, validFor: { start: since }, operator: "test" };
  const signingConfig = JSON.stringify({
    mediaType: "application/vnd.dev.sigstore.signingconfig.v0.2+json",
    caUrls: [service],
    oidcUrls: [],
    rekorTlogUrls: [service],
    rekorTlogConfig: { selector: "ANY" },
    tsaUrls: [],
    tsaConfig: { selector: "ANY" },
  });
  const trustedRootPath = join(dir, "trusted-root.json");
  await writeFile(trustedRootPath, trustedRoot);
  await writeFile(join(dir, "signing-config.json"), signingConfig);
  return {
    trustedRootPath,
    trustedRoot,
    async sign({ host }, { repository, digest, subject, issuer }) {
      const flags = [
        ...["--identity-token", identityToken({ subject, issuer })],
        ...["--signing-config", join(dir, "signing-config.json"), "--trusted-root", trustedRootPath],
      ];
      await exec(cosign, ["sign", ...flags, "--yes", "--allow-http-registry", `${host}/${repository}@${digest}`], {
        env: { ...cosignEnv, HOME: dir },
      });
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** What a log of signatures makes of a proposed entry of kind dsse, and its answer. */
async function logged(
  tlog: Awaited<ReturnType<typeof initializeTLog>>,
  proposal: string,
): Promise<{ readonly status: number; readonly response: string; readonly etag: string }> {
  const { proposedContent } = (
    JSON.parse(proposal) as { spec: { proposedContent: { envelope: string; verifiers: string[] } } }
  ).spec;
  const envelope = JSON.parse(proposedContent.envelope) as { payload: string; signatures: { sig: string }[] };
  const hash = (bytes: string | Buffer) => ({
    algorithm: "sha256",
    value: createHash("sha256").update(bytes).digest("hex"),
  });
  const entry: unknown = await tlog.log({
    apiVersion: "0.0.1",
    kind: "dsse",
    spec: {
      envelopeHash: hash(proposedContent.envelope),
      payloadHash: hash(Buffer.from(envelope.payload, "base64")),
      signatures: envelope.signatures.map(({ sig }, index) => ({
        signature: sig,
        verifier: proposedContent.verifiers[index],
      })),
    },
  });
  const [etag = ""] = Object.keys(entry as object);
  return { status: 201, response: JSON.stringify(entry), etag };
}

/** Cosign has the token in a header, where the authority of the tests looks for it in the body. */
function withToken(body: string, authorization = ""): string {
  const token = /^bearer (.*)$/i.exec(authorization)?.[1];
  if (token === undefined) return body;
  return JSON.stringify({ ...(JSON.parse(body) as object), credentials: { oidcIdentityToken: token } });
}

/** Whatever signs it: the authority of the tests believes what it says. */
function identityToken({ subject, issuer }: { readonly subject: string; readonly issuer: string }): string {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: issuer, sub: subject, email: subject, email_verified: true, aud: "sigstore" };
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "RS256", typ: "JWT" })}.${part({ ...claims, iat: now, exp: now + 600 })}.${Buffer.alloc(256).toString("base64url")}`;
}

/** A registry that lets nobody in without a token, which its realm gives for a name and a password. */
export interface PrivateRegistry extends AsyncDisposable {
  /** `localhost:PORT`. */
  readonly host: string;
  /** What it saw in `authorization`, per request. */
  readonly seen: readonly string[];
}

const token = "a-token";

/** In front of another registry; `realm` is the URL of its token realm, its own unless said. */
export async function startPrivateRegistry(
  behind: ImageRegistry,
  o: { readonly username: string; readonly password: string; readonly realm?: string },
): Promise<PrivateRegistry> {
  const seen: string[] = [];
  const port = await freePort();
  const host = `localhost:${port}`;
  const basic = `Basic ${Buffer.from(`${o.username}:${o.password}`).toString("base64")}`;
  const server = createServer((request, response) => {
    const { authorization = "", host: _host, ...headers } = request.headers;
    seen.push(authorization);
    const url = new URL(request.url ?? "/", `http://${host}`);
    if (url.pathname === "/token") {
      const known = authorization === basic;
      response.writeHead(known ? 200 : 401, { "content-type": "application/json" });
      response.end(known ? JSON.stringify({ token }) : "{}");
      return;
    }
    if (authorization !== `Bearer ${token}`) {
      const realm = o.realm ?? `http://${host}/token`;
      response.writeHead(401, { "www-authenticate": `Bearer realm="${realm}",service="test"` });
      response.end();
      return;
    }
    const accept = headers.accept ?? "*/*";
    fetch(`http://${behind.host}${url.pathname}${url.search}`, {
      method: request.method ?? "GET",
      headers: { accept },
    }).then(
      async (answer) => {
        const told = ["content-type", "docker-content-digest"].flatMap((name) => {
          const value = answer.headers.get(name);
          return value === null ? [] : [[name, value] as const];
        });
        response.writeHead(answer.status, Object.fromEntries(told));
        response.end(Buffer.from(await answer.arrayBuffer()));
      },
      () => response.destroy(),
    );
  });
  await new Promise<void>((resolve) => server.listen(port, "localhost", resolve));
  return {
    host,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
