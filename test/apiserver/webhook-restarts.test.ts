import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { freePort } from "../../src/dev/free-port.ts";
import { createConstantly, installWebhook, startFront, startReplica } from "../support/admission.ts";
import { eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { controllerToken } from "../support/controller-account.ts";
import { startControllerProcess, type ControllerProcess } from "../support/controller-process.ts";

const cluster = testCluster();
const patient = { timeoutMs: 60_000 };

/** How long a replica that was taken out of the Service still answers, as the program does. */
const drainMs = 5_000;

describe("rolling restarts under constant creates", () => {
  test("[50.40], [60.9] 50 of three replicas fail no admission, and leave one authority of ours", async () => {
    const namespace = await uniqueNamespace(cluster);
    await using front = await startFront();
    const install = await installWebhook(cluster, { judged: [namespace], port: front.port });
    await using stack = new AsyncDisposableStack();
    const start = async () => {
      const replica = stack.use(await startReplica(cluster, install));
      await eventually(() => replica.webhook.isReady(), patient);
      return replica;
    };
    let replicas = [await start(), await start(), await start()];
    const route = (): void => {
      front.endpoints = replicas.map(({ port }) => port);
    };
    route();
    const load = createConstantly(cluster, namespace);
    await eventually(() => load.created > 0, patient);
    const endings: Promise<unknown>[] = [];
    for (let restart = 0; restart < 50; restart++) {
      const fresh = await start();
      const [oldest, ...others] = replicas;
      replicas = [...others, fresh];
      route();
      oldest?.webhook.drain();
      endings.push(delay(drainMs).then(() => oldest?.[Symbol.asyncDispose]()));
    }
    await Promise.all(endings);
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(load.created).toBeGreaterThan(50);
    for (const bundle of await install.bundles()) expect(bundle.match(/BEGIN CERTIFICATE/g)).toHaveLength(1);
  });

  test("[60.8] of two processes fails none", async () => {
    const namespace = await uniqueNamespace(cluster);
    await using front = await startFront();
    const install = await installWebhook(cluster, { judged: [namespace], port: front.port });
    await using stack = new AsyncDisposableStack();
    const start = async (): Promise<{ readonly process: ControllerProcess; readonly port: number }> => {
      const port = await freePort();
      const election = ["--leader-elect", `--leader-election-namespace=${install.namespace}`];
      const args = [...install.flags, `--webhook-port=${port}`, ...election];
      const { server, caPem } = cluster;
      const token = await controllerToken(cluster);
      const process = stack.use(await startControllerProcess({ server, token, caPem, namespaces: [namespace], args }));
      return { process, port };
    };
    let replicas = await Promise.all([start(), start()]);
    const route = (): void => {
      front.endpoints = replicas.map(({ port }) => port);
    };
    route();
    const load = createConstantly(cluster, namespace);
    await eventually(() => load.created > 0, patient);
    for (let restart = 0; restart < 2; restart++) {
      const fresh = await start();
      const [oldest, ...others] = replicas;
      replicas = [...others, fresh];
      route();
      expect(await oldest.process.stop()).toBe(0);
    }
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(load.created).toBeGreaterThan(20);
  });
});
