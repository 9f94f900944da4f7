import { describe, expect, test } from "vitest";
import { createKubeClient } from "../../src/kube/client.ts";
import { tokenCredential } from "../../src/kube/credential.ts";
import { localClusterKey } from "../../src/kube/endpoint.ts";
import { createEventRecorder } from "../../src/kube/events.ts";
import { createManualClock } from "../../src/lib/clock.ts";
import { at } from "../../src/lib/json.ts";
import { systemRandom } from "../../src/lib/random.ts";
import { silentLogger } from "../../src/lib/telemetry.ts";
import { eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import { controllerToken } from "../support/controller-account.ts";
import { configMap, untilReady } from "../support/controller.ts";
import { startScene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;

/** `afterwards` wants every rendered right used. */
describe("what no other test asks for as the controller", () => {
  test("a stage from a Bucket is released", async () => {
    await using scene = await startScene(cluster);
    const { namespace } = scene;
    const { object } = await scene.publish("served", { "a.yaml": configMap("bucketed") });
    const bucket = {
      apiVersion: "source.toolkit.fluxcd.io/v1",
      kind: "Bucket",
      metadata: { name: "shop", namespace },
    };
    await admin.create({ ...bucket, spec: { bucketName: "shop", endpoint: "s3.example.com", interval: "10m" } });
    await admin.patchStatus(bucket, {
      artifact: at(object, "status", "artifact"),
      conditions: at(object, "status", "conditions"),
      observedGeneration: 1,
    });
    await scene.release("shop", [{ name: "only", sourceRef: { kind: "Bucket", name: "shop" } }]);
    await untilReady(cluster, { namespace, name: "shop" });
    expect(await scene.object("bucketed")).toBeDefined();
  });

  test("an Event that comes again after ten minutes counts in the first one", async () => {
    const namespace = await uniqueNamespace(cluster);
    const clock = createManualClock(Date.now());
    await using client = createKubeClient({
      endpoint: { key: localClusterKey, server: cluster.server, caPem: cluster.caPem },
      credential: tokenCredential(await controllerToken(cluster)),
      identity: "controller",
    });
    await using recorder = createEventRecorder({
      client,
      clock,
      random: systemRandom,
      logger: silentLogger,
      reportingController: "stageset-controller",
      reportingInstance: "test",
    });
    const regarding = { apiVersion: "stages.metio.wtf/v1", kind: "StageSet", namespace, name: "shop", uid: "u-1" };
    const counts = async (): Promise<readonly unknown[]> => {
      const events = await admin.list({ apiVersion: "events.k8s.io/v1", kind: "Event", namespace });
      return events.map((event) => at(event, "series", "count"));
    };
    const signal = AbortSignal.timeout(30_000);
    for (const expected of [undefined, 2]) {
      recorder.record({ regarding, type: "Warning", reason: "StageFailed", note: "again" });
      await recorder.flush({ signal });
      await eventually(async () => expect(await counts()).toEqual([expected]));
      clock.advance(11 * 60_000);
    }
  });
});
