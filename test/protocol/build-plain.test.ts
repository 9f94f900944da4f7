import { createHash } from "node:crypto";
import { symlink } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { at } from "../../src/lib/json.ts";
import { buildStage } from "../../src/build/build-stage.ts";
import { bodies, buildFiles, scopes, startPool, writeTree } from "./build-support.ts";

const pool = startPool();
afterAll(() => pool[Symbol.asyncDispose]());

const configMap = (name: string, more = ""): string =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\n${more}`;
const names = async (files: Readonly<Record<string, string>>, path = "./"): Promise<readonly string[]> => {
  const built = await buildFiles(pool, files, { path });
  return built.objects.map((object) => object.name);
};

describe("a plain tree", () => {
  test("is read at any depth, in the order of names, but for dot-segments and other files", async () => {
    const files = {
      "b/deep/er/x.YML": configMap("deep"),
      "a.yaml": configMap("first"),
      "c.JSON": JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "json" } }, undefined, "\t"),
      ".github/workflow.yaml": "on: push",
      ".hidden.yaml": "x: y",
      "README.md": "# x",
    };
    expect(await names(files)).toEqual(["first", "deep", "json"]);
    expect(await names(files, "/b/")).toEqual(["deep"]);
    expect(await names({ ".app/x.yaml": configMap("dotted") }, ".app")).toEqual(["dotted"]);
  });

  test("[20.47] gives the objects of lists, nested ones too, and of every document", async () => {
    const list = JSON.stringify({
      apiVersion: "v1",
      kind: "List",
      items: [
        { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "one" } },
        {
          apiVersion: "v1",
          kind: "ConfigMapList",
          items: [{ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "two" } }],
        },
      ],
    });
    const documents = `# comment\n---\n${configMap("three")}---\n---\n${configMap("four")}...\n`;
    expect(await names({ "a.json": list, "b.yaml": documents })).toEqual(["one", "two", "three", "four"]);
  });

  test.each([
    ["an empty list", "[]"],
    ["an empty List", "apiVersion: v1\nkind: List\nitems: []\n"],
    ["comments only", "# nothing\n"],
  ])("renders to nothing from %s", async (_what, text) => {
    expect((await buildFiles(pool, { "a.yaml": text })).objects).toEqual([]);
  });

  test("drops what is only meant for tools", async () => {
    const local = "  annotations:\n    config.kubernetes.io/local-config: 'true'\n";
    const own = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Something\nmetadata: {name: x}\n";
    expect(await names({ "a.yaml": configMap("tool", local), "b.yaml": configMap("kept"), "c.yaml": own })).toEqual([
      "kept",
    ]);
  });

  test.each([
    ["NotFound", "path that is missing", { "a.yaml": configMap("x") }, "nowhere"],
    ["NotFound", "path that is a file", { "a.yaml": configMap("x") }, "a.yaml"],
    ["Invalid", "path that leads out", { "a.yaml": configMap("x") }, "../x"],
    ["Empty", "tree without manifests", { "README.md": "x" }, "."],
    ["Empty", "directory without manifests", { "a/README.md": "x", "b/x.yaml": configMap("x") }, "a"],
    ["NotAManifest", "values file", { "values.yaml": "replicas: 3\n" }, "."],
    ["NotAManifest", "list of something", { "values.yaml": "- 3\n" }, "."],
    ["NotAManifest", "object without apiVersion", { "values.yaml": "kind: ConfigMap\nmetadata: {name: x}\n" }, "."],
    ["Invalid", "object without a name", { "values.yaml": "apiVersion: v1\nkind: ConfigMap\n" }, "."],
    [
      "Invalid",
      "generated name",
      { "values.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x}\n" },
      ".",
    ],
    ["Yaml", "broken file", { "values.yaml": "a: b: c\n" }, "."],
    ["Yaml", "file that is no text", { "values.yaml": "\u0000" }, "."],
    ["Yaml", "alias bomb", { "values.yaml": aliasBomb() }, "."],
  ])("%s: %s", async (reason, _what, files, path) => {
    const failed = buildFiles(pool, files, { path });
    await expect(failed).rejects.toMatchObject({ name: "BuildError", reason });
    if ("values.yaml" in files) await expect(failed).rejects.toThrow("values.yaml");
  });

  test("never shows content in an error about it", async () => {
    await expect(buildFiles(pool, { "s.yaml": 'password: "hunter2\nx' })).rejects.not.toThrow("hunter2");
  });

  test("refuses a link that leads out of the root", async () => {
    await using outside = await writeTree({ "secret.yaml": configMap("stolen") });
    await using tree = await writeTree({ "a.yaml": configMap("x") });
    await symlink(join(outside.root, "secret.yaml"), join(tree.root, "b.yaml"));
    const request = {
      ...{ root: tree.root, path: "", patches: [], variables: undefined, applyHelmHookResources: true },
      ...{ defaultNamespace: "team", labels: { stage: "web", name: "shop", namespace: "team" } },
    };
    const failed = buildStage(request, { compute: pool, scopes, signal: new AbortController().signal, queue: "team" });
    await expect(failed).rejects.toMatchObject({ reason: "Invalid" });
  });
});

describe("objects", () => {
  test("[20.47] get the namespace their scope asks for", async () => {
    const built = await buildFiles(pool, {
      "a.yaml": [
        configMap("plain"),
        configMap("elsewhere", "  namespace: other\n"),
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: ns, namespace: wrong}\n",
        definition("Cluster"),
        "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w, namespace: wrong}\n",
        "apiVersion: other.org/v1\nkind: Unknown\nmetadata: {name: u}\n",
      ].join("---\n"),
    });
    expect(built.objects.map((object) => object.id)).toEqual([
      "team_plain__ConfigMap",
      "other_elsewhere__ConfigMap",
      "_ns__Namespace",
      "_widgets.example.org_apiextensions.k8s.io_CustomResourceDefinition",
      "_w_example.org_Widget",
      "team_u_other.org_Unknown",
    ]);
    for (const [index, body] of bodies(built).entries())
      expect(at(body, "metadata", "namespace") ?? "").toBe(built.objects[index]?.namespace);
  });

  test("carry the owner labels, whatever the manifest says, as JSON with sorted keys and its hash", async () => {
    const text = configMap(
      "x",
      "  zone: z\n  labels: {stages.metio.wtf/stage: stolen, app: a}\ndata: {b: '1', a: '2'}\n",
    );
    const built = await buildFiles(pool, { "a.yaml": text });
    const body = Buffer.from(built.objects[0]?.body ?? []).toString("utf8");
    expect(body).toBe(
      '{"apiVersion":"v1","data":{"a":"2","b":"1"},"kind":"ConfigMap","metadata":{"labels":{"app":"a",' +
        '"stages.metio.wtf/name":"shop","stages.metio.wtf/namespace":"team","stages.metio.wtf/stage":"web"},' +
        '"name":"x","namespace":"team","zone":"z"}}',
    );
    expect(built.objects[0]?.hash).toBe(createHash("sha256").update(body).digest("hex"));
  });

  test("are refused when two have one id, naming both", async () => {
    const failed = buildFiles(pool, { "a.yaml": configMap("x"), "b.yaml": configMap("x", "  namespace: team\n") });
    await expect(failed).rejects.toMatchObject({ reason: "Duplicate" });
    await expect(failed).rejects.toThrow(/a\.yaml.*b\.yaml/);
  });

  test("[20.47] that are Helm hooks are applied or dropped, definitions of kinds aside", async () => {
    const hook = "  annotations: {helm.sh/hook: 'pre-install,pre-upgrade'}\n";
    const files = {
      "a.yaml": configMap("hook", hook),
      "b.yaml": configMap("plain"),
      "c.yaml": definition("Namespaced", "crd-install"),
    };
    const applied = await buildFiles(pool, files);
    expect(applied.objects).toHaveLength(3);
    expect(applied.hooks.map((object) => object.name)).toEqual(["hook", "widgets.example.org"]);
    const dropped = await buildFiles(pool, files, { applyHelmHookResources: false });
    expect(dropped.objects.map((object) => object.name)).toEqual(["plain", "widgets.example.org"]);
    expect(dropped.hooks).toEqual([]);
  });

  test("of a large tree are the same as those of a small one, built in a worker", async () => {
    const text = Array.from({ length: 3_000 }, (_, index) => configMap(`c${index}`, `data: {k: "${index}"}\n`)).join(
      "---\n",
    );
    const built = await buildFiles(pool, { "a.yaml": text, "b.yaml": configMap("last") });
    expect(built.objects).toHaveLength(3_001);
    const small = await buildFiles(pool, { "b.yaml": configMap("last") });
    expect(built.objects.at(-1)).toEqual(small.objects[0]);
    await expect(buildFiles(pool, { "a.yaml": text, "b.yaml": "x: y" })).rejects.toMatchObject({
      reason: "NotAManifest",
    });
  });
});

function definition(scope: string, hook?: string): string {
  const annotations = hook === undefined ? "" : `, annotations: {helm.sh/hook: ${hook}}`;
  return (
    `apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.org${annotations}}\n` +
    `spec: {group: example.org, scope: ${scope}, names: {kind: Widget, plural: widgets}}\n`
  );
}

function aliasBomb(): string {
  const lines = [`a0: &a0 [${"x,".repeat(50)}]`];
  for (let index = 1; index < 9; index++) lines.push(`a${index}: &a${index} [${`*a${index - 1},`.repeat(9)}]`);
  return lines.join("\n");
}
