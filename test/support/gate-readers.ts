import { Agent, request } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

/** A replica's gate as readers find it; the address changes when the replica is replaced. */
export interface GateSlot {
  url: string;
}

/** An open answer: when it was asked for and when it was complete, in ms of `performance.now`. */
export interface OpenAnswer {
  readonly name: string;
  readonly slot: number;
  readonly began: number;
  readonly ended: number;
  /** As the answer names it. */
  readonly revision: string;
}

export interface GateReaders extends AsyncDisposable {
  /** Answers by status; JSON that says no counts as 403, a connection that failed as 0. */
  readonly counts: ReadonlyMap<number, number>;
  readonly open: readonly OpenAnswer[];
  /** Determined and undetermined answers together. */
  readonly answers: number;
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** Asks every slot over `connections` connections, again and again, for one path after the other. */
export function startGateReaders(options: {
  readonly slots: readonly GateSlot[];
  readonly connections: number;
  /** Names and the path of each. */
  readonly paths: readonly { readonly name: string; readonly path: string }[];
}): GateReaders {
  const { slots, connections, paths } = options;
  const counts = new Map<number, number>();
  const open: OpenAnswer[] = [];
  const stop = new AbortController();
  let answers = 0;
  const read = async (slot: number, seed: number): Promise<void> => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let turn = seed; !stop.signal.aborted; turn++) {
      const asked = paths[turn % paths.length];
      if (asked === undefined) return;
      const json = turn % 8 === 0;
      const began = performance.now();
      const answer = await ask(agent, `${slots[slot]?.url ?? ""}${asked.path}`, { json, post: turn % 3 === 0 });
      const { status, revision } = judge(answer, json);
      counts.set(status, (counts.get(status) ?? 0) + 1);
      if (status === 0) await delay(50);
      else answers++;
      if (status === 200) open.push({ name: asked.name, slot, began, ended: performance.now(), revision });
    }
    agent.destroy();
  };
  const running = slots.flatMap((_, slot) =>
    Array.from({ length: connections }, (_unused, index) => read(slot, index * 7)),
  );
  return {
    counts,
    open,
    get answers() {
      return answers;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await Promise.all(running);
    },
  };
}

function ask(agent: Agent, url: string, o: { readonly json: boolean; readonly post: boolean }): Promise<Answer> {
  return new Promise((resolve) => {
    const failed = (): void => resolve({ status: 0, body: "" });
    const headers = o.json ? { accept: "application/json" } : {};
    const outgoing = request(url, { agent, method: o.post ? "POST" : "GET", headers, timeout: 10_000 }, (incoming) => {
      let body = "";
      incoming.setEncoding("utf8");
      incoming.on("data", (chunk: string) => (body += chunk));
      incoming.once("error", failed);
      incoming.once("end", () => resolve({ status: incoming.statusCode ?? 0, body }));
    });
    outgoing.once("error", failed);
    outgoing.once("timeout", () => outgoing.destroy());
    outgoing.end();
  });
}

function judge({ status, body }: Answer, json: boolean): { readonly status: number; readonly revision: string } {
  if (status !== 200) return { status, revision: "" };
  if (!json) return { status, revision: / is Ready at (\S+)/.exec(body)?.[1] ?? "" };
  const ready = body.startsWith('{"ready":true');
  return { status: ready ? 200 : 403, revision: /"revision":"([^"]*)"/.exec(body)?.[1] ?? "" };
}
