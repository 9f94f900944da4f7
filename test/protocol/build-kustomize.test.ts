import { symlink } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { kustomizeWasm } from "../../src/dev/tools.ts";
import { buildStage, type Built } from "../../src/build/build-stage.ts";
import { renderJson } from "../../src/build/json-render.ts";
import { parseYaml } from "../../src/build/yaml-parse.ts";
import { isMapping, mappingAt, withMembers, type YamlValue } from "../../src/build/yaml-value.ts";
import { kustomizeCases } from "../corpus/kustomize.ts";
import { buildFiles, scopes, startPool, writeTree } from "./build-support.ts";

const pool = startPool();
afterAll(() => pool[Symbol.asyncDispose]());

const configMap = (name: string): string => `apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\n`;

/** Objects as sorted JSON, without what every build adds: our labels, the default namespace. */
function comparable(documents: readonly YamlValue[]): readonly string[] {
  return documents
    .filter(isMapping)
    .map((value) => {
      const metadata = mappingAt(value, "metadata") ?? {};
      const labels = Object.entries(mappingAt(metadata, "labels") ?? {}).filter(
        ([key]) => !key.startsWith("stages.metio.wtf/"),
      );
      const { namespace } = metadata;
      const own = withMembers(metadata, {
        labels: labels.length === 0 ? undefined : Object.fromEntries(labels),
        namespace: namespace === "team" ? undefined : namespace,
      });
      return renderJson(withMembers(value, { metadata: own }));
    })
    .sort();
}

/** Hashes in names stand as written in the corpus once their count and places are the same. */
function withoutHashes(objects: readonly string[]): readonly string[] {
  return objects
    .map((text) => text.replace(/"(settings|token)-(?:HASH\d|[bcdfghkmt2456789]{10})"/g, '"$1-HASH"'))
    .sort();
}

function objectsOf(built: Built): readonly string[] {
  return comparable(built.objects.flatMap((object) => parseYaml(Buffer.from(object.body).toString("utf8"), "api")));
}

describe("the kustomize corpus", () => {
  test.each(kustomizeCases)("[20.22] $name", async ({ files, path = ".", patches = [], expected }) => {
    const built = await buildFiles(pool, files, { path, patches });
    expect(withoutHashes(objectsOf(built))).toEqual(withoutHashes(comparable(parseYaml(expected, "api"))));
  });

  test("[20.22] a hash is that of kustomize", async () => {
    const built = await buildFiles(pool, {
      "kustomization.yaml": "configMapGenerator: [{name: c, literals: [a=b]}]\n",
    });
    expect(built.objects.map((object) => object.name)).toEqual(["c-4h2mbtbbt6"]);
  });

  test("[20.22] a tree read without kustomize gives what kustomize gives", async () => {
    const files = {
      "a.yaml": kustomizeCases.at(-1)?.files["list.yaml"] ?? "",
      "b/c.yaml": `${configMap("folded")}data:\n  text: >-\n    a\n    b\n  date: 2001-01-01\n  anchor: &a x\n  alias: *a\n`,
    };
    const plain = await buildFiles(pool, files);
    const kustomized = await buildFiles(pool, { ...files, "kustomization.yaml": "resources: [a.yaml, b/c.yaml]\n" });
    expect(objectsOf(plain)).toEqual(objectsOf(kustomized));
    expect(plain.objects).toHaveLength(3);
  });
});

describe("what a kustomization must not do", () => {
  const remote = ["resources", "bases", "components", "crds", "generators", "transformers", "patchesStrategicMerge"];
  test("[20.21] nothing is loaded over the network", async () => {
    let connections = 0;
    const server = createServer((socket) => {
      connections++;
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = typeof address === "object" ? address?.port : undefined;
    const url = `http://127.0.0.1:${port ?? 0}/x.yaml`;
    const kustomizations = [
      ...remote.map((field) => `${field}: ["${url}"]\n`),
      `patches: [{path: "${url}"}]\n`,
      `openapi: {path: "${url}"}\n`,
      `replacements: [{path: "${url}"}]\n`,
      `configMapGenerator: [{name: x, files: ["k=${url}"]}]\n`,
      `secretGenerator: [{name: x, envs: ["${url}"]}]\n`,
      `transformers: ["{apiVersion: builtin, kind: PatchTransformer, metadata: {name: x}, path: '${url}'}"]\n`,
      `resources: ["git::http://127.0.0.1:${port ?? 0}/repo"]\n`,
      'resources: ["git@github.com:org/repo"]\n',
      'resources: ["github.com/org/repo?ref=main"]\n',
      'resources: ["ssh://git@127.0.0.1/repo"]\n',
      "resources: [nested]\n",
    ];
    for (const kustomization of kustomizations) {
      const files = { "kustomization.yaml": kustomization, "nested/kustomization.yml": `resources: ["${url}"]\n` };
      const failed = buildFiles(pool, files);
      await expect(failed, kustomization).rejects.toMatchObject({ reason: "Kustomize" });
      await expect(failed, kustomization).rejects.toThrow(/network/);
    }
    await new Promise((resolve) => server.close(resolve));
    expect(connections).toBe(0);
  });

  test.each([
    ["a parent", "resources: [../../secret.yaml]\n"],
    ["an absolute path", "resources: [/etc/hostname]\n"],
    ["a file of a generator", "configMapGenerator: [{name: x, files: [../../../etc/hostname]}]\n"],
    ["a patch", "patches: [{path: ../../secret.yaml}]\n"],
    [
      "a transformer's file",
      "resources: [a.yaml]\ntransformers: ['{apiVersion: builtin, kind: PatchTransformer, metadata: {name: x}, path: ../../../../etc/hostname}']\n",
    ],
    ["Helm", "helmCharts: [{name: x, repo: https://charts.example.org}]\n"],
    [
      "a Helm generator",
      "generators: ['{apiVersion: builtin, kind: HelmChartInflationGenerator, metadata: {name: x}}']\n",
    ],
    ["a program", "transformers: [exec.yaml]\n"],
    ["a plugin", "generators: ['{apiVersion: example.org/v1, kind: Plugin, metadata: {name: x}}']\n"],
    ["a file that is missing", "resources: [nope.yaml]\n"],
  ])("[20.21] %s", async (_what, kustomization) => {
    const files = {
      "app/kustomization.yaml": kustomization,
      "app/a.yaml": configMap("a"),
      "app/exec.yaml":
        "apiVersion: v1\nkind: X\nmetadata:\n  name: x\n  annotations:\n    config.kubernetes.io/function: 'exec: {path: ./run.sh}'\n",
    };
    await expect(buildFiles(pool, files, { path: "app" })).rejects.toMatchObject({ reason: "Kustomize" });
  });

  test("[20.21] a link out of the root, to a file or a directory", async () => {
    await using outside = await writeTree({ "secret.yaml": configMap("stolen") });
    await using tree = await writeTree({
      "kustomization.yaml": "resources: [link.yaml]\n",
      "b/kustomization.yaml": "resources: [dir/secret.yaml]\n",
    });
    await symlink(join(outside.root, "secret.yaml"), join(tree.root, "link.yaml"));
    await symlink(outside.root, join(tree.root, "b/dir"));
    for (const path of [".", "b"]) {
      const request = {
        ...{ root: tree.root, path, patches: [], variables: undefined, applyHelmHookResources: true },
        ...{ defaultNamespace: "team", labels: { stage: "web", name: "shop", namespace: "team" } },
      };
      const options = {
        compute: pool,
        scopes,
        signal: new AbortController().signal,
        queue: "team",
        kustomize: () => kustomizeWasm(),
      };
      await expect(buildStage(request, options)).rejects.toMatchObject({ reason: "Invalid" });
    }
  });

  test("[20.21] one that never ends, or wants all memory, fails while others go on", async () => {
    const endless: Record<string, string> = {
      "l0/kustomization.yaml": "resources: [x.yaml]\n",
      "l0/x.yaml": configMap("x"),
    };
    for (let level = 1; level <= 16; level++) {
      endless[`l${level}/kustomization.yaml`] = "resources: [a, b]\n";
      for (const side of ["a", "b"])
        endless[`l${level}/${side}/kustomization.yaml`] = `resources: [../../l${level - 1}]\nnamePrefix: ${side}\n`;
    }
    let bomb = `${configMap("x")}a0: &a0 [${"x,".repeat(20)}]\n`;
    for (let level = 1; level < 12; level++) bomb += `a${level}: &a${level} [${`*a${level - 1},`.repeat(10)}]\n`;
    const never = buildFiles(pool, endless, { path: "l16", timeoutMs: 1_500 });
    const hungry = buildFiles(pool, { "kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": bomb });
    const fine = buildFiles(pool, { "kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": configMap("x") });
    await Promise.all([
      expect(never).rejects.toMatchObject({ name: "ComputeError", reason: "TimedOut" }),
      expect(hungry).rejects.toMatchObject({ reason: "Limit" }),
    ]);
    expect((await fine).objects).toHaveLength(1);
  });

  test("[20.21] one that reads more than it may", async () => {
    const files: Record<string, string> = {};
    for (let index = 0; index < 17; index++) files[`f${index}.txt`] = "x".repeat(1024 * 1024);
    const sources = Object.keys(files).join(", ");
    const kustomization = `configMapGenerator: [{name: x, files: [${sources}]}]\n`;
    await expect(buildFiles(pool, { ...files, "kustomization.yaml": kustomization })).rejects.toMatchObject({
      reason: "Limit",
    });
  });
});

describe("errors", () => {
  test.each([
    ["Kustomize", { "kustomization.yaml": "resorces: []\n" }],
    ["Kustomize", { "kustomization.yaml": "resources: []\n", "kustomization.yml": "resources: []\n" }],
    ["Kustomize", { "kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": "password: hunter2\n" }],
    ["Kustomize", { "kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": "password: 'hunter2\n" }],
    [
      "Kustomize",
      { "kustomization.yaml": "resources: [a.yaml]\npatches: [{patch: 'hunter2'}]\n", "a.yaml": configMap("x") },
    ],
    ["Yaml", { "kustomization.yaml": "resources: [hunter2\n" }],
    ["NotAManifest", { "a/kustomization.yaml": "resources: []\n", "values.yaml": "password: hunter2\n" }],
    [
      "Duplicate",
      { "kustomization.yaml": "resources: [a.yaml, b.yaml]\n", "a.yaml": configMap("x"), "b.yaml": configMap("x") },
    ],
  ])("%s, and no content: %j", async (reason, files) => {
    const failed = buildFiles(pool, files);
    await expect(failed).rejects.toMatchObject({ reason });
    await expect(failed).rejects.not.toThrow("hunter2");
  });

  test.each([
    ["nothing", { patch: "# empty\n" }],
    ["text", { patch: "hunter2" }],
    ["broken YAML", { patch: "a: 'hunter2" }],
    ["operations without a target", { patch: "- {op: remove, path: /data}\n" }],
    ["an object without a name", { patch: "kind: ConfigMap\n" }],
  ])("Patch: %s", async (_what, patch) => {
    const failed = buildFiles(pool, { "a.yaml": configMap("x") }, { patches: [patch] });
    await expect(failed).rejects.toMatchObject({ reason: "Patch" });
    await expect(failed).rejects.not.toThrow("hunter2");
  });

  test("substitution of what a kustomization made", async () => {
    const files = {
      "kustomization.yaml": "resources: [a.yaml]\nnamePrefix: '${ENV}-'\n",
      "a.yaml": `${configMap("x")}data: {n: "\${N}"}\n`,
    };
    const variables = {
      values: new Map([
        ["ENV", "prod"],
        ["N", "'7'"],
      ]),
      secret: false,
    };
    const built = await buildFiles(pool, files, { variables });
    expect(objectsOf(built)).toEqual([
      '{"apiVersion":"v1","data":{"n":"7"},"kind":"ConfigMap","metadata":{"name":"prod-x"}}',
    ]);
    await expect(buildFiles(pool, files, { variables: { values: new Map(), secret: false } })).rejects.toMatchObject({
      reason: "Substitution",
    });
  });
});
