import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { createComputePool, type ComputePool } from "../../src/compute/pool.ts";
import { judgingPolicy, type JudgingPolicy } from "../../src/domain/images/governing.ts";
import { planImages } from "../../src/domain/images/plan-images.ts";
import { createImageVerifier, type ImageVerdict, type ImageVerifier } from "../../src/images/image-verifier.ts";
import { systemClock, type Clock } from "../../src/lib/clock.ts";
import { createGuardedFetch } from "../../src/outbound/guard.ts";
import { eventually } from "../support/eventually.ts";

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json";
const indexType = "application/vnd.oci.image.index.v1+json";
const digestOf = (bytes: string | Buffer): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
const keys = generateKeyPairSync("ed25519");
const publicKey = keys.publicKey.export({ type: "spki", format: "pem" });
const policy: JudgingPolicy = judgingPolicy({
  apiVersion: "stages.metio.wtf/v1",
  kind: "ImageVerificationPolicy",
  metadata: { name: "p", uid: "p", generation: 1 },
  spec: { images: ["**"], authorities: [{ key: { publicKey } }] },
});

let compute: ComputePool;
beforeAll(() => {
  compute = createComputePool({
    clock: systemClock,
    workerUrl: new URL(`file://${fileURLToPath(new URL("../../src/main/worker.ts", import.meta.url))}`),
  });
});
afterAll(() => compute[Symbol.asyncDispose]());

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

async function listen(server: Server): Promise<{ readonly host: string; readonly sockets: ReadonlySet<Socket> }> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => void sockets.add(socket.on("error", () => undefined)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { host: `127.0.0.1:${String((server.address() as AddressInfo).port)}`, sockets };
}

/** Answers what it has by path below `/v2/app/`; 404 else. */
async function serve(
  answer: (path: string) => { readonly type: string; readonly body: string | Buffer } | undefined,
): Promise<{ readonly host: string; readonly seen: readonly string[] }> {
  const seen: string[] = [];
  const { host } = await listen(
    createHttpServer((request: IncomingMessage, response: ServerResponse) => {
      const path = (request.url ?? "").replace("/v2/app/", "");
      seen.push(path);
      const found = answer(path);
      response.writeHead(found === undefined ? 404 : 200, { "content-type": found?.type ?? "text/plain" });
      response.end(found?.body);
    }),
  );
  return { host, seen };
}

interface Bundled {
  readonly payloadType?: string;
  /** Of what is signed, once it is. */
  readonly tamper?: (payload: string) => string;
  readonly message?: true;
}

/** A registry with one image that is signed with the key. */
async function startSigned(image: string, o: Bundled = {}): ReturnType<typeof serve> {
  const type = o.payloadType ?? "application/vnd.in-toto+json";
  const payload = JSON.stringify({ subject: [{ name: "", digest: { sha256: image.slice(7) } }] });
  const sig = sign(null, Buffer.from(`DSSEv1 ${type.length} ${type} ${payload.length} ${payload}`), keys.privateKey);
  const envelope = {
    payload: Buffer.from(o.tamper?.(payload) ?? payload).toString("base64"),
    payloadType: type,
    signatures: [{ sig: sig.toString("base64"), keyid: "" }],
  };
  const messageSignature = {
    messageDigest: { algorithm: "SHA2_256", digest: Buffer.from(image.slice(7), "hex").toString("base64") },
    signature: sign(null, Buffer.from(image.slice(7), "hex"), keys.privateKey).toString("base64"),
  };
  const bundle = JSON.stringify({
    mediaType: bundleType,
    verificationMaterial: { publicKey: { hint: "" }, tlogEntries: [] },
    ...(o.message === undefined ? { dsseEnvelope: envelope } : { messageSignature }),
  });
  const manifest = JSON.stringify({ layers: [{ mediaType: bundleType, digest: digestOf(bundle) }] });
  const index = JSON.stringify({ manifests: [{ digest: digestOf(manifest), artifactType: bundleType }] });
  const has = new Map([
    [`referrers/${image}`, { type: indexType, body: index }],
    [`manifests/${digestOf(manifest)}`, { type: "application/vnd.oci.image.manifest.v1+json", body: manifest }],
    [`blobs/${digestOf(bundle)}`, { type: "application/octet-stream", body: bundle }],
  ]);
  return serve((path) => has.get(path));
}

function createVerifier(clock: Clock = systemClock): ImageVerifier {
  const fetch = createGuardedFetch({ allowLoopback: true, clock: systemClock });
  return createImageVerifier({ clock, compute, fetch, isInsecure: () => true, trustedRoot: () => Promise.resolve("") });
}

const { signal: never } = new AbortController();
const unasked = (): never => {
  throw new Error("no policy governs it");
};
function judge(verifier: ImageVerifier, image: string, queue = "shop", signal = never): Promise<ImageVerdict> {
  const [governed] = planImages([image], { policies: [policy], unmatched: "allowed" }).governed;
  return verifier.verify(
    {
      image: governed ?? unasked(),
      pinned: undefined,
      credential: () => Promise.resolve(undefined),
      puller: "",
      queue,
    },
    signal,
  );
}

const one = digestOf("one");
const two = digestOf("two");

test("a registry that answers nobody keeps no other one's images from any namespace, known or not", async () => {
  const verifier = createVerifier();
  const [first, second, tarpit] = [await startSigned(one), await startSigned(two), await listen(createServer())];
  const stop = new AbortController();
  expect(await judge(verifier, `${first.host}/app@${one}`)).toEqual({ kind: "accepted", digest: one });
  // More than there are places for, in more namespaces.
  const stuck = Array.from({ length: 40 * 4 }, (_, index) =>
    judge(verifier, `${tarpit.host}/app@${digestOf(String(index))}`, `stuck-${String(index % 40)}`, stop.signal),
  );
  const ends = Promise.allSettled(stuck);
  try {
    await eventually(() => Promise.resolve(tarpit.sockets.size >= 8), { timeoutMs: 20_000 });
    expect(await judge(verifier, `${first.host}/app@${one}`, "stuck-0")).toEqual({ kind: "accepted", digest: one });
    expect(await judge(verifier, `${second.host}/app@${two}`, "other")).toEqual({ kind: "accepted", digest: two });
    expect(tarpit.sockets.size).toBe(8);
  } finally {
    stop.abort(new Error("the test ends"));
  }
  expect((await ends).every(({ status }) => status === "rejected")).toBe(true);
});

test("what is known takes no turn, however many ask for it at once", async () => {
  // No turn comes back, and no time runs out.
  const still: Clock = { ...systemClock, monotonic: () => 0, timer: () => ({ [Symbol.dispose]() {} }) };
  const verifier = createVerifier(still);
  const { host, seen } = await startSigned(one);
  await judge(verifier, `${host}/app@${one}`);
  const before = seen.length;
  const verdicts = await Promise.all(
    Array.from({ length: 400 }, (_, index) => judge(verifier, `${host}/app@${one}`, `n-${String(index)}`)),
  );
  expect(verdicts.every(({ kind }) => kind === "accepted")).toBe(true);
  expect(seen).toHaveLength(before);
});

test("everything that is sent for an image counts, though nothing of it is what it is listed as", async () => {
  const blob = Buffer.alloc(8 * 1024 * 1024);
  const manifests = Array.from({ length: 64 }, (_, index) =>
    JSON.stringify({ layers: [{ mediaType: bundleType, digest: digestOf(String(index)) }] }),
  );
  const index = { manifests: manifests.map((each) => ({ digest: digestOf(each), artifactType: bundleType })) };
  const { host, seen } = await serve((path) => {
    if (path.startsWith("referrers/")) return { type: indexType, body: JSON.stringify(index) };
    if (path.startsWith("blobs/")) return { type: "application/octet-stream", body: blob };
    const body = manifests.find((each) => path === `manifests/${digestOf(each)}`);
    return body === undefined ? undefined : { type: "application/json", body };
  });
  const verdict = await judge(createVerifier(), `${host}/app@${one}`);
  expect(verdict).toMatchObject({ kind: "refused", why: expect.stringContaining("more than") as string });
  expect(seen.filter((path) => path.startsWith("blobs/")).length).toBeLessThanOrEqual(5);
});

test.each([
  ["as it was signed", {}, "accepted"],
  [
    "of another payload than was signed",
    { tamper: (text: string) => text.replace('"name":""', '"name":"x"') },
    "refused",
  ],
  ["of another type of payload", { payloadType: "application/json" }, "refused"],
  ["of a message alone", { message: true }, "refused"],
] as const)("a bundle %s, %o: %s", async (_what, bundled, kind) => {
  const { host, seen } = await startSigned(one, bundled);
  expect((await judge(createVerifier(), `${host}/app@${one}`)).kind).toBe(kind);
  expect(seen.some((path) => path.startsWith("blobs/"))).toBe(true);
});
