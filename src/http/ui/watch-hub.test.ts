import { describe, expect, test } from "vitest";
import { createManualClock } from "../../lib/clock.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { silentLogger } from "../../lib/telemetry.ts";
import type { StreamSink } from "../message.ts";
import type { Caller } from "./callers.ts";
import { createRows } from "./rows.ts";
import type { ChangedObject, UiView } from "./ui-view.ts";
import { createWatchHub, mostPerCaller, mostStreams } from "./watch-hub.ts";

const never = new AbortController().signal;

function stageSet(name: string, version: string): KubeObject {
  return {
    apiVersion: "stages.metio.wtf/v1",
    kind: "StageSet",
    metadata: { name, namespace: "apps", generation: 1 },
    status: { observedGeneration: 1, version },
  };
}

function scene(names: readonly string[]) {
  const clock = createManualClock();
  const held = new Map(names.map((name) => [name, stageSet(name, "1.0.0")]));
  const listeners = new Set<(changed: ChangedObject) => void>();
  const view: UiView = {
    isSynced: () => true,
    stageSets: () => [...held.values()],
    stageSet: (_namespace, name) => held.get(name),
    fleets: () => [],
    fleet: () => undefined,
    input: (each) => ({ stageSet: each, now: clock.now() }),
    subscribe: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
  };
  return {
    clock,
    hub: createWatchHub({ view, rows: createRows(view), clock, logger: silentLogger }),
    change: (name: string, version: string | undefined): void => {
      if (version === undefined) held.delete(name);
      else held.set(name, stageSet(name, version));
      for (const listener of listeners) listener({ kind: "StageSet", namespace: "apps", name });
    },
    /** Lets promises and turns of the loop pass, and this much time. */
    pass: async (ms: number): Promise<void> => {
      for (let round = 0; round < 30; round++) await new Promise((resolve) => setImmediate(resolve));
      clock.advance(ms);
      for (let round = 0; round < 30; round++) await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

function callerNamed(name: string, changes: Partial<Caller> = {}): Caller {
  return { name, isValid: () => Promise.resolve(true), may: () => Promise.resolve(true), ...changes };
}

function sink(takes: () => boolean = () => true) {
  const ended = new AbortController();
  const written: string[] = [];
  const drains: (() => void)[] = [];
  const made: StreamSink = {
    write: (text) => {
      written.push(text);
      return takes();
    },
    onDrain: (call) => void drains.push(call),
    end: () => ended.abort(new Error("ended")),
    signal: ended.signal,
  };
  return {
    made,
    written,
    drain: () => drains.splice(0).forEach((call) => call()),
    names: () => [...written.join("").matchAll(/"name":"([^"]+)"/g)].map(([, name]) => name),
  };
}

describe("a stream", () => {
  test("tells all that is there, then what changes, once for changes that come together", async () => {
    const { hub, change, pass } = scene(["a", "b"]);
    const { made, written, names } = sink();
    hub.reserve(callerNamed("ann"), never)?.(made, { kind: "overview" });
    await pass(0);
    expect(names()).toEqual(["a", "b"]);
    expect(written.at(-1)).toBe("event: synced\ndata: {}\n\n");
    written.length = 0;
    change("a", "1.0.1");
    change("a", "1.0.2");
    change("b", undefined);
    await pass(250);
    expect(written.join("").match(/"version":"[^"]*"/g)).toEqual(['"version":"1.0.2"']);
    expect(written.join("")).toContain('event: gone\ndata: {"kind":"StageSet","namespace":"apps","name":"b"}');
    hub[Symbol.dispose]();
    expect(made.signal.aborted).toBe(true);
  });

  test("writes no more than a client takes, and what it missed only as it is then", async () => {
    const { hub, change, pass } = scene(Array.from({ length: 200 }, (_, index) => `s${index}`));
    let isTaking = true;
    const { made, written, drain } = sink(() => isTaking);
    hub.reserve(callerNamed("ann"), never)?.(made, { kind: "overview" });
    await pass(0);
    isTaking = false;
    written.length = 0;
    for (let count = 0; count < 100; count++) {
      change("s1", `2.0.${count}`);
      await pass(250);
    }
    expect(written).toHaveLength(1);
    isTaking = true;
    drain();
    await pass(250);
    expect(written.join("").match(/"version":"[^"]*"/g)).toEqual(['"version":"2.0.0"', '"version":"2.0.99"']);
    hub[Symbol.dispose]();
  });

  test("ends when a client takes nothing for 30 s, and leaves its place", async () => {
    const { hub, pass } = scene(["a"]);
    const { made } = sink(() => false);
    hub.reserve(callerNamed("ann"), never)?.(made, { kind: "overview" });
    await pass(0);
    expect(hub.taken).toBe(1);
    await pass(30_000);
    expect(hub.taken).toBe(0);
    hub[Symbol.dispose]();
  });

  test("ends when its caller's token is no longer valid, and shows nothing that a right was taken from", async () => {
    const { hub, change, pass } = scene(["a"]);
    let isValid = true;
    let mayList = true;
    const { made, written } = sink();
    const caller = callerNamed("ann", {
      isValid: () => Promise.resolve(isValid),
      may: () => Promise.resolve(mayList),
    });
    hub.reserve(caller, never)?.(made, { kind: "overview" });
    await pass(0);
    mayList = false;
    for (let count = 0; count < 6; count++) await pass(10_000);
    await pass(250);
    expect(written.join("")).toContain("event: gone");
    isValid = false;
    change("a", "3.0.0");
    await pass(250);
    expect(written.join("")).not.toContain("3.0.0");
    expect(written.at(-1)).toContain("event: unauthenticated");
    expect(hub.taken).toBe(0);
    hub[Symbol.dispose]();
  });
});

describe("a stream whose reviews fail", () => {
  test("tells the rest, and what it could not tell as soon as it can, and only then that this is all", async () => {
    const { hub, pass } = scene(["a", "b", "c"]);
    const { made, written, names } = sink();
    let asked = 0;
    const caller = callerNamed("ann", {
      may: () => (++asked === 1 ? Promise.reject(new Error("no answer")) : Promise.resolve(true)),
    });
    hub.reserve(caller, never)?.(made, { kind: "overview" });
    await pass(0);
    expect(names()).toEqual(["b", "c"]);
    expect(written.join("")).not.toContain("synced");
    await pass(2_000);
    expect(names()).toEqual(["b", "c", "a"]);
    expect(written.at(-1)).toContain("synced");
    hub[Symbol.dispose]();
  });

  test("asks no more than five times in two seconds", async () => {
    const { hub, pass } = scene(Array.from({ length: 50 }, (_, index) => `s${index}`));
    const { made } = sink();
    let asked = 0;
    const caller = callerNamed("ann", {
      may: () => {
        asked++;
        return Promise.reject(new Error("no answer"));
      },
    });
    hub.reserve(caller, never)?.(made, { kind: "overview" });
    await pass(0);
    expect(asked).toBe(5);
    await pass(2_000);
    expect(asked).toBe(10);
    expect(made.signal.aborted).toBe(false);
    hub[Symbol.dispose]();
  });
});

describe("places", () => {
  test("one caller has a bound, and gives way to others when all are taken", async () => {
    const { hub, pass } = scene([]);
    const open = (name: string): boolean => {
      const start = hub.reserve(callerNamed(name), never);
      start?.(sink().made, { kind: "overview" });
      return start !== undefined;
    };
    for (let count = 0; count < mostPerCaller; count++) expect(open("ann")).toBe(true);
    expect(open("ann")).toBe(false);
    for (let count = 0; hub.taken < mostStreams; count++) open(`guest-${count}`);
    expect(open("late")).toBe(true);
    expect(hub.taken).toBe(mostStreams);
    await pass(0);
    hub[Symbol.dispose]();
    expect(hub.taken).toBe(0);
  });

  test("count from when they are given: of 200 at once one caller gets so many, and all together", () => {
    const { hub } = scene([]);
    const requests = Array.from({ length: 200 }, () => new AbortController());
    const own = requests.map(({ signal }) => hub.reserve(callerNamed("ann"), signal));
    expect(own.filter((open) => open !== undefined)).toHaveLength(mostPerCaller);
    const others = requests.map((_, index) => hub.reserve(callerNamed(`guest-${index % 20}`), never));
    expect(others.filter((open) => open !== undefined).length).toBeGreaterThan(mostStreams - mostPerCaller - 1);
    expect(hub.taken).toBe(mostStreams);
    hub[Symbol.dispose]();
  });

  test("are left when the client goes before its stream is open", async () => {
    const { hub, pass } = scene(["a"]);
    const request = new AbortController();
    const open = hub.reserve(callerNamed("ann"), request.signal);
    expect(hub.taken).toBe(1);
    request.abort();
    expect(hub.taken).toBe(0);
    const { made, written } = sink();
    open?.(made, { kind: "overview" });
    await pass(0);
    expect([made.signal.aborted, written, hub.taken]).toEqual([true, [], 0]);
    hub[Symbol.dispose]();
  });

  test("are kept by a stream that is open when its request is over", async () => {
    const { hub, pass } = scene(["a"]);
    const request = new AbortController();
    const { made, names } = sink();
    hub.reserve(callerNamed("ann"), request.signal)?.(made, { kind: "overview" });
    request.abort();
    await pass(0);
    expect([hub.taken, names()]).toEqual([1, ["a"]]);
    made.end();
    expect(hub.taken).toBe(0);
    hub[Symbol.dispose]();
  });
});
