import { createSecureServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { issuePair } from "../../src/certificates/issue.ts";
import type { PairMaterial } from "../../src/certificates/pair.ts";
import { createKubeClient } from "../../src/kube/client.ts";
import { tokenCredential } from "../../src/kube/credential.ts";
import { KubeError } from "../../src/kube/error.ts";
import { watchRequest } from "../../src/kube/request.ts";
import { createStreamSessions } from "../../src/kube/stream-sessions.ts";
import { createTransports } from "../../src/kube/transport.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { eventually } from "../support/eventually.ts";

const name = "api.test";
const configMaps = { group: "", version: "v1", kind: "ConfigMap", plural: "configmaps", namespaced: true, verbs: [] };

describe("watches of many identities", () => {
  let pair: PairMaterial;
  let stack = new AsyncDisposableStack();
  beforeAll(async () => {
    pair = await issuePair({ names: [name], validityMs: 3_600_000, now: Date.now() });
  });
  afterEach(async () => {
    await stack.disposeAsync();
    stack = new AsyncDisposableStack();
  });

  const sockets = new Set<Socket>();
  const listen = async (server: Server): Promise<number> => {
    server.on("connection", (socket: Socket) => sockets.add(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    stack.defer(async () => {
      for (const socket of sockets) socket.destroy();
      sockets.clear();
      await new Promise((resolve) => server.close(resolve));
    });
    return (server.address() as AddressInfo).port; // It listens on TCP.
  };
  /** Answers every watch with one line, and holds it open. */
  const http2Server = async (): Promise<{
    readonly port: number;
    readonly sessions: ServerHttp2Session[];
    readonly streams: Map<string, ServerHttp2Stream>;
  }> => {
    const server = createSecureServer({
      key: pair.keyPem,
      cert: pair.certPem,
      settings: { maxConcurrentStreams: 100 },
    });
    const sessions: ServerHttp2Session[] = [];
    const streams = new Map<string, ServerHttp2Stream>();
    server.on("session", (session) => sessions.push(session));
    server.on("stream", (stream, headers) => {
      streams.set(String(headers.authorization), stream);
      stream.on("error", () => undefined);
      stream.respond({ ":status": 200, "content-type": "application/json" });
      stream.write('{"said":"first"}\n');
    });
    return { port: await listen(server), sessions, streams };
  };
  const watchers = (port: number) => {
    const transports = stack.use(createTransports({ clock: systemClock }));
    const endpoint = { key: "c", server: `https://127.0.0.1:${port}`, caPem: pair.caPem, tlsServerName: name };
    return (identity: string) => {
      const client = stack.use(
        createKubeClient({ endpoint, identity, credential: tokenCredential(identity), transports }),
      );
      const heard: unknown[] = [];
      const abort = new AbortController();
      const ended = (async () => {
        for await (const value of client.stream(watchRequest(configMaps, {}), { signal: abort.signal }))
          heard.push(value);
      })().then(
        () => undefined,
        (error: unknown) => error,
      );
      stack.defer(async () => {
        abort.abort(new Error("the test is over"));
        await ended;
      });
      return { heard, abort, ended };
    };
  };

  test("share few connections, each with its own token", async () => {
    const { port, sessions, streams } = await http2Server();
    const watch = watchers(port);
    const watches = Array.from({ length: 250 }, (_, index) => watch(`token-${index}`));
    await eventually(() => expect(watches.every(({ heard }) => heard.length === 1)).toBe(true));
    expect(sessions).toHaveLength(3);
    expect(new Set(streams.keys())).toEqual(new Set(watches.map((_, index) => `Bearer token-${index}`)));
  });

  test("end alone, and make room for others", async () => {
    const { port, sessions, streams } = await http2Server();
    const watch = watchers(port);
    const watches = Array.from({ length: 100 }, (_, index) => watch(`token-${index}`));
    await eventually(() => expect(watches.every(({ heard }) => heard.length === 1)).toBe(true));
    watches[0]?.abort.abort(new Error("enough"));
    expect(await watches[0]?.ended).toMatchObject({ message: "enough" });
    await eventually(() => expect(streams.get("Bearer token-0")?.closed).toBe(true));
    const late = watch("late");
    await eventually(() => expect(late.heard).toHaveLength(1));
    streams.get("Bearer token-1")?.write('{"said":"second"}\n');
    await eventually(() => expect(watches[1]?.heard).toEqual([{ said: "first" }, { said: "second" }]));
    expect(sessions).toHaveLength(1);
  });

  test("go on when the server asks for no more of them on a connection", async () => {
    const { port, sessions, streams } = await http2Server();
    const watch = watchers(port);
    const before = watch("before");
    await eventually(() => expect(before.heard).toHaveLength(1));
    sessions[0]?.goaway(0, 2 ** 31 - 1);
    // One that is sent before the word is here still goes over the same connection.
    await eventually(async () => {
      const after = watch(`after-${streams.size}`);
      await eventually(() => expect(after.heard).toHaveLength(1), { timeoutMs: 5_000 });
      return sessions.length > 1;
    });
    streams.get("Bearer before")?.write('{"said":"second"}\n');
    await eventually(() => expect(before.heard).toEqual([{ said: "first" }, { said: "second" }]));
  });

  test("fail as unreachable when their connection is lost", async () => {
    const { port } = await http2Server();
    const watch = watchers(port);
    const watches = [watch("one"), watch("other")];
    await eventually(() => expect(watches.every(({ heard }) => heard.length === 1)).toBe(true));
    for (const socket of sockets) socket.resetAndDestroy();
    for (const { ended } of watches) {
      const error = await ended;
      expect(error).toBeInstanceOf(KubeError);
      expect(error).toMatchObject({ reason: "Unreachable" });
    }
  });

  test("have connections of their own where the server speaks HTTP/1.1 alone", async () => {
    const server = createHttpsServer({ key: pair.keyPem, cert: pair.certPem }, (request, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.write(`${JSON.stringify({ said: request.headers.authorization })}\n`);
    });
    const watch = watchers(await listen(server));
    const watches = ["a", "b", "c"].map((identity) => watch(identity));
    await eventually(() =>
      expect(watches.map(({ heard }) => heard)).toEqual(["a", "b", "c"].map((who) => [{ said: `Bearer ${who}` }])),
    );
  });

  test("end when a connection is there that nothing comes over any more", async () => {
    const { port } = await http2Server();
    const pipes: Socket[] = [];
    const proxy = createServer((near) => {
      const far = connect(port, "127.0.0.1");
      pipes.push(near, far);
      near.on("error", () => undefined).pipe(far);
      far.on("error", () => undefined).pipe(near);
    });
    const proxied = await listen(proxy);
    stack.defer(() => {
      for (const socket of pipes) socket.destroy();
    });
    const tls = { ca: pair.caPem, servername: name, rejectUnauthorized: true };
    const sessions = stack.use(createStreamSessions({ tls, pingEveryMs: 100 }));
    const answer = await sessions.open({
      origin: `https://127.0.0.1:${proxied}`,
      path: "/",
      headers: { authorization: "Bearer x" },
      signal: new AbortController().signal,
    });
    const chunks = answer.body[Symbol.asyncIterator]();
    expect(String((await chunks.next()).value)).toContain("first");
    for (const socket of pipes) socket.unpipe();
    await expect(chunks.next()).rejects.toThrow();
    await eventually(() => expect(sessions.size).toBe(0));
  });
});
