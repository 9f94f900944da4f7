import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  baseValues,
  components,
  plainNamespace,
  renderBundles,
  renderKustomize,
  renderPlain,
} from "../../scripts/chart/plain-manifests.ts";
import { installCrd } from "../../src/dev/crds.ts";
import { toolPath } from "../../src/dev/tools.ts";
import { at } from "../../src/lib/json.ts";
import { parseManifests, runProgram, type Ran } from "../support/chart.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { foreignCrds } from "../support/foreign-kinds.ts";

const cluster = testCluster();
const deploy = fileURLToPath(new URL("../../deploy/", import.meta.url));

async function kubectl(...args: readonly string[]): Promise<Ran> {
  return runProgram(await toolPath("kubectl"), args, { KUBECONFIG: cluster.kubeconfigPath });
}

const sorted = (objects: readonly unknown[]): readonly unknown[] =>
  objects.toSorted((one, other) => JSON.stringify(idOf(one)).localeCompare(JSON.stringify(idOf(other))));
const idOf = (object: unknown): readonly unknown[] => [
  at(object, "apiVersion"),
  at(object, "kind"),
  at(object, "metadata", "namespace"),
  at(object, "metadata", "name"),
];

describe("plain manifests", () => {
  let dir = "";
  beforeAll(async () => {
    // Kustomize takes bases by relative paths only.
    dir = await mkdtemp(join(tmpdir(), "stageset-kustomize-"));
    const api = { server: cluster.server, caPem: cluster.caPem, token: cluster.adminToken };
    await Promise.all(foreignCrds.map((crd) => installCrd(api, crd)));
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));

  const overlay = async (names: readonly string[]): Promise<string> => {
    const folder = await mkdtemp(join(dir, "overlay-"));
    const at = (path: string): string => relative(folder, join(deploy, path));
    const kustomization = { resources: [at("base")], components: names.map((name) => at(`components/${name}`)) };
    await writeFile(join(folder, "kustomization.yaml"), JSON.stringify(kustomization));
    return folder;
  };
  const build = async (names: readonly string[]): Promise<readonly unknown[]> => {
    const { code, stdout, stderr } = await kubectl("kustomize", await overlay(names));
    expect(code, stderr).toBe(0);
    return parseManifests(stdout);
  };

  test("[60.25] deploy/ is what the chart renders now", async () => {
    const { readFile } = await import("node:fs/promises");
    for (const [path, content] of await renderKustomize())
      expect(await readFile(join(deploy, path), "utf8"), path).toBe(content);
  });

  test("[60.25] the base and install.yaml are the objects of the chart; install-minimal.yaml has no webhook", async () => {
    const wanted = await renderPlain(baseValues);
    expect(sorted(await build([]))).toEqual(sorted(wanted));
    const bundles = await renderBundles();
    expect(bundles.get("install.yaml")).toEqual(wanted);
    const minimal = bundles.get("install-minimal.yaml") ?? [];
    expect(minimal.length).toBeGreaterThan(10);
    expect(JSON.stringify(minimal.filter((object) => at(object, "kind") !== "CustomResourceDefinition"))).not.toContain(
      "webhook-",
    );
    expect(bundles.get("crds.yaml")?.length).toBe(5);
  });

  test.each(Object.keys(components))("[60.25] component %s makes of the base what its values make", async (name) => {
    expect(sorted(await build([name]))).toEqual(sorted(await renderPlain({ ...baseValues, ...components[name] })));
  });

  test.each([[["ha", "cluster-admin", "monitoring", "network-policy"]], [["ha", "cluster-admin", "without-webhook"]]])(
    "[60.25] components go together: %s",
    async (names) => {
      const values: unknown = Object.assign({ ...baseValues }, ...names.map((name) => components[name])); // Disjoint keys.
      expect(sorted(await build(names))).toEqual(sorted(await renderPlain(values)));
    },
  );

  test("[60.25] kubectl apply -k: the base is accepted, and without its webhook it runs", async () => {
    const { admin } = cluster;
    await admin.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: plainNamespace } });
    const flags = ["--server-side", "--force-conflicts"];
    // For real it would ask a webhook that nobody serves about the StageSets of every other test.
    const dry = await kubectl("apply", ...flags, "--dry-run=server", "-k", await overlay([]));
    expect(dry.code, dry.stderr).toBe(0);
    const real = await kubectl("apply", ...flags, "-k", await overlay(["ha", "without-webhook"]));
    expect(real.code, real.stderr).toBe(0);
    const ref = {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "stageset-controller", namespace: plainNamespace },
    };
    // The namespace enforces the restricted Pod Security Standard: pods that violate it are never made.
    await eventually(async () => expect(at(await admin.get(ref), "status", "readyReplicas")).toBe(2), {
      timeoutMs: 60_000,
    });
    await admin.delete(ref);
  });
});
