import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { auditEvents, auditMark, eventually, testCluster } from "../support/cluster.ts";
import { configMap, createStageSet, messageOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { recordedIds, requestPass, untilApplied } from "../support/passes.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster, { clusterWide: true });
});
afterAll(() => scene[Symbol.asyncDispose]());

const nameIn = (name: string) => ({ namespace: scene.namespace, name });
const spec = { retryInterval: "1s", timeout: "60s" };
/** Stages `1`, `2` … of one artifact, each of the folder of its name. */
const stagesOf = (name: string, count: number, more: Readonly<Record<string, unknown>> = {}) =>
  Array.from({ length: count }, (_, index) => ({
    name: `s${String(index + 1)}`,
    path: String(index + 1),
    sourceRef: { name },
    ...more,
  }));
const value = async (name: string): Promise<unknown> => at(await scene.object(name), "data", "v");

function service(name: string, port: number | string): string {
  return `apiVersion: v1\nkind: Service\nmetadata:\n  name: ${name}\nspec:\n  ports:\n    - port: ${String(port)}\n`;
}

function fixedMap(name: string, v: string): string {
  return stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name }, immutable: true, data: { v } });
}

/** Dry runs and writes of a release's objects, whose names begin with its name. */
async function asked(name: string, since: number): Promise<{ readonly dryRuns: number; readonly writes: number }> {
  const seen = await auditEvents(cluster, { since, namespace: scene.namespace, verbs: ["patch", "create", "delete"] });
  const ours = seen.filter((event) => event.username.endsWith(":deployer") && event.name.startsWith(`${name}-`));
  const dryRuns = ours.filter((event) => event.uri.includes("dryRun=All")).length;
  return { dryRuns, writes: ours.length - dryRuns };
}

describe.concurrent("a release is dry-run as a whole before it begins", () => {
  test("what stage 3 could never apply is said before stage 1 is installed, and later before it is changed", async () => {
    const name = "whole";
    const look = (v: string, port: number) => ({
      "1/a.yaml": configMap("whole-1", { v }),
      "2/a.yaml": configMap("whole-2", { v }),
      "3/a.yaml": service("whole-3", port),
    });
    await scene.publish(name, look("1", 99_999));
    await scene.release(name, stagesOf(name, 3), spec);
    const never = await untilReady(cluster, nameIn(name), "False StageFailed");
    expect(messageOf(never)).toMatch(/^stage "s3" apply: Service .*whole-3: Invalid: .*99999.*found before anything/);
    expect(stageStatus(never, "s3")).toMatchObject({ phase: "Failed" });
    expect(stageStatus(never, "s1")).not.toHaveProperty("enteredRevision");
    expect(await scene.object("whole-1")).toBeUndefined();
    expect(await recordedIds(cluster, nameIn(name))).toEqual([]);

    const { revision: r2 } = await scene.publish(name, look("2", 80));
    await untilApplied(cluster, nameIn(name), { [name]: r2 });
    const { revision: r3 } = await scene.publish(name, look("3", 99_999));
    const refused = await untilReady(cluster, nameIn(name), "False StageFailed");
    expect(stageStatus(refused, "s1")).toMatchObject({ phase: "Ready", appliedRevision: r2, enteredRevision: r2 });
    expect(await value("whole-1")).toBe("2");
    expect(r3).not.toBe(r2);

    const { revision: r4 } = await scene.publish(name, look("4", 81));
    await untilApplied(cluster, nameIn(name), { [name]: r4 });
    expect(await value("whole-2")).toBe("4");
  });

  test("an immutable field under Fail stops it too, every refusal is named at once, and Recreate lets it through", async () => {
    const name = "fixed";
    const look = (v: string, port = 80) => ({
      "1/a.yaml": configMap("fixed-1", { v }),
      "2/a.yaml": fixedMap("fixed-2", v),
      "3/a.yaml": service("fixed-3", port),
    });
    const { revision: r1 } = await scene.publish(name, look("1"));
    await scene.release(name, stagesOf(name, 3), spec);
    await untilApplied(cluster, nameIn(name), { [name]: r1 });
    const uid = (await scene.object("fixed-2"))?.metadata.uid;
    await scene.publish(name, look("2", 99_999));
    const refused = await untilReady(cluster, nameIn(name), "False StageFailed");
    expect(messageOf(refused)).toMatch(/^stage "s2" conflict policy: .*immutable.*stage "s3" apply: .*99999/);
    expect([await value("fixed-1"), await value("fixed-2")]).toEqual(["1", "1"]);

    const { revision: r3 } = await scene.publish(name, look("3"));
    const stages = stagesOf(name, 3, { conflictPolicy: { default: "Recreate" } });
    await admin.patch(stageSetRef(scene.namespace, name), { spec: { stages } });
    await untilApplied(cluster, nameIn(name), { [name]: r3 });
    expect(await value("fixed-2")).toBe("3");
    expect((await scene.object("fixed-2"))?.metadata.uid).not.toBe(uid);
  });

  test("with the annotation the stages before the refused one are released", async () => {
    const name = "off";
    const files = { "1/a.yaml": configMap("off-1", { v: "1" }), "2/a.yaml": service("off-2", 99_999) };
    const { revision } = await scene.publish(name, files);
    await createStageSet(cluster, {
      ...nameIn(name),
      annotations: { "stages.metio.wtf/preflight": "disabled" },
      spec: { ...spec, serviceAccountName: "deployer", stages: stagesOf(name, 2) },
    });
    const refused = await untilReady(cluster, nameIn(name), "False StageFailed");
    expect(messageOf(refused)).not.toContain("found before");
    expect(stageStatus(refused, "s1")).toMatchObject({ phase: "Ready", appliedRevision: revision });
    expect(await value("off-1")).toBe("1");
  });

  test("it costs no request: what was dry-run is not dry-run again, and what is unchanged not at all", async () => {
    const name = "cost";
    const files = (v: string, changed: readonly number[] = [1, 2, 3, 4]) =>
      Object.fromEntries(
        [1, 2, 3].flatMap((stage) =>
          [1, 2, 3, 4].map((each) => {
            const map = configMap(`cost-${String(stage)}-${String(each)}`, { v: changed.includes(each) ? v : "2" });
            return [`${String(stage)}/${String(each)}.yaml`, map] as const;
          }),
        ),
      );
    const since = await auditMark(cluster);
    const { revision: r1 } = await scene.publish(name, files("1"));
    await scene.release(name, stagesOf(name, 3), spec);
    await untilApplied(cluster, nameIn(name), { [name]: r1 });
    expect(await asked(name, since)).toEqual({ dryRuns: 12, writes: 12 });
    const upgrade = await auditMark(cluster);
    const { revision: r2 } = await scene.publish(name, files("2"));
    await untilApplied(cluster, nameIn(name), { [name]: r2 });
    expect(await asked(name, upgrade)).toEqual({ dryRuns: 12, writes: 12 });
    const partly = await auditMark(cluster);
    const { revision: r3 } = await scene.publish(name, files("3", [1]));
    await untilApplied(cluster, nameIn(name), { [name]: r3 });
    expect(await asked(name, partly)).toEqual({ dryRuns: 3, writes: 3 });
    const steady = await auditMark(cluster);
    await requestPass(cluster, nameIn(name));
    expect(await asked(name, steady)).toEqual({ dryRuns: 0, writes: 0 });
  });
});

describe.concurrent("what a stage before may mend does not stop a release", () => {
  const goesOn = async (
    name: string,
    files: Readonly<Record<string, string>>,
    more: Readonly<Record<string, unknown>> = {},
  ): Promise<KubeObject> => {
    const { revision } = await scene.publish(name, files);
    await scene.release(name, stagesOf(name, 2, more), spec);
    return untilApplied(cluster, nameIn(name), { [name]: revision });
  };

  test("a namespace that is not there yet", async () => {
    const namespace = `${scene.namespace}-later`;
    await goesOn("place", {
      "1/a.yaml": stringify({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } }),
      "2/a.yaml": stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "place-2", namespace } }),
    });
  });

  test("a kind that is not there yet, and one whose definition changes", async () => {
    const group = `${scene.namespace}.example.com`;
    const crd = (values: readonly string[]) =>
      stringify({
        apiVersion: "apiextensions.k8s.io/v1",
        kind: "CustomResourceDefinition",
        metadata: { name: `things.${group}` },
        spec: {
          group,
          scope: "Namespaced",
          names: { kind: "Thing", plural: "things" },
          versions: [
            {
              name: "v1",
              served: true,
              storage: true,
              schema: {
                openAPIV3Schema: {
                  type: "object",
                  properties: { size: { type: "string", enum: values } },
                },
              },
            },
          ],
        },
      });
    const thing = (size: string) =>
      stringify({ apiVersion: `${group}/v1`, kind: "Thing", metadata: { name: "one" }, size });
    await goesOn("kind", { "1/a.yaml": crd(["small"]), "2/a.yaml": thing("small") });
    const grown = await scene.publish("kind", { "1/a.yaml": crd(["small", "big"]), "2/a.yaml": thing("big") });
    await untilApplied(cluster, nameIn("kind"), { kind: grown.revision });
    // The definition stays as it is: now what it does not accept is known before.
    await scene.publish("kind", { "1/a.yaml": crd(["small", "big"]), "2/a.yaml": thing("huge") });
    const refused = await untilReady(cluster, nameIn("kind"), "False StageFailed");
    expect(messageOf(refused)).toMatch(/huge.*found before/);
  });

  test("values of a ConfigMap that an earlier stage changes", async () => {
    await admin.create({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: nameIn("values-1"),
      data: { port: "99999" },
    });
    await goesOn(
      "values",
      { "1/a.yaml": configMap("values-1", { port: "80" }), "2/a.yaml": service("values-2", "${port}") },
      { postBuild: { substituteFrom: [{ kind: "ConfigMap", name: "values-1" }] } },
    );
  });

  test("a quota, and what it refuses is told as an Event before the stage's turn", async () => {
    const quota = (count: string) => ({
      apiVersion: "v1",
      kind: "ResourceQuota",
      metadata: { name: "quota-1" },
      spec: { hard: { "count/services": count } },
    });
    await admin.create({ ...quota("0"), metadata: nameIn("quota-1") });
    await eventually(async () => {
      const live = await scene.object("quota-1", { apiVersion: "v1", kind: "ResourceQuota" });
      return at(live, "status", "hard", "count/services") === "0";
    });
    // Other tests of this namespace make ConfigMaps only.
    await goesOn("quota", { "1/a.yaml": stringify(quota("100")), "2/a.yaml": service("quota-2", 80) });
    const events = await stageSetEvents(cluster, { ...nameIn("quota"), reason: "PreflightFinding" });
    expect(events.map((event) => at(event, "note"))).toEqual([
      expect.stringMatching(/would be refused if its turn were now: stage "s2" apply: Service .*exceeded quota/),
    ]);
  });
});
