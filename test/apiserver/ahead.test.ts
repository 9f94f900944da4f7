import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asText, at } from "../../src/lib/json.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageStatus, untilReady } from "../support/controller.ts";
import { sampleOf } from "../support/metrics-page.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;

/** Each test counts what its controller does, so each has one of its own. */
let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(() => scene[Symbol.asyncDispose]());

const externalArtifact = { apiVersion: "source.toolkit.fluxcd.io/v1", kind: "ExternalArtifact" };

/** Fetches and builds of the controller so far. */
async function work(): Promise<{ readonly fetches: number; readonly builds: number }> {
  const page = await scene.controller.metrics();
  const count = (phase: string): number => sampleOf(page, "stageset_stage_phase_seconds_count", { phase }) ?? 0;
  return { fetches: count("fetch"), builds: count("build") };
}

/** A stage whose wait the test ends, by {@link go}, and another one; both rendered from the source of this name. */
async function releaseWaiting(name: string, more: Readonly<Record<string, unknown>> = {}): Promise<void> {
  const checks = [{ apiVersion: "v1", kind: "ConfigMap", name: `go-${name}` }];
  await scene.release(name, [
    { name: "first", path: "first", sourceRef: { name }, readyChecks: { checks }, ...more },
    { name: "second", path: "second", sourceRef: { name } },
  ]);
  await eventually(async () => {
    const stageSet = await scene.get(name);
    const waiting = JSON.stringify(at(stageStatus(stageSet, "first"), "waitingFor") ?? "");
    expect(waiting, messageOf(stageSet)).toContain(`go-${name}`);
    return true;
  });
}
const go = (name: string) =>
  admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: `go-${name}`, namespace: scene.namespace } });
const publish = (name: string, word: string) =>
  scene.publish(name, {
    "first/a.yaml": configMap(`${name}-1`, { word }),
    // A build of its own in the worker: what is small and plain is built in passing.
    "second/kustomization.yaml": "resources: [a.yaml]\nnameSuffix: '-2'\n",
    "second/a.yaml": configMap(name, { word }),
  });
const untilAt = (name: string, revision: string) =>
  eventually(
    async () => {
      const stageSet = await scene.get(name);
      expect(at(stageStatus(stageSet, "second"), "appliedRevision"), messageOf(stageSet)).toBe(revision);
      expect(readyOf(stageSet)).toBe("True Succeeded");
      return stageSet;
    },
    { timeoutMs: 60_000 },
  );

describe("the next revision is rendered while a run waits", () => {
  test("so that the run that takes it downloads nothing and builds nothing", async () => {
    const one = await publish("ready", "one");
    await releaseWaiting("ready");
    const before = await work();
    const two = await publish("ready", "two");
    const ahead = { fetches: before.fetches + 2, builds: before.builds + 2 };
    await eventually(async () => {
      expect(await work()).toEqual(ahead);
      return true;
    });
    expect(stageStatus(await scene.get("ready"), "first")).toMatchObject({
      phase: "Verifying",
      enteredRevision: one.revision,
    });
    expect(await scene.object("ready-1")).toMatchObject({ data: { word: "one" } });
    await go("ready");
    await untilAt("ready", two.revision);
    expect(await scene.object("ready-2")).toMatchObject({ data: { word: "two" } });
    expect(await work()).toEqual(ahead);
    expect(scene.server.count(two.path)).toBe(1);
  });

  test("from what it is rendered from then, not from what was read ahead", async () => {
    const ref = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "values", namespace: scene.namespace } };
    await admin.create({ ...ref, data: { VALUE: "old" } });
    const postBuild = { substituteFrom: [{ kind: "ConfigMap", name: "values" }] };
    await publish("values-app", "one-${VALUE}");
    await releaseWaiting("values-app", { postBuild });
    const before = await work();
    const two = await publish("values-app", "two-${VALUE}");
    await eventually(async () => (await work()).builds === before.builds + 2);
    await admin.patch(ref, { data: { VALUE: "new" } });
    await go("values-app");
    await untilAt("values-app", two.revision);
    expect(await scene.object("values-app-1")).toMatchObject({ data: { word: "two-new" } });
  });

  test("only the newest one: what is superseded is abandoned, and what fails is said by the run that takes it", async () => {
    const one = await publish("newest", "one");
    await releaseWaiting("newest");
    const artifact = at(one.object, "status", "artifact") as Readonly<Record<string, unknown>>;
    scene.server.serve("/hangs", { kind: "hang" });
    const ref = { ...externalArtifact, metadata: { name: "newest", namespace: scene.namespace } };
    const digest = `sha256:${"0".repeat(64)}`;
    await admin.patchStatus(ref, {
      artifact: { ...artifact, url: `${scene.server.url}/hangs`, digest, revision: `latest@${digest}` },
    });
    await eventually(() => scene.server.count("/hangs") === 1);
    const before = await work();
    const broken = await scene.publish("newest", {
      "first/a.yaml": configMap("newest-1", { word: "three" }),
      "second/a.yaml": "this: is\nno: manifest\n",
    });
    // The one that never answers ends and the next one begins; its second stage cannot be built.
    await eventually(async () => (await work()).builds === before.builds + 2);
    const waiting = await scene.get("newest");
    expect(readyOf(waiting)).toBe("Unknown Progressing");
    expect(stageStatus(waiting, "first")).toMatchObject({ phase: "Verifying", enteredRevision: one.revision });
    await go("newest");
    const failed = await untilReady(cluster, { namespace: scene.namespace, name: "newest" }, "False StageFailed");
    expect(messageOf(failed)).toContain('stage "second" build: ');
    expect(asText(at(stageStatus(failed, "second"), "appliedRevision"))).toBe(one.revision);
    expect(scene.server.count(broken.path)).toBe(1);
    expect(scene.server.count("/hangs")).toBe(1);
  });
});
