import { Agent, createServer, request, type IncomingMessage, type ServerResponse } from "node:http";
import { Agent as TlsAgent, request as tlsRequest } from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import type { TestCluster } from "./cluster.ts";

/** One request as it reached the proxy. */
export interface SeenCall {
  /** Counts requests that change something (dry runs, token requests and reviews left out), from 1; 0 for others. */
  readonly write: number;
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly isWatch: boolean;
}

/** What happens to a call. Without a fault it is passed on. */
export type Fault =
  /** The connection is closed and nothing is passed on. */
  | { readonly kind: "drop" }
  /** The server acts; its answer is thrown away and the connection closed. */
  | { readonly kind: "swallow" }
  /** Answered by the proxy. */
  | {
      readonly kind: "answer";
      readonly status: number;
      readonly body: unknown;
      readonly headers?: Record<string, string>;
    }
  /** Passed on, or answered, this much later. */
  | { readonly kind: "delay"; readonly requestMs?: number; readonly answerMs?: number };

export interface FaultProxy extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`: what the controller takes for its API server. */
  readonly server: string;
  readonly calls: readonly SeenCall[];
  /** Asked for each call; a promise may act first, say kill the controller. */
  onCall: ((call: SeenCall) => Fault | undefined | Promise<Fault | undefined>) | undefined;
  /** Called when the server has answered a call, before the answer is passed on. */
  onAnswer: ((call: SeenCall, status: number) => void | Promise<void>) | undefined;
  /** Events of watches are passed on this much later; 0 by default. */
  watchDelayMs: number;
  /** Ends every open watch, and refuses new ones while `refuse` says so. */
  cutWatches(): void;
  refuseWatches: boolean;
}

/** A proxy between a controller and the control plane's API server, on plain HTTP so that it needs no certificate. */
export async function startFaultProxy(cluster: Pick<TestCluster, "server" | "caPem">): Promise<FaultProxy> {
  const upstream = new URL(cluster.server);
  const agent = upstream.protocol === "https:" ? new TlsAgent({ ca: cluster.caPem, keepAlive: true }) : new Agent();
  const calls: SeenCall[] = [];
  const watches = new Set<ServerResponse>();
  let writes = 0;
  const state: Pick<FaultProxy, "onCall" | "onAnswer" | "watchDelayMs" | "refuseWatches"> = {
    onCall: undefined,
    onAnswer: undefined,
    watchDelayMs: 0,
    refuseWatches: false,
  };
  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const target = incoming.url ?? "/";
    const method = incoming.method ?? "GET";
    const isWatch = /[?&]watch=(true|1)/.test(target);
    const call: SeenCall = { write: isWrite(method, target) ? ++writes : 0, method, target, isWatch };
    calls.push(call);
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer); // A stream without encoding yields buffers.
    const fault = isWatch && state.refuseWatches ? ({ kind: "drop" } as const) : await state.onCall?.(call);
    if (fault?.kind === "drop") return void outgoing.destroy();
    if (fault?.kind === "answer") {
      outgoing.writeHead(fault.status, { "content-type": "application/json", ...fault.headers });
      return void outgoing.end(JSON.stringify(fault.body));
    }
    if (fault?.kind === "delay" && fault.requestMs !== undefined) await delay(fault.requestMs);
    const answer = await forward(incoming, target, Buffer.concat(chunks));
    await state.onAnswer?.(call, answer.statusCode ?? 0);
    if (fault?.kind === "swallow") {
      answer.destroy();
      return void outgoing.destroy();
    }
    if (fault?.kind === "delay" && fault.answerMs !== undefined) await delay(fault.answerMs);
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
    if (!isWatch) return void answer.pipe(outgoing);
    watches.add(outgoing);
    outgoing.once("close", () => {
      watches.delete(outgoing);
      answer.destroy();
    });
    answer.once("error", () => outgoing.destroy());
    answer.once("end", () => outgoing.end());
    for await (const chunk of answer) {
      if (state.watchDelayMs > 0) await delay(state.watchDelayMs);
      if (!outgoing.destroyed) outgoing.write(chunk);
    }
  };
  const forward = (incoming: IncomingMessage, target: string, body: Buffer): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const { host: _host, connection: _connection, "transfer-encoding": _encoding, ...headers } = incoming.headers;
      const send = upstream.protocol === "https:" ? tlsRequest : request;
      const options = { method: incoming.method, agent, headers: { ...headers, "content-length": body.byteLength } };
      const outgoing = send(new URL(target, upstream), options, resolve);
      outgoing.once("error", reject);
      outgoing.end(body);
    });
  const server = createServer((incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => outgoing.destroy()); // Either side went away.
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? (address?.port ?? 0) : 0;
  return Object.assign(state, {
    server: `http://127.0.0.1:${port}`,
    calls,
    cutWatches: () => {
      for (const watch of watches) watch.destroy();
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      agent.destroy();
    },
  });
}

/** Whether the request changes stored objects. */
function isWrite(method: string, target: string): boolean {
  if (method === "GET" || /[?&]dryRun=All/.test(target)) return false;
  return !/\/(token|selfsubjectreviews|selfsubjectaccessreviews|events)(\?|$)/.test(target);
}
