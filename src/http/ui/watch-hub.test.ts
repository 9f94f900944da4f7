import { describe, expect, test } from "vitest";
import { createManualClock } from "../../lib/clock.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { silentLogger } from "../../lib/telemetry.ts";
import type { StreamSink } from "../message.ts";
import type { Caller } from "./callers.ts";
import type { ChangedObject, UiView } from "./ui-view.ts";
import { createWatchHub, mostPerCaller, mostStreams } from "./watch-hub.ts";

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
    hub: createWatchHub({ view, clock, logger: silentLogger }),
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
    hub.reserve(callerNamed("ann"))?.(made, { kind: "overview" });
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
    hub.reserve(callerNamed("ann"))?.(made, { kind: "overview" });
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
    hub.reserve(callerNamed("ann"))?.(made, { kind: "overview" });
    await pass(0);
    expect(hub.open).toBe(1);
    await pass(30_000);
    expect(hub.open).toBe(0);
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
    hub.reserve(caller)?.(made, { kind: "overview" });
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
    expect(hub.open).toBe(0);
    hub[Symbol.dispose]();
  });
});

describe("places", () => {
  test("one caller has a bound, and gives way to others when all are taken", async () => {
    const { hub, pass } = scene([]);
    const open = (name: string): boolean => {
      const start = hub.reserve(callerNamed(name));
      start?.(sink().made, { kind: "overview" });
      return start !== undefined;
    };
    for (let count = 0; count < mostPerCaller; count++) expect(open("ann")).toBe(true);
    expect(open("ann")).toBe(false);
    for (let count = 0; hub.open < mostStreams; count++) open(`guest-${count}`);
    expect(open("late")).toBe(true);
    expect(hub.open).toBe(mostStreams);
    await pass(0);
    hub[Symbol.dispose]();
    expect(hub.open).toBe(0);
  });
});
