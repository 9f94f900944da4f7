import { createServer, connect, type AddressInfo, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { issuePair } from "../../src/certificates/issue.ts";
import { allRules, auditEvents, auditMark, createServiceAccount, eventually, testCluster } from "../support/cluster.ts";
import { uniqueNamespace } from "../support/cluster.ts";
import { configMap, createStageSet, messageOf, untilReady } from "../support/controller.ts";
import { publishArtifact } from "../support/artifacts.ts";
import { requestPass } from "../support/passes.ts";
import { base64, kubeConfigText, startRemote, writeKubeConfig, type RemoteCluster } from "../support/remote.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const stack = new AsyncDisposableStack();
let scene: Scene;
let remote: RemoteCluster;
/** A namespace whose StageSets are applied here. */
let neighbour: string;
const nameIn = (name: string) => ({ namespace: scene.namespace, name });
beforeAll(async () => {
  remote = stack.use(await startRemote());
  neighbour = await uniqueNamespace(cluster, "neighbour");
  scene = stack.use(await startScene(cluster, { alsoWatch: [neighbour], config: { concurrency: 2 } }));
  await remote.prepare(scene.namespace, `system:serviceaccount:${scene.namespace}:deployer`);
}, 180_000);
afterAll(() => stack.disposeAsync());

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port; // It listens on a port.
}

/** The remote API server at another port, whose connections can be told apart. */
async function startForwarder(): Promise<{ readonly port: number; readonly open: Set<Socket> } & Disposable> {
  const open = new Set<Socket>();
  const target = new URL(remote.plane.server);
  const server = createServer((socket) => {
    open.add(socket);
    const inner = connect(Number(target.port), target.hostname);
    for (const [from, to] of [
      [socket, inner],
      [inner, socket],
    ] as const) {
      from.on("error", () => to.destroy());
      from.on("close", () => {
        open.delete(socket);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  const port = await listening(server);
  return {
    port,
    open,
    [Symbol.dispose]: () => {
      for (const socket of open) socket.destroy();
      server.close();
    },
  };
}

test("[50.17] after a rotation the next reconcile uses the new credential and the old sockets are closed", async () => {
  const name = "rotated";
  using forwarder = await startForwarder();
  await remote.cluster.admin.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: "operators" } });
  const [first, second] = await Promise.all(
    ["first", "second"].map((each) =>
      createServiceAccount(remote.cluster, { namespace: "operators", name: each, clusterRules: allRules }),
    ),
  );
  const write = (token: string | undefined): Promise<unknown> =>
    writeKubeConfig(cluster, {
      ...nameIn(name),
      text: kubeConfigText({
        cluster: {
          server: `https://127.0.0.1:${String(forwarder.port)}`,
          "certificate-authority-data": base64(remote.plane.caPem),
        },
        user: { token },
      }),
    });
  await write(first?.token);
  await scene.publish(name, { "a.yaml": configMap(name, { k: "1" }) });
  const kubeConfig = { secretRef: { name } };
  await scene.release(name, [{ name: "only", sourceRef: { name } }], { kubeConfig });
  await untilReady(cluster, nameIn(name));
  await requestPass(cluster, nameIn(name));
  const old = [...forwarder.open];
  expect(old.length).toBeGreaterThan(0);
  const since = await auditMark(remote.plane);
  await write(second?.token);
  await scene.publish(name, { "a.yaml": configMap(name, { k: "2" }) });
  await eventually(async () => {
    const applied = await remote.cluster.admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: nameIn(name) });
    return JSON.stringify(applied?.["data"]) === '{"k":"2"}';
  });
  await untilReady(cluster, nameIn(name));
  const users = async (): Promise<readonly string[]> => {
    const seen = await auditEvents(remote.plane, {
      since,
      // Watches that were open end, and are logged, later.
      where: ({ userAgent, verb }) => userAgent.startsWith("stageset-controller") && verb !== "watch",
    });
    return [...new Set(seen.map(({ username }) => username))];
  };
  expect(await users()).toEqual([second?.username]);
  await eventually(() => old.every((socket) => socket.destroyed), { timeoutMs: 60_000 });
  expect(forwarder.open.size).toBeGreaterThan(0);
});

test("[50.18] servers that accept and never answer fail their stages within 60 s and delay nobody else", async () => {
  const pair = await issuePair({ names: ["tarpit.test"], validityMs: 3_600_000, now: Date.now() });
  const sockets = new Set<Socket>();
  const hold = (socket: Socket): void => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.resume();
  };
  // One says nothing at all, the other nothing after the handshake.
  const silent = createServer(hold);
  const mute = createTlsServer({ key: pair.keyPem, cert: pair.certPem, ALPNProtocols: ["http/1.1"] }, hold);
  const ports = [await listening(silent), await listening(mute)];
  await publishArtifact(cluster, {
    server: scene.server,
    namespace: neighbour,
    name: "near",
    files: { "a.yaml": configMap("near") },
  });
  await createServiceAccount(cluster, { namespace: neighbour, name: "deployer", rules: allRules });
  const near = { namespace: neighbour, name: "near" };
  await createStageSet(cluster, {
    ...near,
    spec: { serviceAccountName: "deployer", stages: [{ name: "only", sourceRef: { name: "near" } }] },
  });
  await untilReady(cluster, near);
  /** The 95th percentile of 20 reconciles, ms. */
  const measure = async (): Promise<number> => {
    const times: number[] = [];
    for (let index = 0; index < 20; index++) {
      const startedAt = performance.now();
      await requestPass(cluster, near);
      times.push(performance.now() - startedAt);
    }
    return times.toSorted((a, b) => a - b)[18] ?? Infinity;
  };
  const quiet = await measure();
  await scene.publish("hung", { "a.yaml": configMap("hung") });
  const startedAt = performance.now();
  const names = Array.from({ length: 8 }, (_, index) => `hung-${String(index)}`);
  for (const [index, name] of names.entries()) {
    const text = kubeConfigText({
      cluster: {
        server: `https://127.0.0.1:${String(ports[index % 2])}`,
        "certificate-authority-data": base64(pair.caPem),
        "tls-server-name": "tarpit.test",
      },
      user: { token: "t" },
    });
    await writeKubeConfig(cluster, { ...nameIn(name), text });
    const kubeConfig = { secretRef: { name } };
    await scene.release(name, [{ name: "only", sourceRef: { name: "hung" } }], { kubeConfig, retryInterval: "1s" });
  }
  await eventually(() => sockets.size > 0);
  const busy = await measure();
  // Held up it would take the 10 s of a connection, or the 30 s of an answer.
  expect(busy).toBeLessThan(2 * quiet + 1_000);
  const failed = await Promise.all(
    names.map((name) => untilReady(cluster, nameIn(name), "False StageFailed", { timeoutMs: 60_000 })),
  );
  expect(performance.now() - startedAt).toBeLessThan(60_000);
  for (const [index, stageSet] of failed.entries())
    expect(messageOf(stageSet)).toContain(
      `stage "only" connect to target cluster: target cluster unreachable: "127.0.0.1:${String(ports[index % 2])}"`,
    );
  for (const socket of sockets) socket.destroy();
  for (const server of [silent, mute]) server.close();
});
