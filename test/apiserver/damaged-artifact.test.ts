import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, stageSetRef, untilReady } from "../support/controller.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;
const before = process.env["TMPDIR"];
let dir: string;
let scene: Scene;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "damaged-"));
  process.env["TMPDIR"] = dir;
  scene = await startScene(cluster);
});
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
  if (before === undefined) delete process.env["TMPDIR"];
  else process.env["TMPDIR"] = before;
  await rm(dir, { recursive: true, force: true });
});

test("[50.38] an artifact whose kept file is damaged is downloaded again, by itself", async () => {
  const { path } = await scene.publish("app", { "a.yaml": configMap("one"), "b/b.yaml": configMap("two") });
  await scene.release("app", [{ name: "only", sourceRef: { name: "app" } }]);
  const { namespace } = scene;
  await untilReady(cluster, { namespace, name: "app" });
  const [artifacts = ""] = await readdir(dir);
  const [home = ""] = await readdir(join(dir, artifacts));
  const packs = await readdir(join(dir, artifacts, home));
  expect(packs).toHaveLength(1);
  const pack = join(dir, artifacts, home, packs[0] ?? "");
  const bytes = await readFile(pack);
  await chmod(pack, 0o600);
  await writeFile(pack, bytes.subarray(0, bytes.length - 1));
  const stages = [{ name: "only", path: "b", sourceRef: { name: "app" } }];
  await admin.patch(stageSetRef(namespace, "app"), { spec: { stages } });
  await untilReady(cluster, { namespace, name: "app" });
  expect(scene.server.count(path)).toBe(2);
  expect(await eventually(async () => (await scene.object("one")) === undefined)).toBe(true);
  expect(await scene.object("two")).toBeDefined();
});
