import { afterAll, beforeAll, expect, test } from "vitest";
import { at } from "../../src/lib/json.ts";
import { publishArtifact, startArtifactServer, tarGz, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import {
  configMap,
  createStageSet,
  messageOf,
  startTestController,
  untilReady,
  type TestController,
} from "../support/controller.ts";

const cluster = testCluster();
const { admin } = cluster;
const files = { "a.yaml": configMap("app", { word: "owner" }) };

/** Two namespaces under one controller; the first one's release is Ready, so everything of it is in the caches. */
let server: ArtifactServer;
let controller: TestController;
let owner: string;
let guesser: string;
let digest: string;
let ownersPath: string;

beforeAll(async () => {
  server = await startArtifactServer();
  [owner, guesser] = await Promise.all([uniqueNamespace(cluster, "owner"), uniqueNamespace(cluster, "guesser")]);
  for (const namespace of [owner, guesser])
    await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
  controller = await startTestController(cluster, { namespaces: [owner, guesser] });
  const published = await publishArtifact(cluster, { server, namespace: owner, name: "app", files });
  digest = published.digest;
  ownersPath = published.path;
  await release(owner, "app");
  await untilReady(cluster, { namespace: owner, name: "app" });
});
afterAll(async () => {
  await controller[Symbol.asyncDispose]();
  await server.stop();
});

function release(namespace: string, name: string): Promise<unknown> {
  const stages = [{ name: "only", sourceRef: { name } }];
  return createStageSet(cluster, { namespace, name, spec: { serviceAccountName: "deployer", stages } });
}

const configMapIn = (namespace: string) =>
  admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "app", namespace } });

test("who guesses the digest of another tenant's artifact gets what the own URL serves, and that is refused", async () => {
  const other = await tarGz({ "a.yaml": configMap("app", { word: "guesser" }) });
  const guess = await publishArtifact(cluster, { server, namespace: guesser, name: "guess", files: other, digest });
  await release(guesser, "guess");
  const stageSet = await untilReady(cluster, { namespace: guesser, name: "guess" }, "False StageFailed");
  expect(messageOf(stageSet)).toContain("does not have the pinned digest");
  expect(server.count(guess.path)).toBeGreaterThan(0);
  expect(server.count(ownersPath)).toBe(1);
  expect(await configMapIn(guesser)).toBeUndefined();
});

test("who has the same artifact and the same spec has a render of the own namespace, applied as the own account", async () => {
  const before = await configMapIn(owner);
  const same = await publishArtifact(cluster, { server, namespace: guesser, name: "app", files });
  expect(same.digest).toBe(digest);
  await release(guesser, "app");
  await untilReady(cluster, { namespace: guesser, name: "app" });
  expect(server.count(same.path)).toBe(1);
  expect(await eventually(() => configMapIn(guesser))).toMatchObject({
    data: { word: "owner" },
    metadata: { labels: { "stages.metio.wtf/namespace": guesser } },
  });
  expect(at(await configMapIn(owner), "metadata", "resourceVersion")).toBe(at(before, "metadata", "resourceVersion"));
});
