import { Agent, createServer, request, type IncomingMessage, type ServerResponse } from "node:http";
import { Agent as TlsAgent, request as tlsRequest } from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import { at } from "../../src/lib/json.ts";
import type { TestCluster } from "./cluster.ts";
import { mergeEvents } from "./merged-events.ts";

/** One request as it reached the proxy. */
export interface SeenCall {
  /** Counts requests that change something (dry runs, token requests and reviews left out), from 1; 0 for others. */
  readonly write: number;
  /** Counts the other requests, from 1; 0 for writes and watches. */
  readonly read: number;
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly isWatch: boolean;
  readonly authorization: string;
  readonly contentType: string;
  /** Empty outside a kept trace. */
  readonly traceparent: string;
}

/** One line of a watch stream. */
export interface SeenEvent {
  /** The plural of the watched kind. */
  readonly kind: string;
  /** Counts the kind's events of all its streams, bookmarks left out, from 1; 0 for bookmarks. */
  readonly number: number;
  readonly line: string;
}

/** What happens to a call. Without a fault it is passed on. */
export type Fault =
  /** The connection is closed and nothing is passed on. */
  | { readonly kind: "drop" }
  /** The server acts; its answer is thrown away and the connection closed. */
  | { readonly kind: "swallow" }
  /** The server acts; half of its answer is passed on and the connection closed. */
  | { readonly kind: "truncate" }
  /** Answered by the proxy; `afterCommit`: when the server has acted. */
  | {
      readonly kind: "answer";
      readonly status: number;
      readonly body: unknown;
      readonly headers?: Record<string, string>;
      readonly afterCommit?: boolean;
    }
  /** Passed on, or answered, this much later. */
  | { readonly kind: "delay"; readonly requestMs?: number; readonly answerMs?: number }
  /** Never answered and never passed on. */
  | { readonly kind: "hang" }
  /** The server acts; its answer comes at one byte per second. */
  | { readonly kind: "trickle" }
  /** Something else is asked for. */
  | { readonly kind: "rewrite"; readonly target: string };

/** What happens to a watch event. Without a fault it is passed on. */
export type EventFault =
  | "drop"
  | "double"
  /** The last events of the stream come again after it, oldest first. */
  | "replay"
  /** Passed on after the one that follows it, or soon, when none does; never after its object's deletion. */
  | "swap"
  /** It and all that follow wait until {@link FaultProxy.release}. */
  | "freeze"
  /** The stream is closed instead. */
  | "cut"
  /** The server says that the version is too old, and closes. */
  | "gone"
  /** Nothing comes any more, and the stream stays open. */
  | "silence"
  /** It and those that follow within a second come at its end, of each object only what it came to. */
  | "merge"
  | { readonly delayMs: number };

export interface FaultProxy extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`: what the controller takes for its API server. */
  readonly server: string;
  readonly calls: readonly SeenCall[];
  /** Events so far, by the plural of their kind. */
  readonly events: ReadonlyMap<string, number>;
  /** Asked for each call; a promise may act first, say kill the controller. */
  onCall: ((call: SeenCall, body: string) => Fault | undefined | Promise<Fault | undefined>) | undefined;
  /** Called when the server has answered a call that is no watch, before the answer is passed on. */
  onAnswer: ((call: SeenCall, status: number, body: string) => void | Promise<void>) | undefined;
  /** Called when an answer was passed on whole. */
  onSent: ((call: SeenCall) => void) | undefined;
  onEvent: ((event: SeenEvent) => EventFault | undefined) | undefined;
  /** Events of watches are passed on this much later; 0 by default. */
  watchDelayMs: number;
  /** Passes on what was frozen. */
  release(): void;
  /** Ends every open watch, and refuses new ones while `refuse` says so. */
  cutWatches(): void;
  refuseWatches: boolean;
  /** Nothing gets through in either direction, new connections included, and nothing is refused either. */
  partitioned: boolean;
}

const longestSwapMs = 1_000;
const mergeMs = 1_000;
const mostReplayed = 6;

/** A proxy between a controller and the control plane's API server, on plain HTTP so that it needs no certificate. */
export async function startFaultProxy(cluster: Pick<TestCluster, "server" | "caPem">): Promise<FaultProxy> {
  const upstream = new URL(cluster.server);
  const agent =
    upstream.protocol === "https:"
      ? new TlsAgent({ ca: cluster.caPem, keepAlive: true })
      : new Agent({ keepAlive: true });
  const calls: SeenCall[] = [];
  const watches = new Set<ServerResponse>();
  const streams = new Set<{ release(): void }>();
  const events = new Map<string, number>();
  let writes = 0;
  let reads = 0;
  const state: Pick<
    FaultProxy,
    "onCall" | "onAnswer" | "onSent" | "onEvent" | "watchDelayMs" | "refuseWatches" | "partitioned"
  > = {
    onCall: undefined,
    onAnswer: undefined,
    onSent: undefined,
    onEvent: undefined,
    watchDelayMs: 0,
    refuseWatches: false,
    partitioned: false,
  };
  // Asked again after each wait: it changes meanwhile.
  const isCutOff = (): boolean => state.partitioned;
  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const target = incoming.url ?? "/";
    const method = incoming.method ?? "GET";
    const isWatch = /[?&]watch=(true|1)/.test(target);
    const changes = isWrite(method, target);
    const call: SeenCall = {
      write: changes ? ++writes : 0,
      read: changes || isWatch ? 0 : ++reads,
      method,
      target,
      isWatch,
      authorization: incoming.headers.authorization ?? "",
      contentType: incoming.headers["content-type"] ?? "",
      traceparent: String(incoming.headers["traceparent"] ?? ""),
    };
    calls.push(call);
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer); // A stream without encoding yields buffers.
    const payload = Buffer.concat(chunks);
    if (isCutOff()) return;
    const refused = isWatch && state.refuseWatches;
    const fault = refused ? ({ kind: "drop" } as const) : await state.onCall?.(call, payload.toString());
    if (fault?.kind === "drop") return void outgoing.destroy();
    if (fault?.kind === "hang") return;
    if (fault?.kind === "answer" && fault.afterCommit !== true) {
      refuse(outgoing, fault);
      return;
    }
    if (fault?.kind === "delay" && fault.requestMs !== undefined) await delay(fault.requestMs);
    const answer = await forward(incoming, fault?.kind === "rewrite" ? fault.target : target, payload);
    if (isWatch) {
      await pipeWatch(call, answer, outgoing);
      return;
    }
    const parts: Buffer[] = [];
    for await (const part of answer) parts.push(part as Buffer); // A stream without encoding yields buffers.
    const body = Buffer.concat(parts);
    await state.onAnswer?.(call, answer.statusCode ?? 0, body.toString());
    if (isCutOff()) return;
    if (fault?.kind === "swallow") return void outgoing.destroy();
    if (fault?.kind === "answer") {
      refuse(outgoing, fault);
      return;
    }
    if (fault?.kind === "delay" && fault.answerMs !== undefined) await delay(fault.answerMs);
    const { "transfer-encoding": _encoding, ...headers } = answer.headers;
    outgoing.writeHead(answer.statusCode ?? 502, { ...headers, "content-length": body.byteLength });
    if (fault?.kind === "truncate") {
      await new Promise((resolve) => outgoing.write(body.subarray(0, body.byteLength >> 1), resolve));
      return void outgoing.destroy();
    }
    if (fault?.kind === "trickle") return trickle(outgoing, body);
    outgoing.end(body, () => state.onSent?.(call));
  };
  const pipeWatch = async (call: SeenCall, answer: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const { "transfer-encoding": _encoding, ...headers } = answer.headers;
    outgoing.writeHead(answer.statusCode ?? 502, headers);
    outgoing.flushHeaders();
    watches.add(outgoing);
    const held: string[] = [];
    let frozen = false;
    const stream = {
      release: () => {
        frozen = false;
        for (const line of held.splice(0)) write(line);
      },
    };
    streams.add(stream);
    outgoing.once("close", () => {
      watches.delete(outgoing);
      streams.delete(stream);
      answer.destroy();
    });
    answer.once("error", () => outgoing.destroy());
    const write = (line: string): void => {
      if (!outgoing.destroyed && !outgoing.writableEnded && !isCutOff()) outgoing.write(`${line}\n`);
    };
    const kind = pluralOf(call.target);
    const told = { silent: false };
    let merging: string[] | undefined;
    const endMerge = (): void => {
      const lines = mergeEvents(merging ?? []);
      merging = undefined;
      if (frozen) held.push(...lines);
      else for (const each of lines) write(each);
    };
    let swapped: string | undefined;
    const recent: string[] = [];
    const take = async (line: string, cameAt: number): Promise<void> => {
      const isBookmark = line.startsWith('{"type":"BOOKMARK"');
      const number = isBookmark ? 0 : (events.get(kind) ?? 0) + 1;
      if (!isBookmark) events.set(kind, number);
      const restMs = cameAt + state.watchDelayMs - performance.now();
      if (state.watchDelayMs > 0 && restMs > 0) await delay(restMs);
      const fault = state.onEvent?.({ kind, number, line });
      if (typeof fault === "object") await delay(fault.delayMs);
      if (fault === "freeze") frozen = true;
      if (fault === "silence") told.silent = true;
      if (told.silent || fault === "drop") return;
      if (fault === "cut") return void outgoing.destroy();
      if (fault === "gone") {
        const status = { kind: "Status", apiVersion: "v1", status: "Failure", reason: "Expired", code: 410 };
        return void outgoing.end(`${JSON.stringify({ type: "ERROR", object: status })}\n`);
      }
      if (fault === "swap" && swapped === undefined) {
        swapped = line;
        void delay(longestSwapMs, undefined, { ref: false }).then(() => {
          if (swapped !== line) return;
          swapped = undefined;
          write(line);
        });
        return;
      }
      if (fault === "merge" && merging === undefined) {
        merging = [];
        void delay(mergeMs, undefined, { ref: false }).then(endMerge);
      }
      if (merging !== undefined) {
        // Without its bookmarks a watch that is opened anew begins before what waits here.
        if (!isBookmark) merging.push(line);
        return;
      }
      if (!isBookmark) recent.push(line);
      if (recent.length > mostReplayed) recent.shift();
      const again = fault === "double" ? [line] : fault === "replay" ? recent : [];
      const overtaken = swapped === undefined ? [] : [swapped];
      swapped = undefined;
      const lines = overtaken.some((before) => endsLifeOf(line, before))
        ? [...overtaken, line, ...again]
        : [line, ...again, ...overtaken];
      if (frozen) held.push(...lines);
      else for (const each of lines) write(each);
    };
    let rest = "";
    let taken = Promise.resolve();
    answer.setEncoding("utf8");
    for await (const chunk of answer) {
      const lines = (rest + String(chunk)).split("\n");
      rest = lines.pop() ?? "";
      const cameAt = performance.now();
      // In order, and each as late as told: the delays of neighbours do not add up.
      for (const line of lines) taken = taken.then(() => take(line, cameAt));
    }
    await taken;
    if (told.silent) return;
    endMerge();
    stream.release();
    outgoing.end();
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
    events,
    release: () => {
      for (const stream of streams) stream.release();
    },
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

/** Nothing but a new list would tell that what came after its own deletion is gone: no server sends that. */
function endsLifeOf(line: string, before: string): boolean {
  if (!line.startsWith('{"type":"DELETED"')) return false;
  const uid = (event: string): unknown => at(JSON.parse(event), "object", "metadata", "uid");
  return uid(line) === uid(before);
}

function refuse(outgoing: ServerResponse, fault: Extract<Fault, { kind: "answer" }>): void {
  outgoing.writeHead(fault.status, { "content-type": "application/json", ...fault.headers });
  outgoing.end(JSON.stringify(fault.body));
}

async function trickle(outgoing: ServerResponse, body: Buffer): Promise<void> {
  for (let at = 0; at < body.byteLength && !outgoing.destroyed; at++) {
    outgoing.write(body.subarray(at, at + 1));
    await delay(1_000, undefined, { ref: false });
  }
  outgoing.end();
}

/** The plural in the path of a collection. */
function pluralOf(target: string): string {
  return /\/([a-z0-9]+)(?:\?|$)/.exec(target)?.[1] ?? "";
}

/** Whether the request changes stored objects; Events and leases, which nothing rests on, do not count. */
function isWrite(method: string, target: string): boolean {
  if (method === "GET" || /[?&]dryRun=All/.test(target)) return false;
  return !/\/(token|selfsubjectreviews|selfsubjectaccessreviews|events|leases)([/?]|$)/.test(target);
}
