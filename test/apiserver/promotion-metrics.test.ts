import { afterAll, beforeAll, expect, test } from "vitest";
import { asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, stageStatus, untilReady } from "../support/controller.ts";
import { createJumpingClock, whileStepping } from "../support/jumping-clock.ts";
import { promValue, startMetricServer, type MetricReply, type MetricServer } from "../support/metric-server.ts";
import { sampleOf } from "../support/metrics-page.ts";
import { requestPass } from "../support/passes.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const clock = createJumpingClock();
const minute = 60_000;

let scene: Scene;
let server: MetricServer;
/** What each query is answered with, by its text. */
const answers = new Map<string, MetricReply>();
const stack = new AsyncDisposableStack();
beforeAll(async () => {
  server = stack.use(await startMetricServer());
  server.reply(({ path }) => answers.get(new URL(path, server.url).searchParams.get("query") ?? "") ?? { status: 503 });
  scene = stack.use(await startScene(cluster, { clock }));
});
afterAll(() => stack.disposeAsync());

const target = (name: string) => ({ namespace: scene.namespace, name });
const sourceOf = (query: string) => ({ prometheus: { address: server.url, query } });
const slow = { interval: "24h", retryInterval: "24h" };
const release = async (name: string, promotion: Readonly<Record<string, unknown>>): Promise<string> => {
  const files = { "1/a.yaml": configMap(`${name}-1`), "2/a.yaml": configMap(`${name}-2`) };
  const { revision } = await scene.publish(name, files);
  const stages = [
    { name: "one", sourceRef: { name }, path: "1", promotion },
    { name: "two", sourceRef: { name }, path: "2" },
  ];
  await scene.release(name, stages, slow);
  return revision;
};
const gateOf = (stageSet: KubeObject | undefined): Record<string, unknown> =>
  Object.assign({}, at(stageStatus(stageSet, "one"), "promotionState"));
const untilGate = (name: string, wanted: Readonly<Record<string, unknown>>): Promise<KubeObject> =>
  eventually(async () => {
    const stageSet = await scene.get(name);
    expect(gateOf(stageSet), messageOf(stageSet)).toMatchObject(wanted);
    return stageSet ?? false;
  });
const instantOf = (stageSet: KubeObject | undefined, member: string): number =>
  Date.parse(asText(gateOf(stageSet)[member]) ?? "");
/** When an analysis with an interval of 5 minutes is due again. */
const dueAfter = (stageSet: KubeObject): number =>
  Date.parse(asText(at(gateOf(stageSet), "lastAnalysis", "time")) ?? "") + 5 * minute;
/** Moves the clock to this instant, epoch ms. */
const jumpTo = (instant: number): void => clock.jump(Math.max(0, instant - clock.now()));
const queriesOf = (query: string): number =>
  server.queries.filter(({ path }) => new URL(path, server.url).searchParams.get("query") === query).length;

test("[40.13] an analysis that fails: wake-ups count nothing, the third evaluation blocks, recovery lifts it, the deadline stays", async () => {
  const name = "analysis";
  answers.set(name, promValue(5));
  const checks = [{ name: "errors", source: sourceOf(name), threshold: { max: "1" } }];
  await release(name, { soak: "60m", analysis: { checks, interval: "5m", failureLimit: 2 } });
  const first = await untilGate(name, { phase: "Soaking", analysisFailures: 1 });
  const { soakUntil } = gateOf(first);
  for (let wake = 0; wake < 10; wake++) await requestPass(cluster, target(name));
  expect(gateOf(await scene.get(name))).toEqual(gateOf(first));
  expect(queriesOf(name)).toBe(1);
  // An evaluation each 5 minutes; what is due is asked once, however often it is looked at.
  jumpTo(dueAfter(first));
  await requestPass(cluster, target(name));
  const second = await untilGate(name, { phase: "Soaking", analysisFailures: 2 });
  expect(queriesOf(name)).toBe(2);
  jumpTo(dueAfter(second));
  await requestPass(cluster, target(name));
  const third = await untilGate(name, { phase: "Blocked", analysisFailures: 3 });
  const blocked = await untilReady(cluster, target(name), "False PromotionBlocked");
  expect(messageOf(blocked)).toBe('stage "one" is blocked: 3 analysis failure(s) in a row: "errors" 5');
  expect(gateOf(third)["lastAnalysis"]).toMatchObject({
    passed: false,
    checks: [{ name: "errors", value: "5", ok: false }],
  });
  answers.set(name, promValue(0));
  jumpTo(dueAfter(third));
  await requestPass(cluster, target(name));
  await untilGate(name, { phase: "Soaking", analysisFailures: 0, soakUntil });
  await untilReady(cluster, target(name), "False Soaking");
  jumpTo(Date.parse(String(soakUntil)));
  await requestPass(cluster, target(name));
  await whileStepping(clock, 31_000, untilReady(cluster, target(name)));
});

test("an analysis whose source cannot be read counts as failing, and each query counts as an error", async () => {
  const name = "unreadable";
  const checks = [{ name: "errors", source: sourceOf(name), threshold: { max: "1" } }];
  await release(name, { analysis: { checks, interval: "5m" } });
  const blocked = await untilReady(cluster, target(name), "False PromotionBlocked");
  expect(gateOf(blocked)).toMatchObject({
    phase: "Blocked",
    lastAnalysis: { checks: [{ name: "errors", ok: false }] },
  });
  expect(messageOf(blocked)).toContain("503");
  await eventually(
    async () =>
      (sampleOf(await scene.controller.metrics(), "stageset_metric_source_errors_total", target(name)) ?? 0) >= 1,
  );
  answers.set(name, promValue(1));
  await whileStepping(clock, minute, untilReady(cluster, target(name)));
});

test("[40.12] a healthy metric promotes after 5 of 30 minutes; it is not asked before", async () => {
  const name = "fast";
  answers.set(name, promValue(0));
  await release(name, { soak: "30m", fastTrack: { source: sourceOf(name), max: "0", after: "5m" } });
  const soaking = await untilReady(cluster, target(name), "False Soaking");
  const since = instantOf(soaking, "since");
  jumpTo(since + 3 * minute);
  await requestPass(cluster, target(name));
  expect(queriesOf(name)).toBe(0);
  expect(gateOf(await scene.get(name))["phase"]).toBe("Soaking");
  jumpTo(since + 5 * minute);
  await whileStepping(clock, 5_000, untilReady(cluster, target(name)));
  expect(clock.now()).toBeLessThan(instantOf(soaking, "soakUntil"));
  expect(queriesOf(name)).toBeGreaterThan(0);
});

test("[40.12] a metric that cannot be read is no hold: the soak takes its 30 minutes", async () => {
  const name = "broken";
  await release(name, { soak: "30m", fastTrack: { source: sourceOf(name), max: "0", after: "5m" } });
  const soaking = await untilReady(cluster, target(name), "False Soaking");
  jumpTo(instantOf(soaking, "since") + 20 * minute);
  await requestPass(cluster, target(name));
  await eventually(() => queriesOf(name) > 0);
  await eventually(
    async () =>
      (sampleOf(await scene.controller.metrics(), "stageset_metric_source_errors_total", target(name)) ?? 0) >= 1,
  );
  expect(gateOf(await requestPass(cluster, target(name)))).toEqual(gateOf(soaking));
  jumpTo(instantOf(soaking, "soakUntil"));
  await whileStepping(clock, 31_000, untilReady(cluster, target(name)));
});
