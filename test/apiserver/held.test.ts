import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import type { EntryHold } from "../../src/domain/holds/hold.ts";
import { at } from "../../src/lib/json.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageStatus, untilReady } from "../support/controller.ts";
import { startScene, type Scene } from "../support/scene.ts";

/** The one hold there is here: the stage at this index may not enter. */
const held = vi.hoisted(() => ({ index: undefined as number | undefined }));
vi.mock("../../src/domain/holds/entry-holds.ts", () => {
  const hold: EntryHold = () => (index) =>
    index === held.index
      ? { kind: "wait", reason: "UpdateDeferred", message: "held by a test", until: undefined }
      : undefined;
  return { entryHolds: [hold] };
});

const cluster = testCluster();
const { admin } = cluster;
let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(() => scene[Symbol.asyncDispose]());
beforeEach(() => {
  held.index = undefined;
});

const spec = { interval: "1s", retryInterval: "1s" };
const value = async (name: string): Promise<unknown> => at(await scene.object(name), "data", "k");

test.each([
  ["a source of its own", false],
  ["the source of stage 1", true],
])("a held stage with %s stays at what it entered, corrected, until it is let go", async (_title, shared) => {
  const { namespace } = scene;
  const name = shared ? "shared" : "apart";
  const [first, second] = [`${name}-1`, `${name}-2`];
  const publish = async (k: string): Promise<string> => {
    const files = { "1/a.yaml": configMap(first, { k }), "2/a.yaml": configMap(second, { k }) };
    // What is held comes first: stage 1 alone would be a release of its own.
    if (!shared) await scene.publish(second, files);
    return (await scene.publish(name, files)).revision;
  };
  const r1 = await publish("1");
  await scene.release(
    name,
    [
      { name: "one", sourceRef: { name }, path: "1" },
      { name: "two", sourceRef: { name: shared ? name : second }, path: "2" },
    ],
    spec,
  );
  await untilReady(cluster, { namespace, name });
  held.index = 1;
  const r2 = await publish("2");
  const waiting = await untilReady(cluster, { namespace, name }, "False UpdateDeferred");
  expect(messageOf(waiting)).toContain("held by a test");
  expect(stageStatus(waiting, "one")).toMatchObject({ phase: "Ready", appliedRevision: r2 });
  expect(stageStatus(waiting, "two")).toMatchObject({ enteredRevision: r1, appliedRevision: r1 });
  // Under a common source `lastAttemptedRevisions` is ahead of the held stage, which then must not read Ready.
  expect(at(stageStatus(waiting, "two"), "phase")).toBe(shared ? "Pending" : "Ready");
  for (const [object, kept] of [
    [first, "2"],
    [second, "1"],
  ] as const) {
    await admin.patch(
      { apiVersion: "v1", kind: "ConfigMap", metadata: { namespace, name: object } },
      { data: { k: "x" } },
    );
    await eventually(async () => (await value(object)) === kept);
  }
  const still = await scene.get(name);
  expect(readyOf(still)).toBe("False UpdateDeferred");
  expect(still?.metadata.resourceVersion, "no status write while it holds").toBe(waiting.metadata.resourceVersion);
  held.index = undefined;
  const done = await untilReady(cluster, { namespace, name });
  expect(stageStatus(done, "two")).toMatchObject({ phase: "Ready", appliedRevision: r2 });
  expect(await value(second)).toBe("2");
});

test("with every stage held the release stays Ready, says so, and is corrected", async () => {
  const { namespace } = scene;
  await scene.publish("window", { "a.yaml": configMap("window", { k: "1" }) });
  await scene.release("window", [{ name: "one", sourceRef: { name: "window" } }], spec);
  const before = await untilReady(cluster, { namespace, name: "window" });
  held.index = 0;
  await scene.publish("window", { "a.yaml": configMap("window", { k: "2" }) });
  const deployed = await eventually(async () => {
    const stageSet = await scene.get("window");
    expect(messageOf(stageSet)).toMatch(/^Deployed; held by a test/);
    return stageSet ?? false;
  });
  expect(readyOf(deployed)).toBe("True Succeeded");
  expect(at(deployed, "status", "lastAttemptedRevisions")).toEqual(at(before, "status", "lastAttemptedRevisions"));
  await admin.patch(
    { apiVersion: "v1", kind: "ConfigMap", metadata: { namespace, name: "window" } },
    { data: { k: "x" } },
  );
  await eventually(async () => (await value("window")) === "1");
});
