import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fetchedTrustedRoot, trustedRootFile } from "../../src/images/trusted-root.ts";
import { fetchPublicRoot } from "../../src/images/tuf-root.ts";
import { freePort } from "../../src/dev/free-port.ts";
import { canonicalJson } from "../../src/lib/canonical-json.ts";
import { systemClock } from "../../src/lib/clock.ts";

const { signal } = new AbortController();

/** A TUF repository of one key that offers this trusted root. */
function tufRepository(trustedRoot: string): ReadonlyMap<string, string> {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const raw = publicKey.export({ format: "der", type: "spki" }).subarray(-32).toString("hex");
  const key = { keytype: "ed25519", scheme: "ed25519", keyval: { public: raw } };
  const keyid = createHash("sha256").update(canonicalJson(key)).digest("hex");
  const signed = (body: Readonly<Record<string, unknown>>): string => {
    const text = { ...body, spec_version: "1.0.31", version: 1, expires: "2099-01-01T00:00:00Z" };
    const sig = sign(null, Buffer.from(canonicalJson(text)), privateKey).toString("hex");
    return JSON.stringify({ signatures: [{ keyid, sig }], signed: text });
  };
  const role = { keyids: [keyid], threshold: 1 };
  const hashes = { sha256: createHash("sha256").update(trustedRoot).digest("hex") };
  const target = { length: Buffer.byteLength(trustedRoot), hashes };
  return new Map([
    [
      "/root.json",
      signed({
        _type: "root",
        consistent_snapshot: false,
        keys: { [keyid]: key },
        roles: { root: role, timestamp: role, snapshot: role, targets: role },
      }),
    ],
    ["/timestamp.json", signed({ _type: "timestamp", meta: { "snapshot.json": { version: 1 } } })],
    ["/snapshot.json", signed({ _type: "snapshot", meta: { "targets.json": { version: 1 } } })],
    ["/targets.json", signed({ _type: "targets", targets: { "trusted_root.json": target } })],
    ["/targets/trusted_root.json", trustedRoot],
  ]);
}

test("[50.33] the public root by TUF: what is down at the first need is asked again by the next one", async () => {
  const dir = await mkdtemp(join(tmpdir(), "stageset-tuf-test-"));
  const port = await freePort();
  const files = tufRepository('{"mediaType":"a trusted root"}');
  const rootPath = join(dir, "root.json");
  await writeFile(rootPath, files.get("/root.json") ?? "");
  let server: Server | undefined;
  try {
    const source = fetchedTrustedRoot({
      clock: systemClock,
      fetchRoot: () => fetchPublicRoot({ mirrorURL: `http://localhost:${String(port)}`, rootPath }),
    });
    await expect(source(signal)).rejects.toMatchObject({ reason: "unavailable" });
    server = createServer((request, response) => {
      const text = files.get(request.url ?? "");
      response.writeHead(text === undefined || request.url === "/root.json" ? 404 : 200);
      response.end(text);
    });
    const listening = server;
    await new Promise<void>((resolve) => listening.listen(port, "localhost", resolve));
    expect(await source(signal)).toBe('{"mediaType":"a trusted root"}');
  } finally {
    server?.closeAllConnections();
    await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
    await rm(dir, { recursive: true, force: true });
  }
});

test("a file is read anew each time; one that is gone cannot be told from one that is down", async () => {
  const dir = await mkdtemp(join(tmpdir(), "stageset-root-"));
  const path = join(dir, "trusted-root.json");
  try {
    await writeFile(path, '{"a":1}');
    const source = trustedRootFile(path);
    expect(await source(signal)).toBe('{"a":1}');
    await writeFile(path, '{"a":2}');
    expect(await source(signal)).toBe('{"a":2}');
    await writeFile(path, "no json");
    await expect(source(signal)).rejects.toMatchObject({ reason: "unavailable" });
    await rm(path);
    await expect(source(signal)).rejects.toMatchObject({ reason: "unavailable" });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
