import { expect, test } from "vitest";
import { startControlPlane } from "../../src/dev/control-plane.ts";
import { installCrd, installCrds, readCrds } from "../../src/dev/crds.ts";
import { at } from "../../src/lib/json.ts";
import { publishArtifact, startArtifactServer } from "../support/artifacts.ts";
import { allRules, clusterOf, createServiceAccount, eventually, uniqueNamespace } from "../support/cluster.ts";
import { configMap, createStageSet, startTestController, untilReady } from "../support/controller.ts";

test("[20.3] [60.4] without Flux the controller is ready, and an ExternalArtifact whose definition comes later is shipped within 5 s", async () => {
  await using plane = await startControlPlane();
  const cluster = clusterOf(plane);
  const api = { server: cluster.server, caPem: cluster.caPem, token: cluster.adminToken };
  await installCrds(api, ["stageset"]);
  const namespace = await uniqueNamespace(cluster);
  await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
  await using controller = await startTestController(cluster, { namespaces: [namespace] });
  await eventually(async () => (await controller.probe("/readyz")).status === 200, { timeoutMs: 30_000 });
  const spec = {
    serviceAccountName: "deployer",
    interval: "1h",
    stages: [{ name: "only", sourceRef: { name: "late" } }],
  };
  await createStageSet(cluster, { namespace, name: "late", spec: { ...spec, retryInterval: "1h" } });
  await untilReady(cluster, { namespace, name: "late" }, "False RBACDenied");

  const definition = (await readCrds("flux")).find(
    (crd) => at(crd, "metadata", "name") === "externalartifacts.source.toolkit.fluxcd.io",
  );
  await installCrd(api, definition);
  await using server = await startArtifactServer();
  await publishArtifact(cluster, { server, namespace, name: "late", files: { "a.yaml": configMap("late") } });
  const published = performance.now();
  await untilReady(cluster, { namespace, name: "late" });
  expect(performance.now() - published).toBeLessThan(5 * 5_000);
  expect((await controller.probe("/readyz")).status).toBe(200);
});
