import { request } from "node:http";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { at } from "../../src/lib/json.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import {
  configMap,
  createStageSet,
  stageSetRef,
  startTestController,
  untilReady,
  type TestController,
} from "../support/controller.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { createJumpingClock } from "../support/jumping-clock.ts";

const cluster = testCluster();
const { admin } = cluster;

interface Release {
  readonly namespace: string;
  readonly name: string;
}

/** One ready stage, its artifact under the same name. */
async function deploy(server: ArtifactServer, { namespace, name }: Release): Promise<void> {
  await publishArtifact(cluster, { server, namespace, name, files: { "a.yaml": configMap(name, { v: "1" }) } });
  await createStageSet(cluster, {
    namespace,
    name,
    spec: { serviceAccountName: "deployer", interval: "1h", stages: [{ name: "only", sourceRef: { name } }] },
  });
  await untilReady(cluster, { namespace, name });
}

function neverReady(name: string): string {
  return JSON.stringify({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name }, annotations: { "bench.local/never-ready": "true" } },
        spec: { containers: [{ name: "c", image: "i" }] },
      },
    },
  });
}

describe("the gate of a running controller", () => {
  let namespace = "";
  let server: ArtifactServer;
  let controller: TestController;
  beforeAll(async () => {
    namespace = await uniqueNamespace(cluster);
    server = await startArtifactServer();
    await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
    controller = await startTestController(cluster, { namespaces: [namespace] });
  });
  afterAll(async () => {
    await controller[Symbol.asyncDispose]();
    await server.stop();
  });
  const gate = (name: string, init?: RequestInit, stage = "only") =>
    controller.gate(`/gate/${namespace}/${name}/${stage}`, init);

  test("[40.35] GET, HEAD and POST with a JSON body give 200 for a Ready stage, PUT 405", async () => {
    await deploy(server, { namespace, name: "methods" });
    const post = { method: "POST", body: '{"name":"c"}', headers: { "content-type": "application/json" } };
    await eventually(async () => (await gate("methods")).status === 200);
    expect(await gate("methods", { method: "HEAD" })).toEqual({ status: 200, body: "" });
    expect(await gate("methods", post)).toMatchObject({ status: 200 });
    expect(await gate("methods", { method: "PUT" })).toMatchObject({ status: 405 });
  });

  test("[40.35] each false reason that a user can cause gives 403", async () => {
    const name = "reasons";
    await deploy(server, { namespace, name });
    const reason = async (): Promise<string> => {
      const { status, body } = await gate(name);
      return `${status} ${/(\w+)\n$/.exec(body)?.[1] ?? ""}`;
    };
    expect(await gate("nobody")).toMatchObject({ status: 403, body: expect.stringContaining("NotFound") as string });
    expect(await gate(name, undefined, "other")).toMatchObject({ status: 403 });
    const ref = stageSetRef(namespace, name);
    await admin.patch(ref, { spec: { suspend: true } });
    expect(await reason()).toBe("403 Suspended");
    await admin.patch(ref, { spec: { suspend: null } });
    await untilReady(cluster, { namespace, name });
    await eventually(async () => (await gate(name)).status === 200);
    await publishArtifact(cluster, { server, namespace, name, files: { "d.yaml": neverReady("reasons") } });
    await eventually(async () => (await reason()) === "403 NotReady");
    await admin.delete(ref);
    await eventually(async () => (await reason()) === "403 NotFound");
  });

  test("[40.36] no 200 after an edit, a revision, a suspension or a deletion was acknowledged, until Ready under it", async () => {
    const name = "fresh";
    await deploy(server, { namespace, name });
    const ref = stageSetRef(namespace, name);
    const stop = new AbortController();
    const opened: number[] = [];
    const reading = Promise.all(
      Array.from({ length: 4 }, async () => {
        while (!stop.signal.aborted) {
          const began = performance.now();
          if ((await gate(name)).status === 200) opened.push(began);
        }
      }),
    );
    const stale: string[] = [];
    const closesAt = async (what: string, act: () => Promise<unknown>): Promise<void> => {
      await act();
      const acknowledged = performance.now();
      // Only a later answer under a status that says Ready again may be 200.
      const current = await admin.get(ref);
      const readyAgain =
        current !== undefined && at(current, "status", "observedGeneration") === current.metadata.generation;
      if (!readyAgain && opened.some((began) => began > acknowledged)) stale.push(what);
    };
    for (let round = 0; round < 5; round++) {
      await closesAt("edit", () => admin.patch(ref, { spec: { timeout: `${round + 1}m` } }));
      await untilReady(cluster, { namespace, name });
      await publishArtifact(cluster, {
        server,
        namespace,
        name,
        files: { "a.yaml": configMap(name, { v: `r${round}` }) },
      });
      // Ready may still be that of the revision before: of one object both must be told.
      const stageSet = await untilReady(cluster, { namespace, name });
      expect(at(stageSet, "status", "stages")).toMatchObject([{ phase: "Ready" }]);
    }
    await closesAt("suspend", () => admin.patch(ref, { spec: { suspend: true } }));
    const suspendedAt = performance.now();
    await delay(200);
    stale.push(...opened.filter((began) => began > suspendedAt).map(() => "suspended"));
    stop.abort();
    await reading;
    expect(opened.length).toBeGreaterThan(10);
    expect(stale).toEqual([]);
  });

  test("[40.39] a 10 MiB body and headers without end are refused, honest answers go on", async () => {
    await deploy(server, { namespace, name: "abused" });
    const { gate: port } = controller.running.ports();
    const slow = connect({ port: port ?? 0, host: "127.0.0.1" });
    slow.write("GET /gate/a/b/c HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    const sockets = Array.from({ length: 300 }, () => connect({ port: port ?? 0, host: "127.0.0.1" }));
    for (const socket of [slow, ...sockets]) socket.on("error", () => undefined).resume();
    const big = await new Promise<number>((resolve) => {
      const sent = request(
        {
          port,
          host: "127.0.0.1",
          method: "POST",
          path: `/gate/${namespace}/abused/only`,
          headers: { "content-length": 10 << 20 },
        },
        (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        },
      );
      sent.on("error", () => resolve(413));
      sent.write(Buffer.alloc(1 << 16));
    });
    expect(big).toBe(413);
    await eventually(async () => (await gate("abused")).status === 200);
    const closed = new Promise((resolve) => slow.once("close", resolve));
    await closed;
    for (const socket of sockets) socket.destroy();
  });

  test("[40.40] stage 1 turns 200 while stage 2 is still verifying in the same run", async () => {
    const name = "twostage";
    await publishArtifact(cluster, { server, namespace, name: "two-a", files: { "a.yaml": configMap("two-a") } });
    await publishArtifact(cluster, { server, namespace, name: "two-b", files: { "d.yaml": neverReady("two-b") } });
    await createStageSet(cluster, {
      namespace,
      name,
      spec: {
        serviceAccountName: "deployer",
        stages: [
          { name: "first", sourceRef: { name: "two-a" } },
          { name: "second", sourceRef: { name: "two-b" } },
        ],
      },
    });
    await eventually(async () => (await gate(name, undefined, "first")).status === 200);
    await eventually(async () => (await gate(name, undefined, "second")).body.includes("Verifying"));
    expect((await gate(name, undefined, "first")).status).toBe(200);
    await admin.delete(stageSetRef(namespace, name));
    await eventually(async () => (await admin.get(stageSetRef(namespace, name))) === undefined);
  });

  test("[40.43] the gauge follows the cache, and its series vanish with the stage and the StageSet", async () => {
    const name = "gauged";
    await publishArtifact(cluster, { server, namespace, name: "gauged-a", files: { "a.yaml": configMap("gauged-a") } });
    await publishArtifact(cluster, { server, namespace, name: "gauged-b", files: { "a.yaml": configMap("gauged-b") } });
    const stages = ["a", "b"].map((stage) => ({ name: stage, sourceRef: { name: `gauged-${stage}` } }));
    await createStageSet(cluster, { namespace, name, spec: { serviceAccountName: "deployer", stages } });
    await untilReady(cluster, { namespace, name });
    const series = async (): Promise<readonly string[]> =>
      (await controller.metrics())
        .split("\n")
        .filter((line) => line.startsWith("stageset_stage_ready{") && line.includes(`stageset="${name}"`))
        .map((line) => `${/stage="([^"]*)"/.exec(line.replace("stageset=", ""))?.[1] ?? ""} ${line.slice(-1)}`);
    await eventually(async () => expect(await series()).toEqual(["a 1", "b 1"]));
    await publishArtifact(cluster, {
      server,
      namespace,
      name: "gauged-b",
      files: { "d.yaml": neverReady("gauged-b") },
    });
    await eventually(async () => (await series()).includes("b 0"));
    const ref = stageSetRef(namespace, name);
    await admin.patch(ref, { spec: { stages: stages.slice(0, 1) } });
    await eventually(async () => (await series()).every((line) => line.startsWith("a ")));
    await admin.delete(ref);
    await eventually(async () => (await series()).length === 0);
  });

  test("[40.36] watch traffic delayed by 2 s never opens the gate too early, on a replica that does not lead", async () => {
    await using proxy = await startFaultProxy(cluster);
    const name = "delayed";
    await deploy(server, { namespace, name });
    // Never leads: the lease is held by nobody it could take it from in time.
    await using replica = await startTestController(cluster, {
      namespaces: [namespace],
      server: proxy.server,
      config: { leaderElect: true, leaderElectionNamespace: "no-such-namespace" },
    });
    const path = `/gate/${namespace}/${name}/only`;
    await eventually(async () => (await replica.gate(path)).status === 200, { timeoutMs: 20_000 });
    proxy.watchDelayMs = 2_000;
    const ref = stageSetRef(namespace, name);
    await admin.patch(ref, { spec: { suspend: true } });
    for (let count = 0; count < 20; count++) expect((await replica.gate(path)).status).toBe(403);
    await admin.patch(ref, { spec: { suspend: null } });
  });

  test("[40.37] over five minutes without any watch answers follow the API server both ways, and the gauge is silent", async () => {
    await using proxy = await startFaultProxy(cluster);
    const clock = createJumpingClock();
    const name = "blind";
    await deploy(server, { namespace, name });
    const path = `/gate/${namespace}/${name}/only`;
    await using replica = await startTestController(cluster, {
      namespaces: [namespace],
      server: proxy.server,
      clock,
      config: { leaderElect: true, leaderElectionNamespace: "no-such-namespace" },
    });
    await eventually(async () => (await replica.gate(path)).status === 200, { timeoutMs: 20_000 });
    proxy.refuseWatches = true;
    proxy.onCall = ({ isWatch, target }) =>
      isWatch || /\/(stagesets|externalartifacts)(\?|$)/.test(target) ? { kind: "drop" } : undefined; // No list either.
    proxy.cutWatches();
    const ref = stageSetRef(namespace, name);
    const readyAt = async (revision: string): Promise<void> => {
      await publishArtifact(cluster, {
        server,
        namespace,
        name,
        revision,
        files: { "a.yaml": configMap(name, { revision }) },
      });
      await eventually(async () =>
        expect(at(await admin.get(ref), "status", "stages")).toMatchObject([
          { phase: "Ready", appliedRevision: revision },
        ]),
      );
    };
    await eventually(() => proxy.calls.filter(({ isWatch }) => isWatch).length > 0);
    for (let minute = 1; minute <= 5; minute++) {
      clock.jump(60_000);
      await admin.patch(ref, { spec: { suspend: true } });
      expect(await replica.gate(path)).toMatchObject({
        status: 403,
        body: expect.stringContaining("Suspended") as string,
      });
      await admin.patch(ref, { spec: { suspend: null } });
      await untilReady(cluster, { namespace, name });
      expect((await replica.gate(path)).status).toBe(200);
      await readyAt(`m${minute}`);
      expect(await replica.gate(path)).toMatchObject({
        status: 200,
        body: expect.stringContaining(`m${minute}`) as string,
      });
    }
    expect(await replica.metrics()).not.toContain(`stageset="${name}"`); // Absent, not 0.
    // What cannot be the name of anything is told without a read.
    const read = proxy.calls.length;
    for (const impossible of ["Upper/x", "a%2Fb/x", `${"a".repeat(254)}/x`, "x/%00", "x/-"])
      expect((await replica.gate(`/gate/${impossible}/only`)).status).toBe(403);
    expect(proxy.calls.slice(read).filter(({ target }) => target.includes("/stagesets/"))).toEqual([]);
    await admin.delete(ref);
    await eventually(async () => (await admin.get(ref)) === undefined);
    expect(await replica.gate(path)).toMatchObject({
      status: 403,
      body: expect.stringContaining("NotFound") as string,
    });
  });

  test("[40.37] with the watch cut answers stay correct; with the API server cut they are 503; a starting replica says nothing", async () => {
    await using proxy = await startFaultProxy(cluster);
    const name = "cut";
    await deploy(server, { namespace, name });
    const path = `/gate/${namespace}/${name}/only`;
    await using replica = await startTestController(cluster, {
      namespaces: [namespace],
      server: proxy.server,
      config: { leaderElect: true, leaderElectionNamespace: "no-such-namespace" },
    });
    await eventually(async () => (await replica.gate(path)).status === 200, { timeoutMs: 20_000 });
    proxy.refuseWatches = true;
    proxy.cutWatches();
    const ref = stageSetRef(namespace, name);
    expect((await replica.gate(path)).status).toBe(200);
    await admin.patch(ref, { spec: { suspend: true } });
    expect((await replica.gate(path)).status).toBe(403);
    await admin.patch(ref, { spec: { suspend: null } });
    await untilReady(cluster, { namespace, name });
    proxy.onCall = () => ({ kind: "drop" });
    expect((await replica.gate(path)).status).toBe(503);
    await using starting = await startTestController(cluster, { namespaces: [namespace], server: proxy.server });
    await delay(500);
    expect(starting.running.ports().gate).toBeUndefined();
    expect((await starting.probe("/readyz")).status).toBe(500);
  });
});
