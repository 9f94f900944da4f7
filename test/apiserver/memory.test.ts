import { afterAll, beforeAll, expect, test } from "vitest";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { configMap, createStageSet, startTestController, untilReady } from "../support/controller.ts";

const cluster = testCluster();
let server: ArtifactServer;
beforeAll(async () => {
  server = await startArtifactServer();
});
afterAll(() => server.stop());

const mebibyte = 1024 * 1024;

test("while memory is short releases go on one at a time, said in the log and by a gauge, until there is room", async () => {
  const namespace = await uniqueNamespace(cluster);
  await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
  await publishArtifact(cluster, { server, namespace, name: "app", files: { "a.yaml": configMap("app") } });
  let usedBytes = 500 * mebibyte;
  await using controller = await startTestController(cluster, {
    namespaces: [namespace],
    memory: () => ({ usedBytes, limitBytes: 512 * mebibyte }),
  });
  const shows = async (line: RegExp): Promise<boolean> => line.test(await controller.metrics());
  await eventually(() => shows(/^stageset_memory_pressure 2$/m), { timeoutMs: 30_000 });
  const names = Array.from({ length: 5 }, (_, index) => `shop-${index}`);
  const stages = (name: string) => [{ name: "app", sourceRef: { name: "app" }, patches: [renamed(name)] }];
  let most = 0;
  const released = Promise.all(
    names.map(async (name) => {
      await createStageSet(cluster, {
        namespace,
        name,
        spec: { serviceAccountName: "deployer", stages: stages(name) },
      });
      await untilReady(cluster, { namespace, name });
    }),
  ).then(() => true);
  const watching = (async () => {
    while (!(await Promise.race([released, new Promise((resolve) => setTimeout(resolve, 5))]))) {
      const running = /^controller_runtime_active_workers\{.*\} (\d+)$/m.exec(await controller.metrics())?.[1];
      most = Math.max(most, Number(running));
    }
  })();
  await Promise.all([released, watching]);
  expect(most).toBe(1);
  const said = (message: string): number => controller.logs.filter((line) => line.includes(message)).length;
  expect(said("memory is nearly full")).toBe(1);
  usedBytes = 100 * mebibyte;
  await eventually(() => shows(/^stageset_memory_pressure 0$/m), { timeoutMs: 30_000 });
  expect(said("memory is free again")).toBe(1);
});

/** The same source for all, each with an object of its own. */
function renamed(name: string): unknown {
  return {
    target: { kind: "ConfigMap" },
    patch: JSON.stringify([{ op: "replace", path: "/metadata/name", value: name }]),
  };
}
