import { readFileSync } from "node:fs";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { startControlPlane } from "../../src/dev/control-plane.ts";
import { installCrds, readCrds } from "../../src/dev/crds.ts";
import { toolFolder } from "../../src/dev/tools.ts";
import { at } from "../../src/lib/json.ts";
import { startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { clusterOf, type TestCluster } from "../support/cluster.ts";
import { readPage, runPage, type PageBlock } from "../support/doc-page.ts";
import { startGitServer, startSourceController } from "../support/flux.ts";
import { startInstalledController } from "../support/installed-controller.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** A reader's desk: a folder with the checkout's chart, kubectl, helm and stagesetctl, and an empty cluster. */
describe("pages of the documentation, done as they say", () => {
  const stack = new AsyncDisposableStack();
  let cwd = "";
  let env: Readonly<Record<string, string>> = {};
  let cluster: TestCluster;
  let archives: ArtifactServer;

  beforeAll(async () => {
    cwd = await mkdtemp(join(tmpdir(), "stageset-docs-"));
    stack.defer(() => rm(cwd, { recursive: true, force: true, maxRetries: 5 }));
    const plane = stack.use(await startControlPlane({ kwok: true }));
    cluster = clusterOf(plane);
    await symlink(join(root, "charts"), join(cwd, "charts"));
    const programs = await toolFolder(["kubectl", "helm"]);
    archives = await startArtifactServer();
    stack.defer(() => archives.stop());
    const definition = (await readCrds("flux")).find(
      (crd) => at(crd, "metadata", "name") === "externalartifacts.source.toolkit.fluxcd.io",
    );
    const definitionFile = join(cwd, "externalartifacts.yaml");
    await writeFile(definitionFile, stringify(definition, { aliasDuplicateObjects: false }));
    env = {
      PATH: `${programs}:${join(root, "bin")}:${process.env["PATH"] ?? ""}`,
      HOME: cwd,
      KUBECONFIG: plane.kubeconfigPath,
      EXTERNAL_ARTIFACT_CRD: definitionFile,
      ARTIFACTS: archives.url,
    };
    for (const name of ["demo-1.tar.gz", "demo-2.tar.gz"])
      archives.serve(`/${name}`, () => ({ kind: "bytes", body: readFileSync(join(cwd, name)) }));
  }, 180_000);
  afterAll(() => stack[Symbol.asyncDispose](), 60_000);

  const run = async (file: string, chosen: (blocks: readonly PageBlock[]) => readonly PageBlock[] = (all) => all) => {
    const page = await readPage(file);
    expect(page.blocks.length).toBeGreaterThan(0);
    return runPage(page, { cwd, env, blocks: chosen(page.blocks) });
  };

  test("install.md installs what it names", async () => {
    expect(await run("install.md")).toContain("stageset-controller-gate");
  });

  test("upgrade.md upgrades it, and keeps what was set", async () => {
    expect(await run("upgrade.md")).toContain("REVISION: 2");
    stack.use(await startInstalledController(cluster, { namespace: "stageset-system" }));
  });

  test("first-release.md ships two revisions without Flux", async () => {
    expect(await run("first-release.md", (blocks) => blocks.slice(0, -1))).toContain("demo");
  });

  test("guides/update-windows.md opens, lets through and stops", () => run("guides/update-windows.md"));

  test("guides/promotion.md holds a stage and lets it go", () => run("guides/promotion.md"));

  test("disaster-recovery.md rebuilds an inventory and guards the definitions", () => run("disaster-recovery.md"));

  test("migrating.md lists nothing where every StageSet is at rest and plain", async () => {
    const output = await run("migrating.md");
    expect(output.split("\n").filter((line) => line !== "" && !line.startsWith("#"))).toEqual([]);
  });

  test("first-release.md takes the release away", async () => {
    expect(await run("first-release.md", (blocks) => blocks.slice(-1))).toContain("No resources found");
  });

  test("first-release-flux.md ships two commits", async () => {
    const { server, caPem, adminToken: token } = cluster;
    await installCrds({ server, caPem, token }, ["flux"]);
    stack.use(await startSourceController(cluster));
    await cluster.admin.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: "flux-system" } });
    const git = stack.use(await startGitServer());
    env = { ...env, REPOSITORY: git.url };
    await run("first-release-flux.md");
  });
});
