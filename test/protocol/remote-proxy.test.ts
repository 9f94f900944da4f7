import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { connect, type AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { issuePair } from "../../src/certificates/issue.ts";
import { createKubeClient } from "../../src/kube/client.ts";
import { tokenCredential } from "../../src/kube/credential.ts";
import { isKubeError } from "../../src/kube/error.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { createHostGuard } from "../../src/outbound/host-guard.ts";

/** What the proxy was asked to connect to, and which tokens the API server saw. */
const asked: string[] = [];
const tokens: (string | undefined)[] = [];
let proxy: Server;
let api: ReturnType<typeof createTlsServer>;
let caPem: string;

const portOf = (server: { address(): unknown }): number => (server.address() as AddressInfo).port; // It listens on a port.
const listen = (server: { listen(port: number, host: string, done: () => void): unknown }): Promise<void> =>
  new Promise((resolve) => void server.listen(0, "127.0.0.1", resolve));

beforeAll(async () => {
  const pair = await issuePair({ names: ["api.internal"], validityMs: 3_600_000, now: Date.now() });
  caPem = pair.caPem;
  api = createTlsServer({ key: pair.keyPem, cert: pair.certPem }, (request, answer) => {
    tokens.push(request.headers.authorization);
    answer.setHeader("content-type", "application/json");
    answer.end("{}");
  });
  await listen(api);
  proxy = createServer();
  proxy.on("connect", (request, socket) => {
    asked.push(request.url ?? "");
    const inner = connect(portOf(api), "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      inner.pipe(socket).pipe(inner);
    });
    inner.on("error", () => socket.destroy());
    socket.on("error", () => inner.destroy());
  });
  await listen(proxy);
});
afterAll(() => {
  api.closeAllConnections();
  proxy.closeAllConnections();
  api.close();
  proxy.close();
});

/** The proxy and API server of a kubeconfig; both names are known to this guard alone, as `addresses` has them. */
function clientOf(addresses: readonly string[], allowLoopback: boolean) {
  const guard = createHostGuard({ allowLoopback, clock: systemClock, resolve: () => Promise.resolve(addresses) });
  return createKubeClient({
    endpoint: {
      key: "remote",
      server: "https://api.internal:6443",
      caPem,
      proxyUrl: `http://proxy.internal:${String(portOf(proxy))}`,
      lookup: guard.lookup,
      isolation: "1",
    },
    credential: tokenCredential("t"),
    identity: "x",
    clock: systemClock,
  });
}
const get = { method: "GET", path: "/api" } as const;

test("a proxy is resolved by the guard and sees the server's name alone; TLS is with the server", async () => {
  await using client = clientOf(["127.0.0.1"], true);
  await expect(client.send(get)).resolves.toEqual({});
  expect(asked).toEqual(["api.internal:6443"]);
  expect(tokens).toEqual(["Bearer t"]);
});

test("a proxy whose name leads to a denied address is not connected to", async () => {
  asked.length = 0;
  for (const addresses of [["127.0.0.1"], ["169.254.169.254"], ["10.0.0.1", "127.0.0.1"]]) {
    await using client = clientOf(addresses, false);
    const error = await client.send(get).catch((caught: unknown) => caught);
    expect(isKubeError(error, "Unreachable")).toBe(true);
  }
  expect(asked).toEqual([]);
});
