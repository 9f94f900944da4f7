import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { createManualClock } from "../../src/lib/clock.ts";
import { at } from "../../src/lib/json.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, stageSetRef, untilReady } from "../support/controller.ts";
import { startScene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;

test("[20.39] a failing apply is tried again after about 1, 2, 4, 8, 16, 30 and 30 s; a request starts the count anew", async () => {
  const clock = createManualClock(Date.now());
  await using scene = await startScene(cluster, { clock });
  const { namespace } = scene;
  const attempts = (): number => scene.controller.logs.filter((line) => line.includes('"stage failed"')).length;
  /** Lets time pass until the attempt after this one has failed. */
  const pump = async (count: number): Promise<void> => {
    await eventually(
      () => {
        if (attempts() > count) return true;
        clock.advance(20);
        return false;
      },
      { intervalMs: 5, timeoutMs: 30_000 },
    );
  };
  /** The next attempt comes after this time ±10 %, neither sooner nor later. */
  const expectAttemptAfter = async (seconds: number): Promise<void> => {
    const before = attempts();
    clock.advance(seconds * 880);
    await delay(100); // Time for what must not happen.
    expect(attempts(), `tried again before ${seconds} s`).toBe(before);
    clock.advance(seconds * 240);
    await eventually(() => attempts() > before);
    expect(attempts()).toBe(before + 1);
  };
  await scene.publish("app", { "a.yaml": configMap("app", { "not/a/key": "1" }) });
  await scene.release("app", [{ name: "only", sourceRef: { name: "app" } }], { retryInterval: "30s", interval: "1h" });
  await pump(0);
  await untilReady(cluster, { namespace, name: "app" }, "False StageFailed");
  for (const seconds of [1, 2, 4, 8, 16, 30, 30]) await expectAttemptAfter(seconds);
  const last = attempts();
  await admin.patch(stageSetRef(namespace, "app"), {
    metadata: { annotations: { "reconcile.fluxcd.io/requestedAt": "now" } },
  });
  await pump(last);
  await eventually(async () => at(await scene.get("app"), "status", "lastHandledReconcileAt") === "now");
  for (const seconds of [1, 2]) await expectAttemptAfter(seconds);
  // A fix is taken at once, whatever is left of the backoff.
  await scene.publish("app", { "a.yaml": configMap("app") });
  await eventually(
    async () => {
      clock.advance(20);
      return (await scene.object("app")) !== undefined;
    },
    { intervalMs: 5 },
  );
});
