import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, stageSetRef, untilReady } from "../support/controller.ts";
import { startFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;
/** Longer than it takes to make a namesake, on a busy machine too. */
const lateMs = 5_000;

let proxy: FaultProxy;
let scene: Scene;
beforeAll(async () => {
  proxy = await startFaultProxy(cluster);
  scene = await startScene(cluster, { server: proxy.server });
});
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
});

test.each([
  ["the answer to the last write of the one before", "acknowledged"],
  ["the news that the one before is gone", "gone"],
])("a StageSet that is created while %s is on its way is released", async (_what, how) => {
  await scene.publish(`${how}-1`, { "a.yaml": configMap(`${how}-before`) });
  await scene.publish(`${how}-2`, { "a.yaml": configMap(`${how}-after`) });
  const stages = (source: string) => [{ name: "app", sourceRef: { name: source } }];
  const target = { namespace: scene.namespace, name: how };
  await scene.release(how, stages(`${how}-1`));
  await untilReady(cluster, target, "True Succeeded", { timeoutMs: 60_000 });
  // The write is sent again before the watch tells that it was done.
  if (how === "gone") proxy.watchDelayMs = 3_000;
  // Garbage collection of the records would wake the name, sooner or later.
  proxy.onEvent = ({ kind }) => (kind === "stageinventories" ? "drop" : undefined);
  let swallowed = false;
  let late = 0;
  proxy.onCall = ({ method, target: path }) => {
    if (!path.includes(`/stagesets/${how}`) || path.includes("/status")) return undefined;
    if (how === "gone" && method === "PATCH" && !swallowed) {
      swallowed = true;
      return { kind: "swallow" };
    }
    if (method !== (how === "gone" ? "GET" : "PATCH")) return undefined;
    late++;
    return { kind: "delay", answerMs: lateMs };
  };
  const ref = stageSetRef(scene.namespace, how);
  await admin.delete(ref);
  await eventually(async () => (await admin.get(ref)) === undefined && late > 0);
  proxy.onCall = undefined;
  proxy.watchDelayMs = 0;
  await scene.release(how, stages(`${how}-2`));
  await untilReady(cluster, target, "True Succeeded", { timeoutMs: 60_000 });
  proxy.onEvent = undefined;
  expect(await scene.object(`${how}-after`)).toBeDefined();
  expect(await scene.object(`${how}-before`)).toBeUndefined();
});
