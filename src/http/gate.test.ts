import { describe, expect, test } from "vitest";
import type { StageReadiness } from "../domain/stage-readiness.ts";
import { silentLogger } from "../lib/telemetry.ts";
import { createGate, type StageName } from "./gate.ts";
import type { HttpResponse } from "./message.ts";

const ready: StageReadiness = { kind: "ready", phase: "Ready", revision: "main@sha1:abc" };

function gateOf(answer: StageReadiness | "undetermined" = ready) {
  const asked: StageName[] = [];
  const counted: string[] = [];
  const gate = createGate({
    view: {
      readiness: (name) => {
        asked.push(name);
        return Promise.resolve(answer);
      },
    },
    requests: {
      add: ({ dialect, code, reason }) => void counted.push(`${dialect ?? ""} ${code ?? ""} ${reason ?? ""}`),
      remove: () => undefined,
    },
    logger: silentLogger,
    clock: { monotonic: () => 0 },
  });
  const ask = async (target: string, method = "GET", accept?: string): Promise<HttpResponse> =>
    gate(
      { method, target, header: (name) => (name === "accept" ? accept : undefined) },
      { signal: new AbortController().signal },
    );
  return { ask, asked, counted };
}

describe("paths of the gate", () => {
  test.each<[string, number]>([
    ["/gate/ns/ss/stage", 200],
    ["/gate/ns/ss/stage/", 200],
    ["/gate/ns/ss/stage?x=1", 200],
    ["/gate/./../stage", 200],
    ["http://stageset-controller-gate:8082/gate/ns/ss/stage?x=/gate", 200],
    ["http://gate", 404],
    ["/gate/a%2Fb/ss/stage", 200],
    ["/gate/ns/ss/%00", 200],
    ["/gate/ns/ss/%zz", 400],
    ["/gate/ns/ss/%ff", 400],
    ["/gate//ss/stage", 400],
    ["/gate/ns/ss//", 400],
    ["/gate/ns/ss/stage//", 400],
    ["/gate/ns/ss", 400],
    ["/gate/ns/ss/", 400],
    ["/gate/ns/ss/stage/more", 400],
    ["/gate/", 400],
    ["/gate", 404],
    ["/", 404],
    ["/GATE/ns/ss/stage", 404],
    ["//gate/ns/ss/stage", 404],
    ["/gate/../gate/ns/ss/stage", 400],
  ])("[40.38] %s → %i, never a redirect", async (target, status) => {
    const response = await gateOf().ask(target);
    expect(response.status).toBe(status);
    expect(response.headers).not.toHaveProperty("location");
  });

  test("[40.38] an escaped slash stays inside its segment, and dots are plain names", async () => {
    const { ask, asked } = gateOf();
    await ask("/gate/a%2Fb/../%2e%2e");
    expect(asked).toEqual([{ namespace: "a/b", stageSet: "..", stage: ".." }]);
  });
});

describe("answers of the gate", () => {
  test.each(["GET", "HEAD", "POST"])("[40.35] %s of a ready stage is 200", async (method) => {
    const response = await gateOf().ask("/gate/ns/ss/stage", method);
    expect(response).toMatchObject({ status: 200, body: "stage ns/ss/stage is Ready at main@sha1:abc\n" });
  });

  test.each(["PUT", "DELETE", "PATCH", "OPTIONS", "get"])("[40.35] %s is 405 with Allow", async (method) => {
    const { ask, counted } = gateOf();
    const response = await ask("/gate/ns/ss/stage", method);
    expect(response).toMatchObject({ status: 405, headers: { allow: "GET, HEAD, POST" } });
    expect(counted).toEqual(["text 405 MethodNotAllowed"]);
  });

  const reasons = [
    "NotFound",
    "Deleting",
    "Suspended",
    "SpecPending",
    "RolledBack",
    "Blocked",
    "NotReady",
    "RevisionPending",
  ] as const;
  test.each(reasons)("403 for %s, 200 with ready false as JSON", async (reason) => {
    const { ask, counted } = gateOf({ kind: "closed", reason, phase: "Verifying", revision: "v1" });
    const text = await ask("/gate/ns/ss/stage");
    expect(text).toMatchObject({ status: 403, body: `stage ns/ss/stage is not ready: Verifying, ${reason}\n` });
    const json = await ask("/gate/ns/ss/stage", "GET", "application/json");
    expect(json.status).toBe(200);
    expect(String(json.body)).toBe(
      `{"ready":false,"namespace":"ns","stageset":"ss","stage":"stage","phase":"Verifying","revision":"v1","reason":"${reason}"}\n`,
    );
    expect(counted).toEqual([`text 403 ${reason}`, `json 200 ${reason}`]);
  });

  test("[40.35] what cannot be known is 503 with Retry-After in both dialects", async () => {
    const { ask } = gateOf("undetermined");
    for (const accept of [undefined, "application/json"]) {
      const response = await ask("/gate/ns/ss/stage", "GET", accept);
      expect(response).toMatchObject({ status: 503, headers: { "retry-after": "1" } });
    }
    const json = await ask("/gate/ns/ss/stage", "POST", "application/json");
    expect(JSON.parse(String(json.body))).toMatchObject({ ready: false, reason: "Undetermined" });
  });
});

describe("what an answer discloses", () => {
  test("[40.39] every answer forbids caching and sniffing and nothing else", async () => {
    const { ask } = gateOf();
    for (const target of ["/gate/ns/ss/stage", "/gate/x", "/y"]) {
      const { headers } = await ask(target);
      expect(headers).toMatchObject({
        "cache-control": "no-store",
        vary: "Accept",
        "x-content-type-options": "nosniff",
      });
      expect(Object.keys(headers).sort()).toEqual(["cache-control", "content-type", "vary", "x-content-type-options"]);
    }
  });

  test("[40.39] text is one short line of printable ASCII, whatever the path holds", async () => {
    const { ask } = gateOf({ kind: "closed", reason: "NotFound", phase: undefined, revision: undefined });
    const hostile = encodeURIComponent("\u0000\n\r<script>é😀".repeat(100));
    const { body } = await ask(`/gate/${hostile}/ss/stage`);
    expect(String(body)).toMatch(/^[\x20-\x7e]{1,510}\n$/);
  });
});
