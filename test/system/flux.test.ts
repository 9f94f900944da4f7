import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asArray, asText, at } from "../../src/lib/json.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { controllerToken } from "../support/controller-account.ts";
import {
  configMap,
  createStageSet,
  messageOf,
  readyOf,
  stageSetRef,
  stageStatus,
  untilReady,
} from "../support/controller.ts";
import { startControllerProcess, type ControllerProcess } from "../support/controller-process.ts";
import {
  startGitServer,
  startRegistry,
  startSourceController,
  type GitServer,
  type Registry,
} from "../support/flux.ts";

const cluster = testCluster();
const { admin } = cluster;

function deployment(name: string, image: string): string {
  return JSON.stringify({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name },
    spec: {
      replicas: 2,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name }, annotations: { "bench.local/ready-after": "1s" } },
        spec: { containers: [{ name: "c", image }] },
      },
    },
  });
}

/** Three stages in one repository; `broken` replaces the app by something that is no manifest of a kind that is served. */
function tree(version: string, { broken = false } = {}): Readonly<Record<string, string>> {
  return {
    "config/settings.yaml": configMap("settings", { version }),
    "app/web.yaml": broken
      ? "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec: {}\n"
      : deployment("web", `web:${version}`),
    "app/worker.yaml": deployment("worker", `worker:${version}`),
    "after/kustomization.yaml": "resources: [smoke.yaml]\nnamePrefix: shop-\n",
    "after/smoke.yaml": configMap("smoke", { version }),
  };
}

describe("releases from real Flux sources", () => {
  let namespace = "";
  let flux: AsyncDisposable;
  let git: GitServer;
  let registry: Registry;
  let program: ControllerProcess;
  beforeAll(async () => {
    namespace = await uniqueNamespace(cluster);
    await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
    [flux, git, registry] = await Promise.all([startSourceController(cluster), startGitServer(), startRegistry()]);
    program = await startControllerProcess({
      ...cluster,
      token: await controllerToken(cluster),
      namespaces: [namespace],
    });
  });
  afterAll(async () => {
    await program.stop();
    await Promise.all([flux, git, registry].map((each) => each[Symbol.asyncDispose]()));
  });
  const gateStatus = async (name: string, stage: string): Promise<number> =>
    (await fetch(`${program.gateUrl}/gate/${namespace}/${name}/${stage}`)).status;
  const pull = (name: string, kind: string) =>
    admin.patch(
      { apiVersion: "source.toolkit.fluxcd.io/v1", kind, metadata: { name, namespace } },
      { metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": String(performance.now()) } } },
    );

  test("a Git commit becomes Ready in three stages, the next rolls stage by stage, a broken one stops at its stage and a fix goes through", async () => {
    const first = await git.commit(tree("1"), "first");
    await admin.create({
      apiVersion: "source.toolkit.fluxcd.io/v1",
      kind: "GitRepository",
      metadata: { name: "release", namespace },
      spec: { url: git.url, ref: { branch: "main" }, interval: "1h" },
    });
    const stages = ["config", "app", "after"];
    const sourceRef = { kind: "GitRepository", name: "release" };
    await createStageSet(cluster, {
      namespace,
      name: "shop",
      spec: {
        serviceAccountName: "deployer",
        retryInterval: "2s",
        stages: stages.map((name) => ({ name, path: `./${name}`, sourceRef })),
      },
    });
    const revisionOf = async (stage: string): Promise<string> =>
      asText(at(stageStatus(await admin.get(stageSetRef(namespace, "shop")), stage), "appliedRevision")) ?? "";
    await untilReady(cluster, { namespace, name: "shop" }, "True Succeeded", { timeoutMs: 60_000 });
    for (const stage of stages) {
      expect(await revisionOf(stage)).toBe(`main@sha1:${first}`);
      expect(await gateStatus("shop", stage)).toBe(200);
    }
    const web = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "web", namespace } };
    expect(at(await admin.get(web), "status", "readyReplicas")).toBe(2);
    expect(
      await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "shop-smoke", namespace } }),
    ).toBeDefined();

    const order: string[] = [];
    const watching = new AbortController();
    const recorded = (async () => {
      for await (const { object } of admin.watch(
        { apiVersion: "stages.metio.wtf/v1", kind: "StageSet", namespace },
        { signal: watching.signal },
      ))
        for (const stage of asArray(at(object, "status", "stages")).filter((each) => at(each, "phase") === "Ready")) {
          const line = `${asText(at(stage, "name")) ?? ""} ${asText(at(stage, "appliedRevision")) ?? ""}`;
          if (!order.includes(line)) order.push(line);
        }
    })();
    const second = await git.commit(tree("2"), "second");
    await pull("release", "GitRepository");
    await eventually(async () => (await revisionOf("after")) === `main@sha1:${second}`, { timeoutMs: 30_000 });
    await untilReady(cluster, { namespace, name: "shop" });
    watching.abort();
    await recorded;
    expect(order.filter((line) => line.endsWith(second)).map((line) => line.split(" ")[0])).toEqual(stages);

    await git.commit(tree("3", { broken: true }), "broken");
    await pull("release", "GitRepository");
    const failed = await eventually(
      async () => {
        const stageSet = await admin.get(stageSetRef(namespace, "shop"));
        return readyOf(stageSet) === "False StageFailed" ? stageSet : undefined;
      },
      { timeoutMs: 30_000 },
    );
    expect(messageOf(failed)).toMatch(/^stage "app" apply: Deployment .*\/web: Invalid/);
    expect(await revisionOf("app")).toBe(`main@sha1:${second}`);
    expect(await revisionOf("after")).toBe(`main@sha1:${second}`);
    expect(await gateStatus("shop", "app")).toBe(403);
    const smoke = await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "shop-smoke", namespace } });
    expect(smoke).toMatchObject({ data: { version: "2" } });

    const fixed = await git.commit(tree("4"), "fixed");
    await pull("release", "GitRepository");
    await eventually(async () => (await revisionOf("after")) === `main@sha1:${fixed}`, { timeoutMs: 30_000 });
    await untilReady(cluster, { namespace, name: "shop" });
    expect(await gateStatus("shop", "after")).toBe(200);
  });

  test("an OCI artifact becomes Ready, and a moved tag rolls through", async () => {
    await registry.push("team/app", "stable", { "web.yaml": configMap("oci", { v: "1" }) });
    await admin.create({
      apiVersion: "source.toolkit.fluxcd.io/v1",
      kind: "OCIRepository",
      metadata: { name: "oci", namespace },
      spec: { url: `oci://${registry.host}/team/app`, ref: { tag: "stable" }, interval: "1h", insecure: true },
    });
    await createStageSet(cluster, {
      namespace,
      name: "oci",
      spec: {
        serviceAccountName: "deployer",
        stages: [{ name: "only", sourceRef: { kind: "OCIRepository", name: "oci" } }],
      },
    });
    await untilReady(cluster, { namespace, name: "oci" }, "True Succeeded", { timeoutMs: 60_000 });
    expect(await gateStatus("oci", "only")).toBe(200);
    await registry.push("team/app", "stable", { "web.yaml": configMap("oci", { v: "2" }) });
    await pull("oci", "OCIRepository");
    const ref = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "oci", namespace } };
    await eventually(async () => at(await admin.get(ref), "data", "v") === "2", { timeoutMs: 30_000 });
    await untilReady(cluster, { namespace, name: "oci" });
    expect(await gateStatus("oci", "only")).toBe(200);
  });
});
