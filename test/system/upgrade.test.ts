import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asArray, asText, at } from "../../src/lib/json.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { configMap, createStageSet, readyOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { bindInstallation, controllerToken } from "../support/controller-account.ts";
import { startControllerProcess, type ControllerProcess } from "../support/controller-process.ts";
import { startReceiver } from "../support/http-receiver.ts";
import { deployment } from "../support/manifests.ts";
import { requestPass, shardsOf, untilApplied } from "../support/passes.ts";
import { deploymentKind } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;

/**
 * The controller that was installed before: `bin/stageset-controller` of an earlier release. Without one this program
 * follows itself, which is a rolling restart.
 */
const previous = process.env["STAGESET_PREVIOUS_PROGRAM"];

describe("an upgrade and the way back, with live StageSets", () => {
  let namespace = "";
  let server: ArtifactServer;
  beforeAll(async () => {
    namespace = await uniqueNamespace(cluster);
    server = await startArtifactServer();
    await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
    await bindInstallation(cluster, { namespace });
  });
  afterAll(() => server.stop());

  const start = async (program?: string): Promise<ControllerProcess> =>
    startControllerProcess({
      server: cluster.server,
      caPem: cluster.caPem,
      token: await controllerToken(cluster),
      namespaces: [namespace],
      args: ["--leader-elect", `--leader-election-namespace=${namespace}`, "--inventory-shard-cap=3"],
      ...(program === undefined ? {} : { program: [program] as const }),
    });
  const publish = (name: string, files: Readonly<Record<string, string>>) =>
    publishArtifact(cluster, { server, namespace, name, files });
  const maps = (count: number, value: string): string =>
    Array.from({ length: count }, (_, index) => configMap(`map-${index}`, { value })).join("---\n");
  /** Everything that was applied and recorded, with its version and identity. */
  const everything = async (): Promise<ReadonlyMap<string, string>> => {
    const labelSelector = `stages.metio.wtf/namespace=${namespace}`;
    const objects = [
      ...(await admin.list({ apiVersion: "v1", kind: "ConfigMap", namespace }, { labelSelector })),
      ...(await admin.list({ ...deploymentKind, namespace }, { labelSelector })),
      ...(await shardsOf(cluster, { namespace, name: "shop" })),
    ];
    return new Map(
      objects.map(({ kind, metadata }) => [
        `${kind} ${metadata.name}`,
        `${metadata.uid ?? ""} ${metadata.resourceVersion ?? ""}`,
      ]),
    );
  };
  const uids = (seen: ReadonlyMap<string, string>): ReadonlyMap<string, string> =>
    new Map([...seen].map(([name, text]) => [name, text.split(" ")[0] ?? ""]));
  const quiet = async (): Promise<void> => {
    for (const reason of ["DriftCorrected", "InventoryReconstructed", "StageFailed"])
      expect(await stageSetEvents(cluster, { namespace, name: "shop", reason }), reason).toEqual([]);
  };

  test("[60.27] nothing is written, made anew, run again or forgotten, and a release in progress goes on", async () => {
    await publish("config", { "a.yaml": maps(4, "1"), "b.yaml": configMap("dropped-by-new") });
    await publish("app", { "a.yaml": deployment("app"), "b.yaml": configMap("dropped-by-old") });
    await using receiver = await startReceiver();
    const call = (name: string) => ({ name, http: { url: `${receiver.url}/${name}`, method: "POST" } });
    const stages = ["config", "app"].map((name) => ({
      name,
      sourceRef: { name },
      actions: { pre: [call(`${name}-pre`)], post: [call(`${name}-post`)] },
    }));
    /** How often each action ran. */
    const ran = (): Readonly<Record<string, number>> => {
      const counts: Record<string, number> = {};
      for (const { path } of receiver.seen) counts[path] = (counts[path] ?? 0) + 1;
      return counts;
    };
    const each = (config: number, app: number) => ({
      "/config-pre": config,
      "/config-post": config,
      "/app-pre": app,
      "/app-post": app,
    });
    let running = await start(previous);
    try {
      await createStageSet(cluster, { namespace, name: "shop", spec: { serviceAccountName: "deployer", stages } });
      await untilReady(cluster, { namespace, name: "shop" });
      /** A rolling update: the next one is ready before the one before it stops. */
      const replaceWith = async (program?: string): Promise<void> => {
        const next = await start(program);
        expect(await running.stop()).toBe(0);
        running = next;
      };
      /** The workload has come to rest, so that nothing but a controller changes anything. */
      const atRest = async (): Promise<ReadonlyMap<string, string>> => {
        await eventually(async () => {
          const live = await admin.get({ ...deploymentKind, metadata: { namespace, name: "app" } });
          const conditions = asArray(at(live, "status", "conditions"));
          return conditions.some((each) => at(each, "reason") === "NewReplicaSetAvailable");
        });
        return everything();
      };

      const before = await atRest();
      const status = (await admin.get(stageSetRef(namespace, "shop")))?.["status"];
      await replaceWith();
      const upgraded = await requestPass(cluster, { namespace, name: "shop" });
      expect(readyOf(upgraded)).toBe("True Succeeded");
      expect(await everything()).toEqual(before);
      expect(ran()).toEqual(each(1, 1));
      expect(at(upgraded, "status", "stages")).toEqual(at(status, "stages"));
      await quiet();

      // What the old one recorded, the new one prunes; and the way back begins while its release verifies.
      const one = await publish("config", { "a.yaml": maps(4, "2") });
      await untilApplied(cluster, { namespace, name: "shop" }, { config: one.revision, app: await revisionOf("app") });
      await eventually(async () => !(await everything()).has("ConfigMap dropped-by-new"));
      const slow = await publish("app", { "a.yaml": deployment("app", { image: "next", pods: { readyAfter: "6s" } }) });
      await eventually(async () => {
        const entry = stageStatus(await admin.get(stageSetRef(namespace, "shop")), "app");
        return at(entry, "phase") === "Verifying";
      });
      await replaceWith(previous);
      await untilApplied(
        cluster,
        { namespace, name: "shop" },
        { config: one.revision, app: slow.revision },
        { timeoutMs: 60_000 },
      );
      await eventually(async () => !(await everything()).has("ConfigMap dropped-by-old"));
      const after = await atRest();
      await requestPass(cluster, { namespace, name: "shop" });
      expect(await everything()).toEqual(after);
      for (const [name, uid] of uids(after)) expect(uid, name).toBe(uids(before).get(name));
      expect(ran()).toEqual(each(2, 2));
      await quiet();
    } finally {
      await running[Symbol.asyncDispose]();
    }
  });

  const revisionOf = async (name: string): Promise<string> => {
    const artifact = await admin.get({
      apiVersion: "source.toolkit.fluxcd.io/v1",
      kind: "ExternalArtifact",
      metadata: { name, namespace },
    });
    return asText(at(artifact, "status", "artifact", "revision")) ?? "";
  };
});
