import fc from "fast-check";
import { expect, test } from "vitest";
import { createManualClock } from "../lib/clock.ts";
import { silentLogger } from "../lib/telemetry.ts";
import type { KubeClient } from "./client.ts";
import { errorOfAnswer } from "./error.ts";
import { createEventRecorder, cutNote } from "./events.ts";
import type { KubeRequest } from "./request.ts";

const signal = new AbortController().signal;
const regarding = { apiVersion: "stages.metio.wtf/v1", kind: "StageSet", namespace: "apps", name: "web", uid: "u1" };

function recorder(answer: (request: KubeRequest) => unknown = () => ({})) {
  const sent: KubeRequest[] = [];
  const client: KubeClient = {
    cluster: "c",
    identity: "i",
    send: async (request) => {
      await Promise.resolve();
      sent.push(request);
      return answer(request);
    },
    stream: () => {
      throw new Error("unused");
    },
  };
  const clock = createManualClock();
  const events = createEventRecorder({
    client,
    clock,
    random: () => 0.5,
    logger: silentLogger,
    reportingController: "stageset-controller",
    reportingInstance: "pod",
  });
  const bodies = (): readonly unknown[] => sent.map((request) => JSON.parse(String(request.body)) as unknown);
  return { events, clock, sent, bodies };
}

test("a note is at most 1024 bytes, cut between characters", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", maxLength: 2000, minLength: 200 }), (text) => {
      const note = cutNote(text);
      expect(Buffer.byteLength(note)).toBeLessThanOrEqual(1024);
      if (Buffer.byteLength(text) <= 1024) expect(note).toBe(text);
      else {
        expect(note.endsWith("…")).toBe(true);
        expect(text.startsWith(note.slice(0, -1))).toBe(true);
        expect(Buffer.byteLength(note)).toBeGreaterThan(1024 - 8);
      }
    }),
  );
});

test("an event names its object, and action is the reason", async () => {
  const { events, sent, bodies } = recorder();
  events.record({ regarding, type: "Warning", reason: "StageFailed", note: 'stage "a" apply: refused' });
  await events.flush({ signal });
  expect(sent[0]?.path).toBe("/apis/events.k8s.io/v1/namespaces/apps/events");
  expect(bodies()[0]).toMatchObject({
    action: "StageFailed",
    reason: "StageFailed",
    type: "Warning",
    regarding,
    reportingController: "stageset-controller",
  });
});

test("an identical event is written once per 10 min, then as a series", async () => {
  const { events, clock, sent, bodies } = recorder();
  const event = { regarding, type: "Normal" as const, reason: "Succeeded", note: "n" };
  for (let i = 0; i < 5; i++) events.record(event);
  await events.flush({ signal });
  expect(sent).toHaveLength(1);
  clock.advance(600_000);
  events.record(event);
  events.record({ ...event, note: "other" });
  await events.flush({ signal });
  expect(sent.map((request) => request.method)).toEqual(["POST", "PATCH", "POST"]);
  expect(bodies()[1]).toMatchObject({ series: { count: 6 } });
});

test("a series whose event has expired goes on under a new one", async () => {
  const { events, clock, sent, bodies } = recorder((request) => {
    if (request.method === "PATCH") {
      throw errorOfAnswer({ httpStatus: 404, body: { kind: "Status", details: { name: "x" } }, what: "PATCH" });
    }
    return {};
  });
  const event = { regarding, type: "Normal" as const, reason: "Succeeded", note: "n" };
  events.record(event);
  clock.advance(600_000);
  events.record(event);
  await events.flush({ signal });
  expect(sent.map((request) => request.method)).toEqual(["POST", "PATCH", "POST"]);
  expect(bodies()[2]).toMatchObject({ series: { count: 2 } });
});

test("a refused event neither throws nor stops the next", async () => {
  const { events, sent } = recorder(() => {
    throw errorOfAnswer({ httpStatus: 403, body: "", what: "POST" });
  });
  events.record({ regarding, type: "Normal", reason: "A", note: "n" });
  events.record({ regarding, type: "Normal", reason: "B", note: "n" });
  await events.flush({ signal });
  expect(sent).toHaveLength(2);
});

test("one object's events are bounded, another's are not held back by them", async () => {
  const { events, sent } = recorder();
  for (let i = 0; i < 500; i++) events.record({ regarding, type: "Normal", reason: "A", note: String(i) });
  events.record({ regarding: { ...regarding, name: "api", uid: "u2" }, type: "Normal", reason: "A", note: "n" });
  await events.flush({ signal });
  expect(sent).toHaveLength(101);
});

test("events of cluster-scoped objects go to namespace default", async () => {
  const { events, sent } = recorder();
  events.record({ regarding: { apiVersion: "v1", kind: "X", name: "f" }, type: "Normal", reason: "A", note: "n" });
  await events.flush({ signal });
  expect(sent[0]?.path).toContain("/namespaces/default/");
});
