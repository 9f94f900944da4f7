import { expect, test } from "vitest";
import { createManualClock } from "../lib/clock.ts";
import { errorOfAnswer, KubeError } from "./error.ts";
import { createLimiter } from "./limiter.ts";
import { createLineParser } from "./line-parser.ts";
import { createPieces } from "./read-body.ts";
import { applyRequest, createRequest, deleteRequest, getRequest, listRequest, type ApiResource } from "./request.ts";
import { retryDelayMs } from "./retry.ts";

const deployments: ApiResource = {
  group: "apps",
  version: "v1",
  kind: "Deployment",
  plural: "deployments",
  namespaced: true,
  verbs: [],
};
const namespaces: ApiResource = {
  group: "",
  version: "v1",
  kind: "Namespace",
  plural: "namespaces",
  namespaced: false,
  verbs: [],
};

test("requests name group, namespace and object", () => {
  expect(getRequest(deployments, { namespace: "a", name: "b" }).path).toBe("/apis/apps/v1/namespaces/a/deployments/b");
  expect(getRequest(namespaces, { namespace: "ignored", name: "b" }).path).toBe("/api/v1/namespaces/b");
  expect(listRequest(deployments, { limit: 500, labelSelector: "" })).toEqual({
    method: "GET",
    path: "/apis/apps/v1/deployments",
    query: { limit: "500" },
  });
});

test("a server-side apply sends its bytes untouched", () => {
  const body = new TextEncoder().encode('{"big": 12345678901234567890}');
  const request = applyRequest(deployments, {
    namespace: "a",
    name: "b",
    body,
    fieldManager: "m",
    force: true,
    dryRun: true,
  });
  expect(request.body).toBe(body);
  expect(request.query).toEqual({ fieldManager: "m", force: "true", dryRun: "All" });
});

test.each([
  [404, { kind: "Status", message: "m", details: { name: "x" } }, "NotFound"],
  [404, { kind: "Status", message: "the server could not find the requested resource", details: {} }, "NotServed"],
  [404, "404 page not found", "NotServed"],
  [409, { kind: "Status", reason: "AlreadyExists" }, "AlreadyExists"],
  [409, { kind: "Status", reason: "Conflict" }, "Conflict"],
  [504, { kind: "Status", reason: "Timeout" }, "Timeout"],
  [503, "", "ServerError"],
  [410, { kind: "Status", reason: "Expired" }, "Gone"],
])("status %i of %j is %s", (httpStatus, body, reason) => {
  expect(errorOfAnswer({ httpStatus, body, what: "GET /x" }).reason).toBe(reason);
});

test("only what is safe to repeat is repeated after it may have taken effect", () => {
  const lost = new KubeError({ reason: "Unreachable", message: "lost", afterSend: true });
  const unsent = new KubeError({ reason: "Unreachable", message: "lost", afterSend: false });
  const create = createRequest(deployments, { namespace: "a", object: {} });
  const remove = deleteRequest(deployments, { namespace: "a", name: "b", uid: "u", propagation: "Background" });
  expect(retryDelayMs(create, lost, 1)).toBeUndefined();
  expect(retryDelayMs(create, unsent, 1)).toBeDefined();
  expect(retryDelayMs(createRequest(deployments, { object: {}, dryRun: true }), lost, 1)).toBeDefined();
  expect(retryDelayMs(remove, lost, 1)).toBeDefined();
});

test("the server's Retry-After is honoured, and too long a one is left to the caller", () => {
  const answer = (retryAfterMs: number): KubeError =>
    errorOfAnswer({ httpStatus: 429, body: "", retryAfterMs, what: "GET /x" });
  const request = getRequest(namespaces, { name: "a" });
  expect(retryDelayMs(request, answer(3000), 1)).toBe(3000);
  expect(retryDelayMs(request, answer(60_000), 1)).toBeUndefined();
});

test("lines are cut wherever chunks end", () => {
  const bytes = new TextEncoder().encode('{"a":"é"}\n\n{"b":2}\n{"c"');
  for (let split = 0; split <= bytes.length; split++) {
    const parser = createLineParser();
    const values = [...parser.push(bytes.subarray(0, split)), ...parser.push(bytes.subarray(split))];
    expect(values).toEqual([{ a: "é" }, { b: 2 }]);
    expect(parser.pending).toBe(4);
  }
});

test("a cluster that answered 429 has half its places for 10 s", async () => {
  const clock = createManualClock();
  const limiter = createLimiter({ places: 4, clock });
  const held = [await limiter.acquire(), await limiter.acquire()];
  limiter.throttle();
  let admitted = false;
  const third = limiter.acquire().then((place) => {
    admitted = true;
    return place;
  });
  await Promise.resolve();
  expect(admitted).toBe(false);
  clock.advance(10_000);
  await third;
  expect(limiter.inFlight).toBe(3);
  for (const place of held) place[Symbol.dispose]();
  expect(limiter.inFlight).toBe(1);
});

test("a waiter that gives up leaves the queue", async () => {
  const limiter = createLimiter({ places: 1, clock: createManualClock() });
  const held = await limiter.acquire();
  const abort = new AbortController();
  const waiting = limiter.acquire(abort.signal);
  abort.abort(new Error("stop"));
  await expect(waiting).rejects.toThrow("stop");
  held[Symbol.dispose]();
  expect(limiter.waiting).toBe(0);
  expect(limiter.inFlight).toBe(0);
});

test("pieces are put together in order, however many there are", () => {
  const pieces = createPieces();
  const letters = Array.from({ length: 5000 }, (_, index) => String.fromCharCode(97 + (index % 26)));
  for (const letter of letters) pieces.add(new TextEncoder().encode(letter));
  expect(pieces.bytes).toBe(5000);
  expect(pieces.take()).toBe(letters.join(""));
  expect(pieces.bytes).toBe(0);
});

test("a line over the bound is refused before its end, saying the bound", () => {
  const parser = createLineParser(1024 * 1024);
  parser.push(new Uint8Array(1024 * 1024).fill(0x20));
  expect(() => parser.push(Uint8Array.of(0x20))).toThrow("a line is larger than 1 MiB");
});
