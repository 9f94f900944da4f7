import { expect, test } from "vitest";
import { startArtifactServer, publishArtifact } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { controllerToken } from "../support/controller-account.ts";
import {
  configMap,
  createStageSet,
  stageSetRef,
  startTestController,
  untilReady,
  type TestController,
} from "../support/controller.ts";
import { startFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { createMonitor } from "./monitor.ts";

const cluster = testCluster();
const { admin } = cluster;

async function startWorld(stages: readonly Readonly<Record<string, unknown>>[]) {
  const namespace = await uniqueNamespace(cluster);
  await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
  const server = await startArtifactServer();
  const proxy = await startFaultProxy(cluster);
  const publish = (revision: string, files: Readonly<Record<string, string>>) =>
    publishArtifact(cluster, { server, namespace, name: "app", revision, files });
  const create = () =>
    createStageSet(cluster, {
      namespace,
      name: "app",
      spec: { interval: "2s", serviceAccountName: "deployer", stages },
    });
  const map = (name: string) => ({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace } });
  return {
    namespace,
    proxy,
    publish,
    create,
    map,
    get: (name: string) => admin.get(map(name)),
    released: (revision: string) => until(namespace, revision),
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      await server.stop();
    },
  };
}

async function until(namespace: string, revision: string): Promise<void> {
  await eventually(
    async () => {
      const stageSet = await untilReady(cluster, { namespace, name: "app" });
      expect(stageSet["status"]).toMatchObject({ lastAppliedRevisions: { [`${namespace}/app`]: revision } });
      return true;
    },
    { timeoutMs: 60_000 },
  );
}

/** Does something once, right before the first request that matches reaches the server. */
function interpose(proxy: FaultProxy, matches: (line: string) => boolean, act: () => Promise<void>) {
  const seen = { done: false, answers: [] as number[] };
  let write: number | undefined;
  proxy.onCall = async (call) => {
    if (seen.done || call.write === 0 || !matches(`${call.method} ${call.target}`)) return undefined;
    seen.done = true;
    write = call.write;
    await act();
    return undefined;
  };
  proxy.onAnswer = (call, status) => {
    if (call.write > 0 && call.write === write) seen.answers.push(status);
  };
  return seen;
}

const stages = [{ name: "only", sourceRef: { name: "app" } }];

test.concurrent(
  "[20.46] a late apply of an object that was deleted meanwhile creates nothing: it is bound to its uid",
  async () => {
    await using world = await startWorld(stages);
    const { namespace, proxy } = world;
    await world.publish("r1", { "a.yaml": configMap("kept", { v: "1" }) });
    await world.create();
    await using _controller = await startTestController(cluster, { namespaces: [namespace], server: proxy.server });
    await world.released("r1");
    const seen = interpose(
      proxy,
      (line) => /^PATCH .*\/configmaps\/kept/.test(line),
      () => admin.delete(world.map("kept")),
    );
    await world.publish("r2", { "a.yaml": configMap("kept", { v: "2" }) });
    await world.released("r2");
    expect(seen.answers, "the apply that came too late").toEqual([409]);
    expect((await world.get("kept"))?.["data"], "who may still write looks again").toEqual({ v: "2" });
  },
);

test.concurrent(
  "a delete that meets a namesake made meanwhile leaves it alone: it is bound to what was looked at",
  async () => {
    await using world = await startWorld(stages);
    const { namespace, proxy } = world;
    await world.publish("r1", { "a.yaml": configMap("kept"), "b.yaml": configMap("dropped") });
    await world.create();
    await using _controller = await startTestController(cluster, { namespaces: [namespace], server: proxy.server });
    await world.released("r1");
    const seen = interpose(
      proxy,
      (line) => /^DELETE .*\/configmaps\/dropped/.test(line),
      async () => {
        await admin.delete(world.map("dropped"));
        await admin.create({ ...world.map("dropped"), data: { made: "by another" } });
      },
    );
    await world.publish("r2", { "a.yaml": configMap("kept") });
    await world.released("r2");
    await eventually(() => seen.answers.length > 0, { timeoutMs: 30_000 });
    expect(seen.answers).toEqual([409]);
    expect((await world.get("dropped"))?.["data"]).toEqual({ made: "by another" });
  },
);

test.concurrent(
  "[20.46] who takes the lease over reads the records anew: what its watch has not shown it yet is torn down too",
  async () => {
    await using world = await startWorld(stages);
    const { namespace, proxy } = world;
    const election = { leaderElect: true, leaderElectionNamespace: namespace };
    await world.publish("r1", { "a.yaml": configMap("first") });
    await world.create();
    const leader = await startTestController(cluster, { namespaces: [namespace], config: election });
    let follower: TestController | undefined;
    try {
      await world.released("r1");
      proxy.onEvent = ({ kind }) => (kind === "stageinventories" ? "freeze" : undefined);
      follower = await startTestController(cluster, {
        namespaces: [namespace],
        config: election,
        server: proxy.server,
      });
      await eventually(() => follower?.running.isReady(), { timeoutMs: 30_000 });
      await world.publish("r2", { "a.yaml": configMap("first"), "b.yaml": configMap("second") });
      await world.released("r2");
    } finally {
      await leader[Symbol.asyncDispose]();
    }
    await using _follower = follower;
    await admin.delete(stageSetRef(namespace, "app"));
    await eventually(async () => (await admin.get(stageSetRef(namespace, "app"))) === undefined, { timeoutMs: 60_000 });
    expect(await world.get("first")).toBeUndefined();
    expect(await world.get("second"), "recorded after the watch had frozen").toBeUndefined();
  },
);

test.concurrent(
  "[20.12] a record made ahead of its stage's turn that was refused is made in its turn, before an object is written",
  async () => {
    await using world = await startWorld(
      ["one", "two"].map((name) => ({ name, path: name, sourceRef: { name: "app" } })),
    );
    const { namespace, proxy } = world;
    await world.publish("r1", { "one/a.yaml": configMap("first"), "two/b.yaml": configMap("second") });
    await world.create();
    let refused = 0;
    proxy.onCall = (call, body) => {
      const isSecond = call.method === "POST" && /stageinventories/.test(call.target) && body.includes("_second__");
      if (!isSecond || refused > 0) return undefined;
      refused++;
      const status = { kind: "Status", apiVersion: "v1", status: "Failure", reason: "Forbidden", code: 403 };
      return { kind: "answer", status: 403, body: status };
    };
    const monitor = createMonitor(cluster, { namespace, name: "app" });
    monitor.attach(proxy, await controllerToken(cluster));
    await using _controller = await startTestController(cluster, { namespaces: [namespace], server: proxy.server });
    await world.released("r1");
    expect(refused).toBe(1);
    expect(monitor.violations).toEqual([]);
  },
);
