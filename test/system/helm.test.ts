import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { chartFolder, find, renderChart, runHelm, runProgram, withValues, type Ran } from "../support/chart.ts";
import {
  allRules,
  auditEvents,
  auditMark,
  createServiceAccount,
  eventually,
  testCluster,
  uniqueNamespace,
} from "../support/cluster.ts";
import { configMap, createStageSet, stageSetRef, startTestController, untilReady } from "../support/controller.ts";

const cluster = testCluster();
const { admin } = cluster;
const kubeconfig = { KUBECONFIG: cluster.kubeconfigPath };
const stagesetctl = fileURLToPath(new URL("../../bin/stagesetctl", import.meta.url));
const definition = (plural: string) =>
  ({
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.stages.metio.wtf` },
  }) as const;

async function helm(...args: readonly string[]): Promise<void> {
  const { code, stderr } = await runHelm(args, kubeconfig);
  expect(code, `helm ${args.join(" ")}: ${stderr}`).toBe(0);
}

/** `helm install` or `helm upgrade` of a release named like its namespace. */
function release(
  command: "install" | "upgrade",
  { namespace, chart = chartFolder, values }: { namespace: string; chart?: string; values: unknown },
): Promise<void> {
  return withValues(values, (file) => {
    // The definitions are there already: the release takes them over.
    const own = command === "install" ? ["--take-ownership"] : [];
    return helm(command, namespace, chart, `--namespace=${namespace}`, `--values=${file}`, ...own);
  });
}

async function tokenOf(namespace: string, name = "stageset-controller"): Promise<string> {
  const { body } = await admin.request("POST", `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`, {
    body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 3600 } },
  });
  return asText(at(body, "status", "token")) ?? "";
}

describe("installed with Helm", () => {
  let dir = "";
  let server: ArtifactServer;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "stageset-helm-"));
    server = await startArtifactServer();
  });
  afterAll(async () => {
    await server.stop();
    await rm(dir, { recursive: true, force: true });
  });

  const tenant = async (): Promise<string> => {
    const namespace = await uniqueNamespace(cluster, "tenant");
    await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
    await publishArtifact(cluster, { server, namespace, name: "app", files: { "a.yaml": configMap("app") } });
    return namespace;
  };
  const createApp = (namespace: string, name = "app"): Promise<KubeObject> =>
    createStageSet(cluster, {
      namespace,
      name,
      spec: { serviceAccountName: "deployer", stages: [{ name: "only", sourceRef: { name: "app" } }] },
    });
  const applied = (namespace: string): Promise<KubeObject | undefined> =>
    admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "app", namespace } });
  const startIn = async (own: string, watched: string) =>
    startTestController(cluster, { namespaces: [watched], token: await tokenOf(own) });

  test("[60.24] an upgrade from an earlier chart, an uninstall and an install leave definitions, StageSets and workloads", async () => {
    const own = await uniqueNamespace(cluster, "own");
    const watched = await tenant();
    const values = { controller: { watchNamespaces: [watched] }, webhook: { enabled: false } };
    const earlier = join(dir, "earlier");
    await cp(chartFolder, earlier, { recursive: true });
    const chartFile = join(earlier, "Chart.yaml");
    await writeFile(chartFile, (await readFile(chartFile, "utf8")).replaceAll(/ersion: 0\.1\.0/g, "ersion: 0.0.9"));
    await release("install", { namespace: own, chart: earlier, values });

    const uids = async (): Promise<readonly unknown[]> => [
      ...(await Promise.all(
        ["stagesets", "stageinventories", "stageledgers", "fleetrollouts", "imageverificationpolicies"].map(
          async (plural) => (await admin.get(definition(plural)))?.metadata.uid,
        ),
      )),
      (await admin.get(stageSetRef(watched, "app")))?.metadata.uid,
      (await applied(watched))?.metadata.uid,
      (await applied(watched))?.metadata.resourceVersion,
    ];
    let before: readonly unknown[] = [];
    {
      await using _running = await startIn(own, watched);
      await createApp(watched);
      await untilReady(cluster, { namespace: watched, name: "app" });
      before = await uids();
      expect(before).not.toContain(undefined);
      await release("upgrade", { namespace: own, values });
      const deployment = {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name: "stageset-controller", namespace: own },
      };
      expect((await admin.get(deployment))?.metadata.labels?.["app.kubernetes.io/version"]).toBe("0.1.0");
      expect(await uids()).toEqual(before);
    }
    await helm("uninstall", own, `--namespace=${own}`, "--wait");
    expect(await uids()).toEqual(before);
    const role = {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: `stageset-controller-${own}` },
    };
    expect(await admin.get(role)).toBeUndefined();

    await release("install", { namespace: own, values });
    await using _running = await startIn(own, watched);
    await publishArtifact(cluster, {
      server,
      namespace: watched,
      name: "more",
      files: { "b.yaml": configMap("more") },
    });
    await admin.patch(stageSetRef(watched, "app"), {
      spec: {
        stages: [
          { name: "only", sourceRef: { name: "app" } },
          { name: "more", sourceRef: { name: "more" } },
        ],
      },
    });
    await untilReady(cluster, { namespace: watched, name: "app" });
    expect(await uids()).toEqual(before);
    await helm("uninstall", own, `--namespace=${own}`, "--wait");
  });

  test("[60.23] [60.32] two releases side by side: each acts in its own namespaces, and one that is down blocks nobody else", async () => {
    const [one, two] = [await uniqueNamespace(cluster, "one"), await uniqueNamespace(cluster, "two")];
    const [ours, theirs] = [await tenant(), await tenant()];
    const base = { crds: { create: false } };
    // The first has a webhook that nobody serves: it is down.
    const webhook = { failurePolicy: "Fail", timeoutSeconds: 1 };
    await release("install", { namespace: one, values: { ...base, webhook, controller: { watchNamespaces: [ours] } } });
    await release("install", {
      namespace: two,
      values: { ...base, webhook: { enabled: false }, controller: { watchNamespaces: [theirs] } },
    });
    const since = await auditMark(cluster);
    await eventually(async () => {
      await expect(createApp(ours, "refused")).rejects.toThrow(/webhook/);
      return true;
    });
    {
      await using _second = await startIn(two, theirs);
      await createApp(theirs);
      await untilReady(cluster, { namespace: theirs, name: "app" });
      // Kinds without a namespace are not asked about by a scoped release that is down.
      const policy = {
        apiVersion: "stages.metio.wtf/v1",
        kind: "ImageVerificationPolicy",
        metadata: { name: `policy-${one}` },
        spec: { images: [{ glob: "registry.example/**" }], authorities: [{ name: "key", key: { data: "x" } }] },
      };
      const dry = await admin.apply(policy, { dryRun: true }).then(
        () => "written",
        (error: unknown) => String(error),
      );
      expect(dry).not.toMatch(/failed calling webhook|stageset-controller-webhook/);
      await helm(
        "upgrade",
        one,
        chartFolder,
        `--namespace=${one}`,
        "--reset-then-reuse-values",
        "--set=webhook.enabled=false",
      );
      await using _first = await startIn(one, ours);
      await createApp(ours);
      await untilReady(cluster, { namespace: ours, name: "app" });
    }
    const by = (own: string, there: string) =>
      auditEvents(cluster, {
        since,
        username: `system:serviceaccount:${own}:stageset-controller`,
        namespace: there,
        where: ({ resource }) => resource !== "",
      });
    expect((await by(one, ours)).length).toBeGreaterThan(0);
    expect((await by(two, theirs)).length).toBeGreaterThan(0);
    expect(await by(one, theirs)).toEqual([]);
    expect(await by(two, ours)).toEqual([]);
    await helm("uninstall", one, `--namespace=${one}`);
    await helm("uninstall", two, `--namespace=${two}`);
  });

  test.each(["Orphan", "Delete"] as const)(
    "[60.24] cleanup %s, with the Job's arguments and rights, does what it says",
    async (policy) => {
      const own = await uniqueNamespace(cluster, "own");
      const watched = await tenant();
      const values = {
        crds: { create: false },
        controller: { watchNamespaces: [watched] },
        webhook: { enabled: false },
        cleanupOnDelete: { enabled: true, policy, kubectlTimeout: "60s" },
      };
      await release("install", { namespace: own, values });
      await using _running = await startIn(own, watched);
      await createApp(watched);
      await untilReady(cluster, { namespace: watched, name: "app" });
      const manifests = await renderChart({ namespace: own, release: own, values });
      for (const manifest of manifests)
        if (manifest.kind !== "Job" && manifest.metadata.name.includes("cleanup")) await admin.apply(manifest);
      const [job] = asArray(at(find(manifests, "Job"), "spec", "template", "spec", "containers"));
      const ran = await cleanUp(
        dir,
        own,
        asArray(at(job, "args")).map((arg) => asText(arg) ?? ""),
      );
      expect(ran.code, ran.stderr).toBe(0);
      expect(await admin.get(stageSetRef(watched, "app"))).toBeUndefined();
      if (policy === "Orphan") expect(await applied(watched)).toMatchObject({ metadata: { name: "app" } });
      else expect(await applied(watched)).toBeUndefined();
    },
  );
});

/** `stagesetctl cleanup` as the Job's ServiceAccount. */
async function cleanUp(dir: string, namespace: string, args: readonly string[]): Promise<Ran> {
  const file = join(dir, `${namespace}.json`);
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "c",
        cluster: {
          server: cluster.server,
          "certificate-authority-data": Buffer.from(cluster.caPem).toString("base64"),
        },
      },
    ],
    users: [{ name: "u", user: { token: await tokenOf(namespace, "stageset-controller-cleanup") } }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    "current-context": "x",
  };
  await writeFile(file, JSON.stringify(config));
  return runProgram(stagesetctl, args, { KUBECONFIG: file });
}
