import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { at } from "../../src/lib/json.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { configMap, createStageSet, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { controllerToken } from "../support/controller-account.ts";
import { startControllerProcess, type ControllerProcess } from "../support/controller-process.ts";
import { startFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { startGateFlood } from "../support/gate-flood.ts";

const cluster = testCluster();
const { admin } = cluster;

describe("a gate that many lean on", () => {
  let loud = "";
  let quiet = "";
  let server: ArtifactServer;
  let proxy: FaultProxy;
  let controller: ControllerProcess;
  beforeAll(async () => {
    server = await startArtifactServer();
    proxy = await startFaultProxy(cluster);
    [loud, quiet] = [await uniqueNamespace(cluster, "loud"), await uniqueNamespace(cluster, "quiet")];
    for (const namespace of [loud, quiet])
      await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
    controller = await startControllerProcess({
      server: proxy.server,
      token: await controllerToken(cluster),
      namespaces: [loud, quiet],
      args: ["--log-level=error"],
    });
    for (const namespace of [loud, quiet]) {
      await publish(namespace, "r0");
      const stages = [{ name: "only", sourceRef: { name: "app" } }];
      const spec = { serviceAccountName: "deployer", interval: "1h", stages };
      await createStageSet(cluster, { namespace, name: "app", spec });
    }
    for (const namespace of [loud, quiet]) await untilReady(cluster, { namespace, name: "app" });
  });
  afterAll(async () => {
    await controller.stop();
    await proxy[Symbol.asyncDispose]();
    await server.stop();
  });

  const publish = (namespace: string, revision: string) =>
    publishArtifact(cluster, {
      server,
      namespace,
      name: "app",
      revision,
      files: { "a.yaml": configMap("app", { revision }) },
    });
  const path = (namespace: string, stage = "only") => `/gate/${namespace}/app/${stage}`;
  /** Status and time of an answer over a connection of its own. */
  const ask = async (target: string) => {
    const began = performance.now();
    const response = await fetch(`${controller.gateUrl}${target}`, { headers: { connection: "close" } });
    await response.text();
    return { status: response.status, ms: Math.round(performance.now() - began) };
  };
  /** How long a new revision in the quiet namespace takes until its stage is Ready at it, in ms. */
  const release = async (revision: string): Promise<number> => {
    const began = performance.now();
    await publish(quiet, revision);
    await eventually(
      async () => {
        const stage = stageStatus(await admin.get(stageSetRef(quiet, "app")), "only");
        return at(stage, "phase") === "Ready" && at(stage, "appliedRevision") === revision;
      },
      { timeoutMs: 60_000, intervalMs: 20 },
    );
    return Math.round(performance.now() - began);
  };
  const readsOf = (namespace: string): number =>
    proxy.calls.filter(({ method, target }) => method === "GET" && target.includes(`/${namespace}/stagesets/app`))
      .length;

  test("[40.39] a stage asked for without pause takes no more turns than its own, and other namespaces are answered", async () => {
    const habits = Array.from({ length: 16 }, () => [path(loud)]);
    const port = Number(new URL(controller.gateUrl).port);
    await using flood = startGateFlood({ port, habits, pauseMs: 0, againMs: 1_000 });
    await eventually(() => flood.answers > 500, { timeoutMs: 30_000 });
    const [answers, reads, began] = [flood.answers, readsOf(loud), performance.now()];
    // More than the burst, so that only what comes back each second is left to share.
    for (let count = 0; count < 40; count++) expect((await ask(path(quiet))).status).toBe(200);
    const seconds = (performance.now() - began) / 1_000;
    expect(flood.answers - answers).toBeGreaterThan(readsOf(loud) - reads); // Those who wait share a read.
    expect(readsOf(loud) - reads).toBeLessThanOrEqual(100 + 50 * seconds);
  });

  test("[40.39] 2,000 parallel clients leave releases and other answers as they are", async () => {
    const before = [await release("r1"), await release("r2"), await release("r3")];
    const habits = Array.from({ length: 2_000 }, (_, index) => {
      const asked = index % 4 === 2 ? [path(loud)] : [path(loud, "none"), "/gate/bad"];
      return index % 4 === 0 ? "silent" : index % 4 === 1 ? "slow" : asked;
    });
    const port = Number(new URL(controller.gateUrl).port);
    await using flood = startGateFlood({ port, habits, pauseMs: 1_000, againMs: 1_000 });
    await eventually(() => flood.answers > 2_000, { timeoutMs: 60_000 });
    const during = [await release("d1"), await release("d2"), await release("d3")];
    // The gate may hear of a stage that became Ready some milliseconds after whoever asks the API server.
    await eventually(async () => (await ask(path(quiet))).status === 200, { intervalMs: 20 });
    const answers = [];
    for (let count = 0; count < 20; count++) answers.push(await ask(path(quiet)));
    const summary = { before, during, answers: answers.map(({ ms }) => ms), flood: flood.answers, open: flood.open };
    process.stderr.write(`gate abuse: ${JSON.stringify(summary)}\n`);
    expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
    expect(Math.min(...during)).toBeLessThan(5_000);
  });
});
