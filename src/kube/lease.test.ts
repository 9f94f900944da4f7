import { expect, test } from "vitest";
import { createManualClock, type ManualClock } from "../lib/clock.ts";
import { asObject, at } from "../lib/json.ts";
import { silentLogger } from "../lib/telemetry.ts";
import type { KubeClient } from "./client.ts";
import { errorOfAnswer, KubeError } from "./error.ts";
import { type HeldLease, runLease } from "./lease.ts";

/** One Lease object as an API server keeps it, with optimistic concurrency. */
function createLeaseServer() {
  let object: Readonly<Record<string, unknown>> | undefined;
  let version = 0;

  const refuse = (httpStatus: number, reason: string): KubeError =>
    errorOfAnswer({ httpStatus, body: { kind: "Status", reason, details: { name: "l" } }, what: "lease" });
  const store = (body: unknown): unknown => {
    const parsed = asObject(JSON.parse(String(body))) ?? {};
    object = { ...parsed, metadata: { name: "l", resourceVersion: String(++version) } };
    return object;
  };
  const link = (): { readonly client: KubeClient; up: boolean } => {
    const own = { client, up: true };
    const send: KubeClient["send"] = (request) =>
      own.up ? client.send(request) : Promise.reject(new KubeError({ reason: "Unreachable", message: "down" }));
    own.client = { ...client, send };
    return own;
  };
  const client: KubeClient = {
    cluster: "c",
    identity: "i",
    send: async (request) => {
      await Promise.resolve();
      if (request.method === "POST") {
        if (object !== undefined) throw refuse(409, "AlreadyExists");
        return store(request.body);
      }
      if (object === undefined) throw refuse(404, "NotFound");
      if (request.method === "GET") return object;
      const expected = at(JSON.parse(String(request.body)), "metadata", "resourceVersion");
      if (expected !== at(object, "metadata", "resourceVersion")) throw refuse(409, "Conflict");
      return store(request.body);
    },
    stream: () => {
      throw new Error("unused");
    },
  };
  return {
    link,
    steal: () => store(JSON.stringify({ spec: { holderIdentity: "thief", leaseDurationSeconds: 15 } })),
    spec: () => object?.["spec"],
  };
}

function candidate(server: ReturnType<typeof createLeaseServer>, identity: string, clock: ManualClock) {
  const log: string[] = [];
  const link = server.link();
  const stop = new AbortController();
  let lease: HeldLease | undefined;
  const done = runLease({
    client: link.client,
    namespace: "n",
    name: "l",
    identity,
    clock,
    random: () => 0.5,
    logger: silentLogger,
    onAcquired: (held) => {
      lease = held;
      log.push("acquired");
    },
    onLost: () => log.push("lost"),
    signal: stop.signal,
  });
  return { log, link, stop: () => stop.abort(new Error("stop")), done, held: () => lease?.held() ?? false };
}

/** Time passes in steps, so that answers arrive between timers. */
async function pass(clock: ManualClock, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 100) {
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    clock.advance(Math.min(100, left));
  }
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

test("one of two candidates leads, and a clean stop hands over within 3 s", async () => {
  const clock = createManualClock();
  const server = createLeaseServer();
  const a = candidate(server, "a", clock);
  const b = candidate(server, "b", clock);
  await pass(clock, 30_000);
  expect([a.held(), b.held()].filter(Boolean)).toHaveLength(1);
  const [leader, other] = a.held() ? [a, b] : [b, a];
  leader.stop();
  await leader.done;
  expect(server.spec()).toMatchObject({ holderIdentity: "" });
  await pass(clock, 3000);
  expect(other.held()).toBe(true);
  expect(leader.log).toEqual(["acquired"]);
  other.stop();
  await other.done;
});

test("a leader that cannot renew stops after 10 s, before another leads within 20 s", async () => {
  const clock = createManualClock();
  const server = createLeaseServer();
  const a = candidate(server, "a", clock);
  await pass(clock, 5000);
  const b = candidate(server, "b", clock);
  await pass(clock, 1000);
  a.link.up = false;
  await pass(clock, 10_000);
  expect(a.log).toEqual(["acquired", "lost"]);
  expect(a.held()).toBe(false);
  await a.done;
  expect(b.log).toEqual([]);
  await pass(clock, 10_000);
  expect(b.log).toEqual(["acquired"]);
  b.stop();
  await b.done;
});

test("a lease taken by another is lost at the next look, and not written over", async () => {
  const clock = createManualClock();
  const server = createLeaseServer();
  const a = candidate(server, "a", clock);
  await pass(clock, 5000);
  server.steal();
  await pass(clock, 2500);
  expect(a.log).toEqual(["acquired", "lost"]);
  expect(server.spec()).toMatchObject({ holderIdentity: "thief" });
  await a.done;
});

test("a process that was paused past the deadline knows it at once, before any timer ran", async () => {
  const clock = createManualClock();
  const server = createLeaseServer();
  const a = candidate(server, "a", clock);
  await pass(clock, 1000);
  expect(a.held()).toBe(true);
  const frozen = clock.monotonic();
  // The clock moves while no timer runs: what a stopped process sees when it wakes.
  Object.assign(clock, { monotonic: () => frozen + 10_000 });
  expect(a.held()).toBe(false);
  Object.assign(clock, { monotonic: () => frozen });
  a.stop();
  await a.done;
});

test("another's clock is not trusted: a lease whose times lie in the past is waited for all the same", async () => {
  const clock = createManualClock(Date.UTC(2030, 0));
  const server = createLeaseServer();
  server.steal();
  const a = candidate(server, "a", clock);
  await pass(clock, 14_000);
  expect(a.log).toEqual([]);
  await pass(clock, 4000);
  expect(a.log).toEqual(["acquired"]);
  a.stop();
  await a.done;
});
