import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, stageSetRef, untilReady } from "../support/controller.ts";
import { startFaultProxy, type FaultProxy } from "../support/fault-proxy.ts";
import { shardsOf } from "../support/passes.ts";
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
  // From then on records go as soon as their StageSet: their end wakes the name while the answer is on its way.
  await scene.publish("first", { "a.yaml": configMap("first") });
  await scene.release("first", [{ name: "app", sourceRef: { name: "first" } }]);
  const first = { namespace: scene.namespace, name: "first" };
  await untilReady(cluster, first, "True Succeeded", { timeoutMs: 60_000 });
  await admin.delete(stageSetRef(scene.namespace, "first"));
  await eventually(async () => (await shardsOf(cluster, first)).length === 0, { timeoutMs: 240_000 });
}, 300_000);
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
  expect(await scene.object(`${how}-after`)).toBeDefined();
  expect(await scene.object(`${how}-before`)).toBeUndefined();
});
