import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asArray, asText, at } from "../../src/lib/json.ts";
import { auditEvents, auditMark, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { stageSetRef, startTestController } from "../support/controller.ts";
import {
  namesOf,
  readerToken,
  ready,
  stageSetWithStatus,
  startUiReplica,
  writeStatus,
  type UiReplica,
} from "../support/ui.ts";

const cluster = testCluster();
const { admin } = cluster;

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
}

let mine = "";
let theirs = "";
let replica: UiReplica;
const tokens = { mine: "", getOnly: "", nobody: "" };
const secret = "hunter2-never-shown";

beforeAll(async () => {
  mine = await uniqueNamespace(cluster);
  theirs = await uniqueNamespace(cluster);
  const soon = new Date(Date.now() + 600_000);
  await stageSetWithStatus(cluster, {
    namespace: mine,
    name: "web",
    spec: { postBuild: { substitute: { password: secret } } },
    stages: [
      { name: "app", sourceRef: { name: "app" }, promotion: { soak: "10m" } },
      { name: "prod", sourceRef: { name: "app" } },
    ],
    status: {
      version: "1.4.0",
      conditions: [ready("False", "Soaking", 'stage "app" soaks')],
      stages: [
        {
          name: "app",
          phase: "Ready",
          appliedRevision: "v2",
          entriesCount: 3,
          promotionState: { phase: "Soaking", soakUntil: `${soon.toISOString().slice(0, 19)}Z` },
        },
        { name: "prod", phase: "Pending" },
      ],
    },
  });
  await stageSetWithStatus(cluster, {
    namespace: theirs,
    name: "hidden",
    status: { conditions: [ready("True", "Succeeded", "done")] },
  });
  tokens.mine = await readerToken(cluster, { namespace: mine, name: "reader" });
  tokens.getOnly = await readerToken(cluster, { namespace: mine, name: "getter", verbs: ["get"] });
  tokens.nobody = await readerToken(cluster, { namespace: mine, name: "nobody", verbs: [] });
  replica = await startUiReplica(cluster, { namespaces: [mine, theirs] });
});
afterAll(() => replica[Symbol.asyncDispose]());

async function get(path: string, token?: string, init: RequestInit = {}): Promise<Answer> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const answer = await fetch(`${replica.url}${path}`, { headers, ...init });
  const text = await answer.text();
  const isJson = answer.headers.get("content-type")?.startsWith("application/json") ?? false;
  return { status: answer.status, headers: answer.headers, body: isJson ? (JSON.parse(text) as unknown) : text };
}

describe("the web UI", () => {
  test("[60.33] off, which is the default: no port, no check of readiness", async () => {
    await using plain = await startTestController(cluster, { namespaces: [mine] });
    expect((await plain.probe("/readyz?verbose")).body).not.toContain("ui");
    expect(plain.running.ports().ui).toBeUndefined();
  });

  test("[60.33] on: a check of readiness named ui that passes once it listens", async () => {
    expect((await replica.controller.probe("/readyz/ui")).status).toBe(200);
  });

  test("[60.33] a request without token is answered 401 with WWW-Authenticate: Bearer, and so is one of nobody", async () => {
    for (const path of ["/api/v1/stagesets", `/api/v1/stagesets/${mine}/web`, "/api/v1/watch", "/api/v1/nothing"]) {
      for (const token of [undefined, "nonsense", "a".repeat(13_000)]) {
        const { status, headers, body } = await get(path, token);
        expect(status, path).toBe(401);
        expect(headers.get("www-authenticate")).toBe("Bearer");
        expect(JSON.stringify(body)).not.toContain("web");
      }
    }
  });

  test("[60.33] other methods are answered 405, with a token or without", async () => {
    for (const method of ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
      for (const token of [undefined, tokens.mine]) {
        const { status, headers } = await get("/api/v1/stagesets", token, {
          method,
          headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
        });
        expect(status, method).toBe(405);
        expect(headers.get("allow")).toBe("GET, HEAD");
      }
  });

  test("every answer forbids what would run or frame it", async () => {
    for (const path of ["/", "/app.js", "/api/v1/stagesets", "/nothing"]) {
      const { headers } = await get(path);
      expect(headers.get("content-security-policy"), path).toMatch(/^default-src 'self';/);
      expect(headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
      expect(headers.get("x-frame-options")).toBe("DENY");
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("referrer-policy")).toBe("no-referrer");
      expect(headers.get("cache-control")).toBe("no-store");
    }
  });

  test("the files of the page are for everybody, and nothing else of the disk is", async () => {
    expect(await get("/")).toMatchObject({ status: 200, body: expect.stringContaining("<title>StageSets") as string });
    for (const path of ["/tsconfig.json", "/../package.json", "/%2e%2e/package.json", "/web/app.js"])
      expect((await get(path)).status, path).toBe(404);
  });
});

describe("callers within their rights", () => {
  test("a list has what the caller may list, a page what they may get", async () => {
    const { status, body } = await get("/api/v1/stagesets", tokens.mine);
    expect(status).toBe(200);
    expect(namesOf(body)).toEqual([`${mine}/web`]);
    expect(at(asArray(at(body, "items"))[0], "cause")).toMatchObject({ kind: "promotion", stage: "app" });
    expect((await get(`/api/v1/stagesets/${mine}/web`, tokens.mine)).body).toMatchObject({
      name: "web",
      version: "1.4.0",
      state: "waiting",
      stages: [
        { name: "app", revision: "v2", entries: 3, gate: { phase: "Soaking" } },
        { name: "prod", phase: "Pending" },
      ],
    });
    expect((await get(`/api/v1/stagesets/${mine}/web/why`, tokens.mine)).body).toMatchObject({
      namespace: mine,
      name: "web",
      state: "waiting",
      cause: { kind: "promotion", reason: "Soaking" },
      // Nobody publishes what it names.
      others: [{ kind: "source", stage: "app", object: "ExternalArtifact/app" }],
      objects: [],
    });
  });

  test("who may get but not list sees the page alone, who may nothing sees nothing", async () => {
    expect(namesOf((await get("/api/v1/stagesets", tokens.getOnly)).body)).toEqual([]);
    expect((await get(`/api/v1/stagesets/${mine}/web`, tokens.getOnly)).status).toBe(200);
    expect(namesOf((await get("/api/v1/stagesets", tokens.nobody)).body)).toEqual([]);
    for (const name of ["web", "there-is-none"])
      for (const more of ["", "/why"]) {
        const { status, body } = await get(`/api/v1/stagesets/${mine}/${name}${more}`, tokens.nobody);
        expect([status, body]).toEqual([403, { error: "you may not read this object" }]);
      }
    expect((await get(`/api/v1/stagesets/${theirs}/hidden`, tokens.mine)).status).toBe(403);
    expect((await get(`/api/v1/stagesets/${mine}/there-is-none`, tokens.mine)).status).toBe(404);
    expect((await get("/api/v1/fleetrollouts/any", tokens.mine)).status).toBe(403);
  });

  test("who may list everywhere sees all of what the replica watches", async () => {
    const { body } = await get("/api/v1/stagesets", cluster.adminToken);
    expect(namesOf(body)).toEqual([`${mine}/web`, `${theirs}/hidden`].toSorted());
  });

  test("nothing of a manifest is told, such as values of variables", async () => {
    for (const path of ["/api/v1/stagesets", `/api/v1/stagesets/${mine}/web`, `/api/v1/stagesets/${mine}/web/why`])
      expect(JSON.stringify((await get(path, cluster.adminToken)).body)).not.toContain(secret);
  });

  test("a view reads nothing of the API server but reviews, and those once", async () => {
    const reader = await readerToken(cluster, { namespace: mine, name: "counted" });
    const since = await auditMark(cluster);
    const began = performance.now();
    for (let round = 0; round < 5; round++) {
      await get("/api/v1/stagesets", reader);
      await get(`/api/v1/stagesets/${mine}/web`, reader);
    }
    // The review of another token, after all of those.
    await get("/api/v1/nothing", await readerToken(cluster, { namespace: mine, name: "after" }));
    const minutes = Math.ceil((performance.now() - began) / 60_000);
    const reviews = await eventually(async () => {
      const events = await auditEvents(cluster, {
        since,
        where: (event) =>
          event.username === replica.username &&
          event.group !== "coordination.k8s.io" &&
          event.stage === "ResponseComplete",
      });
      return events.filter(({ resource }) => resource === "tokenreviews").length >= 2 ? events : undefined;
    });
    expect(reviews.every(({ resource }) => /reviews$/.test(resource))).toBe(true);
    // Whose token it is; to list everywhere, to list in each of two namespaces, and to get the one object.
    const once = 1 + 4;
    expect(reviews.length - 1).toBeGreaterThanOrEqual(once);
    expect(reviews.length - 1).toBeLessThanOrEqual(once * minutes);
  });
});

/** The events of a stream as they come. */
interface Stream extends Disposable {
  readonly status: number;
  readonly events: readonly { readonly event: string; readonly data: unknown }[];
}

function follow(path: string, token: string): Promise<Stream> {
  return new Promise((resolve, reject) => {
    const sent = request(`${replica.url}${path}`, { headers: { authorization: `Bearer ${token}` } }, (response) => {
      const events: { event: string; data: unknown }[] = [];
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
        const blocks = text.split("\n\n");
        text = blocks.pop() ?? "";
        for (const block of blocks) {
          const match = /^event: (.*)\ndata: (.*)$/.exec(block);
          if (match !== null) events.push({ event: match[1] ?? "", data: JSON.parse(match[2] ?? "null") as unknown });
        }
      });
      response.on("error", () => undefined);
      resolve({ status: response.statusCode ?? 0, events, [Symbol.dispose]: () => void response.destroy() });
    });
    sent.on("error", reject);
    sent.end();
  });
}

describe("the stream", () => {
  test("tells what there is, then each change, within the caller's rights", async () => {
    using all = await follow("/api/v1/watch", cluster.adminToken);
    using own = await follow("/api/v1/watch", tokens.mine);
    using page = await follow(`/api/v1/watch?namespace=${mine}&name=web`, tokens.getOnly);
    await eventually(() => all.events.some(({ event }) => event === "synced"));
    await eventually(() => own.events.some(({ event }) => event === "synced"));
    await eventually(() => page.events.some(({ event }) => event === "page"));
    const names = (of: Stream, kind: string) =>
      of.events.filter(({ event }) => event === kind).map(({ data }) => at(data, "name"));
    expect(names(all, "stageset").toSorted()).toEqual(["hidden", "web"]);
    expect(names(own, "stageset")).toEqual(["web"]);

    const made = await stageSetWithStatus(cluster, { namespace: theirs, name: "new", status: {} });
    await eventually(() => names(all, "stageset").includes("new"));
    await admin.delete(stageSetRef(theirs, "new"));
    await eventually(() => names(all, "gone").includes("new"));
    expect(made.metadata.name).toBe("new");
    const web = await admin.get(stageSetRef(mine, "web"));
    if (web === undefined) throw new Error("the StageSet is gone");
    await writeStatus(cluster, web, { ...(at(web, "status") as object), version: "1.5.0" });
    await eventually(() => page.events.some(({ data }) => at(data, "version") === "1.5.0"));
    await eventually(() => own.events.some(({ data }) => at(data, "version") === "1.5.0"));
    expect(JSON.stringify(own.events)).not.toContain(theirs);
  });

  test("an object that the caller may not read is gone for them, whether it is there or not", async () => {
    for (const name of ["web", "there-is-none"]) {
      using stream = await follow(`/api/v1/watch?namespace=${mine}&name=${name}`, tokens.nobody);
      const told = await eventually(() => stream.events.find(({ event }) => event !== "hello"));
      expect(told).toEqual({ event: "gone", data: { kind: "StageSet", namespace: mine, name } });
    }
  });

  test("one caller gets so many streams and is told to come again for more, others still get theirs", async () => {
    using stack = new DisposableStack();
    const opened = await Promise.all(Array.from({ length: 60 }, () => follow("/api/v1/watch", tokens.mine)));
    for (const stream of opened) stack.use(stream);
    const given = opened.filter(({ status }) => status === 200);
    expect(given.length).toBeGreaterThan(0);
    expect(given.length).toBeLessThanOrEqual(16);
    expect(new Set(opened.map(({ status }) => status))).toEqual(new Set([200, 503]));
    using other = await follow("/api/v1/watch", tokens.getOnly);
    expect(other.status).toBe(200);
  });
});

/** What a browser gets that was led here by a name. */
function statusFor(host: string, { url }: UiReplica): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const sent = request(`${url}/api/v1/stagesets`, { headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    sent.on("error", reject);
    sent.end();
  });
}

describe("without authentication", () => {
  test("whoever reaches it by a name that is its own reads all, and the log says so", async () => {
    await using open = await startUiReplica(cluster, { namespaces: [mine, theirs], auth: "none" });
    const answer = await fetch(`${open.url}/api/v1/stagesets`);
    expect(namesOf(await answer.json())).toEqual([`${mine}/web`, `${theirs}/hidden`].toSorted());
    expect(open.controller.logs.join("\n")).toContain("--ui-auth=none");
    expect(await statusFor("rebound.example.com", open)).toBe(421);
    expect(await statusFor("localhost:8085", open)).toBe(200);
    // With tokens any name will do: no browser sends one along by itself.
    expect(await statusFor("ui.example.com", replica)).toBe(401);
  });
});

describe("a FleetRollout", () => {
  test("is shown with the status it has, to who may read it", async () => {
    const name = `fleet-${mine}`;
    const fleet = { apiVersion: "stages.metio.wtf/v1", kind: "FleetRollout", metadata: { name } } as const;
    await admin.create({
      ...fleet,
      spec: {
        targetVersion: "2.0.0",
        selector: {},
        waves: [
          { name: "canary", selector: {} },
          { name: "rest", selector: {} },
        ],
      },
    });
    try {
      const page = await eventually(async () => {
        const { status, body } = await get(`/api/v1/fleetrollouts/${name}`, cluster.adminToken);
        return status === 200 ? body : undefined;
      });
      expect(page).toMatchObject({
        name,
        phase: "Pending",
        targetVersion: "2.0.0",
        waves: [{ name: "canary" }, { name: "rest" }],
      });
      expect(asText(at(page, "currentWave"))).toBeUndefined();
      expect((await get(`/api/v1/fleetrollouts/${name}`, tokens.mine)).status).toBe(403);
      expect((await get("/api/v1/fleetrollouts", tokens.mine)).body).toEqual({ items: [] });
    } finally {
      await admin.delete(fleet);
    }
  });
});
