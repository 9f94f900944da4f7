import { createSecureServer } from "node:http2";
import { createServer } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo, Server, Socket } from "node:net";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { issuePair } from "../../src/certificates/issue.ts";
import type { PairMaterial } from "../../src/certificates/pair.ts";
import { createKubeClient, type KubeClient } from "../../src/kube/client.ts";
import { tokenCredential } from "../../src/kube/credential.ts";
import { listRequest, watchRequest } from "../../src/kube/request.ts";
import { createTransports } from "../../src/kube/transport.ts";
import { createManualClock, type ManualClock } from "../../src/lib/clock.ts";
import { eventually } from "../support/eventually.ts";

const name = "api.test";
const mib = 1024 * 1024;
const configMaps = { group: "", version: "v1", kind: "ConfigMap", plural: "configmaps", namespaced: true, verbs: [] };

type Script = (answer: ServerResponse, path: string) => void;

let pair: PairMaterial;
let script: Script;
let clock: ManualClock;
let stack: AsyncDisposableStack;
let written: number;
let isClosed: boolean;
beforeAll(async () => {
  pair = await issuePair({ names: [name], validityMs: 3_600_000, now: Date.now() });
});
beforeEach(() => {
  stack = new AsyncDisposableStack();
  clock = createManualClock();
  written = 0;
  isClosed = false;
});
afterEach(() => stack.disposeAsync());

/** Goes on for as long as somebody reads. */
const endless =
  (httpStatus: number, piece = "x".repeat(16_384)): Script =>
  (answer) => {
    answer.writeHead(httpStatus, { "content-type": "application/json" });
    const more = (): void => {
      while (!isClosed) {
        written += piece.length;
        if (!answer.write(piece)) {
          answer.once("drain", more);
          return;
        }
      }
    };
    more();
  };

const stalled: Script = (answer) => {
  answer.writeHead(500, { "content-type": "application/json" });
  answer.write('{"kind":"Status"');
};

async function connect(http2: boolean, maxAnswerBytes?: number): Promise<KubeClient> {
  const handle = (request: IncomingMessage, answer: ServerResponse): void => {
    answer.on("close", () => {
      isClosed = true;
    });
    answer.on("error", () => undefined);
    script(answer, request.url ?? "");
  };
  const options = { key: pair.keyPem, cert: pair.certPem };
  // The compatible API of HTTP/2 has what these scripts use.
  const server: Server = http2
    ? createSecureServer({ ...options, allowHTTP1: true }, handle as never)
    : createServer(options, handle);
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket));
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  stack.defer(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo; // It listens on TCP.
  const transports = stack.use(createTransports({ clock }));
  const endpoint = {
    key: "c",
    server: `https://127.0.0.1:${String(port)}`,
    caPem: pair.caPem,
    tlsServerName: name,
    maxPageItems: 100,
    ...(maxAnswerBytes === undefined ? {} : { maxAnswerBytes }),
  };
  return stack.use(createKubeClient({ endpoint, identity: "x", credential: tokenCredential("x"), transports, clock }));
}

const watch = async (client: KubeClient): Promise<number> => {
  let values = 0;
  const abort = new AbortController();
  for await (const _ of client.stream(watchRequest(configMaps, {}), { signal: abort.signal })) values++;
  return values;
};
const ways = [
  ["a request", false, (client: KubeClient) => client.send(listRequest(configMaps))],
  ["a watch over HTTP/1.1", false, watch],
  ["a watch over HTTP/2", true, watch],
] as const;

describe("an API server that never ends its answer", () => {
  test.each(ways)("is heard for 64 KiB of the refusal of %s", async (_, http2, ask) => {
    script = endless(500);
    const client = await connect(http2);
    await expect(ask(client)).rejects.toMatchObject({ reason: "ServerError", httpStatus: 500 });
    await eventually(() => isClosed);
    // What sockets and windows hold on top is theirs.
    expect(written).toBeLessThan(16 * mib);
  });

  test.each(ways)("is waited for 10 s for the rest of the refusal of %s", async (_, http2, ask) => {
    script = stalled;
    const client = await connect(http2);
    let isOver = false;
    const refused = Promise.resolve(ask(client))
      .catch((error: unknown) => error)
      .finally(() => {
        isOver = true;
      });
    await eventually(() => {
      if (!isOver) clock.advance(1000);
      return isOver;
    });
    expect(await refused).toMatchObject({ reason: "Timeout", cause: { timeoutMs: 10_000 } });
    await eventually(() => isClosed);
  });

  test.each(ways)("is heard up to its bound in the answer of %s", async (_, http2, ask) => {
    script = endless(200);
    const client = await connect(http2, 8 * mib);
    await expect(ask(client)).rejects.toMatchObject({
      reason: "TooLarge",
      message: expect.stringContaining("is larger than 8 MiB") as unknown,
    });
    await eventually(() => isClosed);
    expect(written).toBeLessThan(32 * mib);
  });

  test("is asked for pages that fit", async () => {
    const paths: string[] = [];
    script = (answer, path) => {
      paths.push(path);
      answer.writeHead(200, { "content-type": "application/json" });
      answer.end("{}");
    };
    const client = await connect(false);
    for (const limit of [undefined, 50, 500]) await client.send(listRequest(configMaps, { limit }));
    expect(paths.map((path) => path.split("?")[1])).toEqual([undefined, "limit=50", "limit=100"]);
  });
});
