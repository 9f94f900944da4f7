import { createGzip } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tarGz } from "../support/artifacts.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, stageStatus, untilReady } from "../support/controller.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stringify } from "yaml";
import { asArray, at } from "../../src/lib/json.ts";
import { rawEntry } from "../protocol/artifact-archive.ts";

const cluster = testCluster();
const { admin } = cluster;

/** Gzips what is written piece by piece, so that a bomb never lies in memory. */
async function gzip(pieces: Iterable<Buffer>): Promise<Buffer> {
  const stream = createGzip({ level: 1 });
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  const ended = new Promise((resolve) => stream.once("end", resolve));
  for (const piece of pieces)
    if (!stream.write(piece)) await new Promise((resolve) => void stream.once("drain", () => resolve(undefined)));
  stream.end(Buffer.alloc(1_024));
  await ended;
  return Buffer.concat(chunks);
}

/** 80 MiB from a few kilobytes: more than may be kept. */
function* bomb(): Generator<Buffer> {
  const megabyte = Buffer.alloc(1024 * 1024);
  for (let file = 0; file < 5; file++) {
    const header = rawEntry({ name: `f${file}.bin`, sizeBytes: 16 * 1024 * 1024 });
    yield header;
    for (let part = 0; part < 16; part++) yield megabyte;
  }
}

/** A million, of which no more is read than may be. */
function* manyEntries(): Generator<Buffer> {
  const entries = Array.from({ length: 1_000 }, (_, index) => rawEntry({ name: `e${index}` }));
  const thousand = Buffer.concat(entries);
  for (let block = 0; block < 1_000; block++) yield thousand;
}

/** Nine levels of nine aliases: nearly 400 million nodes from half a kilobyte. */
function aliasBomb(): string {
  const levels = ["a: &a [x, x, x, x, x, x, x, x, x]"];
  for (const [index, name] of ["b", "c", "d", "e", "f", "g", "h", "i"].entries()) {
    const before = "abcdefgh"[index] ?? "";
    levels.push(`${name}: &${name} [${Array.from({ length: 9 }, () => `*${before}`).join(", ")}]`);
  }
  return `apiVersion: v1\nkind: ConfigMap\nmetadata: { name: bomb }\n${levels.join("\n")}\n`;
}

interface Row {
  readonly name: string;
  readonly files: () => Promise<Buffer>;
  readonly operation: "fetch artifact" | "build" | "apply";
  readonly message: RegExp;
  readonly stalled: boolean;
}

const kustomization = (content: Readonly<Record<string, unknown>>) => () =>
  tarGz({ "kustomization.yaml": stringify(content), "a.yaml": configMap("inside") });

const rows: readonly Row[] = [
  {
    name: "bomb",
    files: () => gzip(bomb()),
    operation: "fetch artifact",
    message: /larger than 67108864 bytes/,
    stalled: true,
  },
  {
    name: "traversal",
    files: () => tarGz({ "../outside.yaml": configMap("outside") }),
    operation: "fetch artifact",
    message: /\.\./,
    stalled: true,
  },
  {
    name: "symlink",
    files: () =>
      tarGz({ "kustomization.yaml": "resources: [link.yaml]\n" }, [
        { header: { name: "link.yaml", type: "symlink", linkname: "/etc/hostname" } },
      ]),
    operation: "build",
    message: /link\.yaml/,
    stalled: false,
  },
  {
    name: "many-entries",
    files: () => gzip(manyEntries()),
    operation: "fetch artifact",
    message: /entries/,
    stalled: true,
  },
  {
    name: "empty-tree",
    files: () => tarGz({ "README.md": "nothing" }),
    operation: "build",
    message: /no manifests/,
    stalled: false,
  },
  {
    name: "no-manifest",
    files: () => tarGz({ "a.yaml": "this: is\nno: manifest\n" }),
    operation: "build",
    message: /a\.yaml/,
    stalled: false,
  },
  {
    name: "alias-bomb",
    files: () => tarGz({ "a.yaml": aliasBomb() }),
    operation: "build",
    message: /a\.yaml.*alias/i,
    stalled: false,
  },
  {
    name: "url",
    files: kustomization({ resources: ["https://example.com/a.yaml"] }),
    operation: "build",
    message: /https:\/\/example\.com/,
    stalled: false,
  },
  {
    name: "outside",
    files: kustomization({ resources: ["../../a.yaml"] }),
    operation: "build",
    message: /\.\.\/\.\./,
    stalled: false,
  },
  {
    name: "exec-plugin",
    files: () =>
      tarGz({
        "kustomization.yaml": "resources: [a.yaml]\ntransformers: [plugin.yaml]\n",
        "a.yaml": configMap("inside"),
        "plugin.yaml": stringify({
          apiVersion: "example.com/v1",
          kind: "Runner",
          metadata: {
            name: "run",
            annotations: { "config.kubernetes.io/function": "exec: { path: ./run.sh }\n" },
          },
        }),
        "run.sh": "#!/bin/sh\ntouch /tmp/stageset-plugin-ran\n",
      }),
    operation: "build",
    message: /runs "Runner" in "transformers"; programs are not run here/,
    stalled: false,
  },
  {
    name: "helm-chart",
    files: kustomization({ helmCharts: [{ name: "app", repo: "https://example.com" }] }),
    operation: "build",
    message: /helm/i,
    stalled: false,
  },
  {
    name: "big-object",
    files: () => tarGz({ "a.yaml": configMap("big", { k: "x".repeat(16 * 1024 * 1024 - 200) }) }),
    operation: "apply",
    message: /ConfigMap .*big/,
    stalled: false,
  },
];

describe("bad input: a new revision that is hostile or no release", () => {
  let scene: Scene;
  beforeAll(async () => {
    scene = await startScene(cluster);
    await Promise.all(
      rows.map(async ({ name }) => {
        await scene.publish(name, { "a.yaml": configMap(`kept-${name}`) });
        await scene.release(name, [{ name: "only", sourceRef: { name } }], { retryInterval: "10s" });
      }),
    );
    await scene.publish("beside", { "a.yaml": configMap("beside") });
    await scene.release("beside", [{ name: "only", sourceRef: { name: "beside" } }], { interval: "1s" });
  });
  afterAll(() => scene[Symbol.asyncDispose]());

  test.each(rows)(
    "$name fails its stage, says why, deletes nothing, and is over with the next revision",
    async (row) => {
      const { name, operation, message, stalled } = row;
      const { namespace } = scene;
      const before = await untilReady(cluster, { namespace, name });
      await scene.publish(name, await row.files());
      const failed = await untilReady(cluster, { namespace, name }, "False StageFailed", { timeoutMs: 60_000 });
      expect(messageOf(failed)).toMatch(new RegExp(`^stage "only" ${operation}: `));
      expect(messageOf(failed)).toMatch(message);
      expect(messageOf(failed).length).toBeLessThan(4_000);
      const types = asArray(at(failed, "status", "conditions")).map((each) => at(each, "type"));
      expect(types).toEqual(expect.arrayContaining([stalled ? "Stalled" : "Reconciling"]));
      expect(at(stageStatus(failed, "only"), "appliedRevision")).toBe(
        at(stageStatus(before, "only"), "appliedRevision"),
      );
      expect(await scene.object(`kept-${name}`)).toBeDefined();
      expect((await scene.controller.probe("/healthz")).status).toBe(200);
      await scene.publish(name, { "a.yaml": configMap(`kept-${name}`), "b.yaml": configMap(`more-${name}`) });
      await untilReady(cluster, { namespace, name });
      expect(await scene.object(`more-${name}`)).toBeDefined();
    },
  );

  test("a StageSet beside them was corrected all the time", async () => {
    await admin.patch(
      { apiVersion: "v1", kind: "ConfigMap", metadata: { namespace: scene.namespace, name: "beside" } },
      { metadata: { labels: null } },
    );
    await eventually(async () => (await scene.object("beside"))?.metadata.labels !== undefined);
    await untilReady(cluster, { namespace: scene.namespace, name: "beside" });
  });
});
