import type { ServerResponse } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { auditEvents, auditMark, eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageStatus, startTestController, untilReady } from "../support/controller.ts";
import { startReceiver, type Receiver } from "../support/http-receiver.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;

describe("http", () => {
  const stack = new AsyncDisposableStack();
  let scene: Scene;
  let bounded: Scene;
  let first: Receiver;
  let second: Receiver;
  beforeAll(async () => {
    scene = stack.use(await startScene(cluster));
    bounded = stack.use(await startScene(cluster, { config: { allowedActionHosts: ["127.0.0.*"] } }));
    first = stack.use(await startReceiver());
    second = stack.use(await startReceiver());
    for (const { namespace } of [scene, bounded])
      await admin.create({
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "hook", namespace },
        stringData: { Authorization: "Bearer top-secret\n", "X-Other": "two", body: '{"a":1}', Host: "elsewhere" },
      });
  });
  afterAll(() => stack.disposeAsync());

  const release = async (
    name: string,
    http: Readonly<Record<string, unknown>>,
    { more = {}, within = scene }: { readonly more?: Readonly<Record<string, unknown>>; readonly within?: Scene } = {},
  ) => {
    await within.publish(name, { "a.yaml": configMap(name) });
    const pre = [{ name: "call", http, ...more }];
    await within.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }], { retryInterval: "1m" });
    return async (wanted: string): Promise<string> =>
      messageOf(await untilReady(cluster, { namespace: within.namespace, name }, wanted));
  };

  test("sends method, headers and body of the Secrets, once", async () => {
    const until = await release("sends", {
      url: `${first.url}/sends`,
      method: "PUT",
      body: "ignored",
      bodyFrom: { name: "hook", key: "body" },
      headersFrom: [
        { name: "hook", key: "Authorization" },
        { name: "hook", key: "Host" },
        { name: "hook", key: "X-Other" },
      ],
    });
    await until("True Succeeded");
    const calls = first.seen.filter(({ path }) => path === "/sends");
    expect(calls).toHaveLength(1);
    expect(calls[0]).toMatchObject({ method: "PUT", body: '{"a":1}' });
    expect(calls[0]?.headers).toMatchObject({
      authorization: "Bearer top-secret",
      "x-other": "two",
      "content-type": "application/json",
      host: first.url.slice("http://".length),
    });
  });

  test("[30.22] with headersFrom a redirect to another host is not followed; a 302 that is expected is success", async () => {
    const location = `${second.url}/stolen`;
    first.reply = ({ path }, response) => {
      if (path.startsWith("/moves")) response.writeHead(302, { location });
      response.end();
    };
    const headersFrom = [{ name: "hook", key: "Authorization" }];
    const until = await release("crosses", { url: `${first.url}/moves`, headersFrom });
    expect(await until("False StageFailed")).toContain("leads to another host");
    expect(second.seen).toEqual([]);
    const accepted = await release("accepts", { url: `${first.url}/moves/2`, headersFrom, expectedStatus: [302] });
    await accepted("True Succeeded");
    expect(second.seen).toEqual([]);
    // Without a secret it is followed, and what was a POST is a GET without body.
    const follows = await release("follows", { url: `${first.url}/moves/3`, body: "hello" });
    await follows("True Succeeded");
    expect(second.seen.map(({ method, path, body }) => [method, path, body])).toEqual([["GET", "/stolen", ""]]);
  });

  test("what fails is told by host and status alone, a 4xx is not tried again, a 503 is", async () => {
    first.reply = ({ path }, response) => {
      response.writeHead(path.startsWith("/busy") ? 503 : 422);
      response.end("no, Bearer top-secret is wrong");
    };
    const until = await release("fails", { url: `${first.url}/fails` }, { more: { retries: 3 } });
    const message = await until("False StageFailed");
    expect(message).toContain(`action "call": ${first.url.slice(7)} answered 422`);
    expect(message).not.toContain("is wrong");
    expect(first.seen.filter(({ path }) => path === "/fails")).toHaveLength(1);
    const busy = await release("busy", { url: `${first.url}/busy` }, { more: { retries: 1 } });
    await busy("False StageFailed");
    expect(first.seen.filter(({ path }) => path === "/busy")).toHaveLength(2);
  });

  test("of a host that is allowed by name the answer is told, without what came from Secrets", async () => {
    first.reply = (_seen, response) => {
      response.writeHead(400);
      response.end(`  no, Bearer top-secret is wrong ${"x".repeat(2_000)}`);
    };
    const http = { url: `${first.url}/told`, headersFrom: [{ name: "hook", key: "Authorization" }] };
    const until = await release("told", http, { within: bounded });
    const message = await until("False StageFailed");
    expect(message).toContain("answered 400: no, *** is wrong xxx");
    expect(message).not.toContain("top-secret");
    expect(message.length).toBeLessThan(800);
  });

  test("[50.12] a host that is not allowed: it is not asked, and no Secret is read", async () => {
    const mark = await auditMark(cluster);
    const headersFrom = [{ name: "hook", key: "Authorization" }];
    const until = await release("outside", { url: "http://outside.example/", headersFrom }, { within: bounded });
    expect(await until("False StageFailed")).toContain("--allowed-action-hosts");
    const asked = { since: mark, resource: "secrets", namespace: bounded.namespace };
    expect(await auditEvents(cluster, asked)).toEqual([]);
  });

  test("the controller's own addresses are asked by no action and for no artifact", async () => {
    await using within = await startScene(cluster, { config: { ownAddresses: ["203.0.113.7"] } });
    const until = await release("own-action", { url: "http://203.0.113.7:8081/metrics" }, { within });
    expect(await until("False StageFailed")).toContain("never connected to (own)");
    const { object, digest, revision } = await within.publish("own-source", { "a.yaml": configMap("own-source") });
    const artifact = { url: "http://203.0.113.7/artifact.tar.gz", digest, revision };
    await admin.patchStatus(object, { artifact });
    await within.release("own-source", [{ name: "only", sourceRef: { name: "own-source" } }]);
    const target = { namespace: within.namespace, name: "own-source" };
    const failed = await untilReady(cluster, target, "False StageFailed");
    expect(messageOf(failed)).toContain("never connected to (own)");
  });

  test("a Secret or an entry that is missing is named, and tried again", async () => {
    const until = await release("missing", { url: first.url, headersFrom: [{ name: "hook", key: "X-Later" }] });
    expect(await until("False StageFailed")).toContain(`Secret "${scene.namespace}/hook" has no entry "X-Later"`);
    await eventually(async () => readyOf(await scene.get("missing")) === "False StageFailed");
  });
});

test("[30.16] a request under way when the controller is stopped ends, is recorded, and is not sent again", async () => {
  const name = "stopped";
  await using own = await startScene(cluster);
  await using receiver = await startReceiver();
  const held: ServerResponse[] = [];
  receiver.reply = (_seen, response) => void held.push(response);
  await own.publish(name, { "a.yaml": configMap(name) });
  const pre = [{ name: "call", http: { url: receiver.url } }];
  await own.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }]);
  await eventually(() => held.length === 1);
  const stopping = own.controller[Symbol.asyncDispose]();
  held[0]?.end("fine");
  await stopping;
  expect(stageStatus(await own.get(name), "only")).toMatchObject({ executedActions: ["call"] });
  expect(await own.object(name)).toBeUndefined();
  await using _next = await startTestController(cluster, { namespaces: [own.namespace] });
  await untilReady(cluster, { namespace: own.namespace, name });
  expect(receiver.seen).toHaveLength(1);
});

test("[30.16] a request that ended before, and whose record the stop of the controller cut, is recorded and not sent again", async () => {
  const names = ["cut-a", "cut-b", "cut-c"];
  await using proxy = await startFaultProxy(cluster);
  await using own = await startScene(cluster, { server: proxy.server });
  await using receiver = await startReceiver();
  const stop = Promise.withResolvers<undefined>();
  const cut: string[] = [];
  proxy.onCall = async ({ method, target }, body) => {
    const [name] = names.filter((each) => target.includes(`/stagesets/${each}/status`));
    if (method === "GET" || name === undefined || !body.includes("executedActions") || cut.includes(name))
      return undefined;
    cut.push(name);
    await stop.promise;
    return { kind: "drop" };
  };
  for (const name of names) {
    await own.publish(name, { "a.yaml": configMap(name) });
    const pre = [{ name: "call", http: { url: receiver.url } }];
    await own.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }]);
  }
  await eventually(() => cut.length === names.length);
  const stopping = own.controller[Symbol.asyncDispose]();
  stop.resolve(undefined);
  await stopping;
  for (const name of names)
    expect(stageStatus(await own.get(name), "only")).toMatchObject({ executedActions: ["call"] });
  await using _next = await startTestController(cluster, { namespaces: [own.namespace] });
  for (const name of names) await untilReady(cluster, { namespace: own.namespace, name });
  expect(receiver.seen).toHaveLength(names.length);
});
