import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leaderLeaseName } from "../../src/api/keys.ts";
import { declaredRoles, type DeclaredRole, type DeclaredRule } from "../../scripts/chart/permissions.ts";
import { readFolder } from "../../src/dev/publisher.ts";
import { toolPath } from "../../src/dev/tools.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { argsOf, find, parseManifests, renderChart, runProgram, tryRender } from "../support/chart.ts";
import { auditEvents, auditMark, eventually, testCluster, uniqueName } from "../support/cluster.ts";
import { startControllerProcess } from "../support/controller-process.ts";
import { untilReady } from "../support/controller.ts";
import { layOutImage, readDockerfile, runContainer, type Container } from "../support/image.ts";
import { startOtlpCollector } from "../support/otlp-collector.ts";
import { requestPass } from "../support/passes.ts";

const cluster = testCluster();
const { admin } = cluster;
const example = fileURLToPath(new URL("../../examples/quickstart/", import.meta.url));
const own = uniqueName("stageset-system");
const tenant = "shop";
// The API server cannot reach the Service of a webhook here: nobody forwards addresses of Services.
const values = {
  controller: { watchNamespaces: [tenant] },
  webhook: { failurePolicy: "Ignore", timeoutSeconds: 1 },
};

const isRoot = process.platform === "linux" && process.getuid?.() === 0;

/** Chroot, namespaces and mounts want root. */
describe.runIf(isRoot)("the image with the rendered arguments, token and rights", () => {
  let dir = "";
  let root = "";
  let server: ArtifactServer;
  let started: Container | undefined;
  const container = (): Container => {
    if (started === undefined) throw new Error("the container did not start");
    return started;
  };
  let token = "";
  let since = 0;
  const account = `system:serviceaccount:${own}:stageset-controller`;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "stageset-image-"));
    root = await layOutImage(dir);
    server = await startArtifactServer();
    await admin.apply({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: own, labels: { "pod-security.kubernetes.io/enforce": "restricted" } },
    });
    for (const manifest of parseManifests(await readFile(join(example, "namespace.yaml"), "utf8")))
      await admin.apply(manifest);
    const rendered = await tryRender({ namespace: own, values });
    expect(rendered.code, rendered.stderr).toBe(0);
    const file = join(dir, "rendered.yaml");
    await writeFile(file, rendered.stdout);
    const args = ["apply", "--server-side", "--force-conflicts", "-f", file];
    const applied = await runProgram(await toolPath("kubectl"), args, { KUBECONFIG: cluster.kubeconfigPath });
    expect(applied.code, applied.stderr).toBe(0);
    const reply = await admin.request("POST", `/api/v1/namespaces/${own}/serviceaccounts/stageset-controller/token`, {
      body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 3600 } },
    });
    token = asText(at(reply.body, "status", "token")) ?? "";
    since = await auditMark(cluster);
    started = await runContainer({
      root,
      args: argsOf(parseManifests(rendered.stdout)),
      namespace: own,
      token,
      caPem: cluster.caPem,
      server: cluster.server,
      artifactPort: server.port,
    });
  }, 240_000);

  afterAll(async () => {
    await started?.[Symbol.asyncDispose]();
    await server.stop();
    await rm(dir, { recursive: true, force: true });
    await admin.delete({ apiVersion: "v1", kind: "Namespace", metadata: { name: tenant } });
  });

  test("[60.21] the image holds the programs, Node, its libraries, the modules, the pages and the definitions, and nothing else", async () => {
    const entries = await readdir(root, { recursive: true, withFileTypes: true });
    const files = entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length));
    const isLibrary = (path: string): boolean =>
      /^(\/usr)?\/lib(64)?\/([^/]+\/)?(lib[\w+-]+|ld-linux[\w-]*)\.so(\.\d+)*$/.test(path);
    /** What the controller loads on demand, and what it shares with that. */
    const isPart = (path: string): boolean => /^\/usr\/lib\/stageset-controller\/[\w-]+-[0-9A-Z]{8}\.js$/.test(path);
    const notLibraries = files
      .filter((path) => !isLibrary(path) && !isPart(path) && !path.endsWith(".LEGAL.txt"))
      .sort();
    const crds = await readdir(new URL("../../config/crd", import.meta.url));
    const pages = await readdir(new URL("../../web", import.meta.url));
    expect(notLibraries).toEqual(
      [
        ...crds.map((name) => `/crds/${name}`),
        ...["group", "nsswitch.conf", "passwd"].map((name) => `/etc/${name}`),
        ...["node", "stageset-controller", "stagesetctl"].map((name) => `/usr/bin/${name}`),
        ...["cel.wasm", "controller.js", "kustomize.wasm", "package.json", "stagesetctl.js", "worker.js"].map(
          (name) => `/usr/lib/stageset-controller/${name}`,
        ),
        ...pages.filter((name) => name !== "tsconfig.json").map((name) => `/usr/lib/stageset-controller/web/${name}`),
      ].sort(),
    );
    expect(files.filter(isLibrary).length).toBeLessThan(12);
    expect((await stat(join(root, "usr/bin/stageset-controller"))).mode & 0o111).toBe(0o111);
    // The definitions under /crds are the chart's.
    for (const crd of (await renderChart()).filter(({ kind }) => kind === "CustomResourceDefinition")) {
      const [plural = ""] = crd.metadata.name.split(".");
      const inImage: unknown = parse(await readFile(join(root, `crds/stages.metio.wtf_${plural}.yaml`), "utf8"));
      expect(crd["spec"]).toEqual(at(inImage, "spec"));
    }
  });

  test("[60.21] it runs as 65532 without capabilities, on a root it cannot write to", async () => {
    expect((await readDockerfile()).user).toBe("65532:65532");
    expect(await container().readOnly()).toBe("EROFS");
    const status = await container().processStatus();
    expect(status).toMatch(/^Uid:\s+65532\s+65532\s+65532\s+65532$/m);
    expect(status).toMatch(/^Gid:\s+65532\s+65532\s+65532\s+65532$/m);
    expect(status).toMatch(/^CapEff:\s+0+$/m);
  });

  test("[60.21] the chart's pod is admitted by the restricted Pod Security Standard and becomes Ready", async () => {
    const ref = {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "stageset-controller", namespace: own },
    };
    await eventually(async () => expect(at(await admin.get(ref), "status", "readyReplicas")).toBe(1), {
      timeoutMs: 60_000,
    });
  });

  test("[60.21] [60.22] it ships the example release, and its gate opens on 8082", async () => {
    for (const stage of ["config", "app", "after"])
      await publishArtifact(cluster, {
        server: { ...server, url: container().artifactUrl },
        namespace: tenant,
        name: `shop-${stage}`,
        files: await readFolder(join(example, "1", stage)),
      });
    for (const manifest of parseManifests(await readFile(join(example, "stage-set.yaml"), "utf8")))
      await admin.apply(manifest);
    await untilReady(cluster, { namespace: tenant, name: "shop" }, "True Succeeded", { timeoutMs: 90_000 });
    await eventually(async () => expect((await container().get("gate", "/gate/shop/shop/after")).status).toBe(200));
    expect((await container().get("metrics", "/metrics")).body).toContain(
      'stageset_stage_ready{namespace="shop",stageset="shop",stage="after"} 1',
    );
  });

  test("[60.21] with exactly the rendered rules: nothing it asked for was refused", async () => {
    const refused = await auditEvents(cluster, {
      since,
      username: account,
      where: ({ code, verb, resource, name }) => code === 403 && !(verb === "" && resource === "" && name === ""),
    });
    expect(refused.map(({ verb, uri }) => `${verb} ${uri}`)).toEqual([]);
  });

  test("[60.21] no Secret but its own webhook's can be read", async () => {
    const controller = cluster.as(token);
    const status = async (path: string): Promise<number> => (await controller.request("GET", path)).status;
    const secrets = `/api/v1/namespaces/${own}/secrets`;
    expect([200, 404]).toContain(await status(`${secrets}/stageset-controller-webhook-tls`));
    expect(await status(`${secrets}/other`)).toBe(403);
    expect(await status(secrets)).toBe(403);
    expect(await status("/api/v1/secrets")).toBe(403);
    expect(await status(`/api/v1/namespaces/${tenant}/secrets`)).toBe(403);
    expect(await status(`/api/v1/namespaces/${tenant}/configmaps`)).toBe(403);
  });

  test("[50.44] what it may do is what the declared roles say, in the tenants' namespace, its own and elsewhere", async () => {
    const elsewhere = [...rightsOf(declaredRoles.cluster)];
    const inOwn = [...elsewhere, ...rightsOf(declaredRoles.leaderElection), ...rightsOf(declaredRoles.webhookCert)];
    expect(await listRights(token, "default")).toEqual(elsewhere.sort());
    expect(await listRights(token, own)).toEqual(inOwn.sort());
    expect(await listRights(token, tenant)).toEqual([...elsewhere, ...rightsOf(declaredRoles.tenant)].sort());
  });

  test("[50.14] the chart with watchNamespaces binds nothing namespaced in the whole cluster", async () => {
    const manifests = await renderChart({ namespace: own, values });
    const bindings = manifests.filter(({ kind }) => kind === "ClusterRoleBinding");
    expect(bindings.map((binding) => at(binding, "roleRef", "name"))).toEqual([`stageset-controller-cluster-${own}`]);
    const role = find(manifests, "ClusterRole", `stageset-controller-cluster-${own}`);
    const resources = asArray(at(role, "rules")).flatMap((rule) => asArray(at(rule, "resources")));
    expect(resources).not.toContain("stagesets");
    expect(resources).not.toContain("serviceaccounts/token");
  });

  test("SIGTERM ends it cleanly", async () => {
    expect(await container().stop()).toBe(0);
  });

  test("what the bundle loads on demand works there: traces and credential plugins", async () => {
    await using collector = await startOtlpCollector();
    const status = { token };
    const credential = JSON.stringify({
      apiVersion: "client.authentication.k8s.io/v1",
      kind: "ExecCredential",
      status,
    });
    const exec = { apiVersion: "client.authentication.k8s.io/v1", command: "echo", args: [credential] };
    await using program = await startControllerProcess({
      program: [process.execPath, join(dir, "dist", "controller.js")],
      server: cluster.server,
      token: { exec: { ...exec, interactiveMode: "Never" } },
      caPem: cluster.caPem,
      namespaces: [tenant],
      args: [`--tracing-endpoint=${collector.endpoint}`, "--tracing-insecure"],
    });
    await requestPass(cluster, { namespace: tenant, name: "shop" });
    await eventually(() =>
      expect(
        collector.spans.map(({ name }) => name),
        program.log(),
      ).toContain("StageSet.Reconcile"),
    );
    expect(await program.stop()).toBe(0);
  });
});

function nameOf(only: NonNullable<DeclaredRule["only"]>): string {
  if (only === "lease") return leaderLeaseName;
  return only === "certificate" ? "stageset-controller-webhook-tls" : `stageset-controller-${own}`;
}

/** `<group>/<resource> <verb> <name>` of each right of a role. */
function rightsOf({ rules }: DeclaredRole): readonly string[] {
  return rules
    .filter(({ when }) => when !== "reviews callers")
    .flatMap(({ apiGroup, resources, verbs, only }) =>
      resources.flatMap((resource) =>
        verbs.map((verb) => `${apiGroup}/${resource} ${verb} ${only === undefined ? "" : nameOf(only)}`),
      ),
    );
}

/** The same of what the API server grants, without what it grants everybody. */
async function listRights(token: string, namespace: string): Promise<readonly string[]> {
  const { body } = await cluster.as(token).request("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {
    body: { apiVersion: "authorization.k8s.io/v1", kind: "SelfSubjectRulesReview", spec: { namespace } },
  });
  const texts = (value: unknown): readonly string[] => asArray(value).map((one) => asText(one) ?? "");
  const rights = asArray(at(body, "status", "resourceRules")).flatMap((rule) =>
    texts(at(rule, "apiGroups")).flatMap((group) =>
      texts(at(rule, "resources")).flatMap((resource) =>
        texts(at(rule, "verbs")).flatMap((verb) => {
          const names = texts(at(rule, "resourceNames"));
          return (names.length === 0 ? [""] : names).map((name) => `${group}/${resource} ${verb} ${name}`);
        }),
      ),
    ),
  );
  return [...new Set(rights)].filter((right) => !/\/selfsubject/.test(right)).sort();
}
