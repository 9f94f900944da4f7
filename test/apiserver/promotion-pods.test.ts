import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { createServiceAccount, eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { createJumpingClock, whileStepping } from "../support/jumping-clock.ts";
import { samplesOf } from "../support/metrics-page.ts";
import { requestPass, untilApplied } from "../support/passes.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
const clock = createJumpingClock();
const minute = 60_000;

let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster, { clock });
});
afterAll(() => scene[Symbol.asyncDispose]());

const target = (name: string) => ({ namespace: scene.namespace, name });
/** Looks again late on its own account, but for ticks. */
const slow = { interval: "24h", retryInterval: "24h" };
const selectorOf = (name: string) => ({ matchLabels: { app: name } });
const stagesOf = (name: string, promotion: Readonly<Record<string, unknown>>) => [
  { name: "one", sourceRef: { name }, path: "1", promotion },
  { name: "two", sourceRef: { name }, path: "2" },
];
const publish = async (name: string, k: string): Promise<string> => {
  const files = { "1/a.yaml": configMap(`${name}-1`, { k }), "2/a.yaml": configMap(`${name}-2`, { k }) };
  return (await scene.publish(name, files)).revision;
};
const gateOf = (stageSet: KubeObject | undefined): Record<string, unknown> =>
  Object.assign({}, at(stageStatus(stageSet, "one"), "promotionState"));
const untilGate = (name: string, wanted: Readonly<Record<string, unknown>>): Promise<KubeObject> =>
  eventually(async () => {
    const stageSet = await scene.get(name);
    expect(gateOf(stageSet), messageOf(stageSet)).toMatchObject(wanted);
    return stageSet ?? false;
  });
/** Waits for what the next ticks bring. */
const ticking = <T>(wait: Promise<T>): Promise<T> => whileStepping(clock, 31_000, wait);
const gauge = async (name: string, which: "pending" | "blocked"): Promise<number | undefined> =>
  samplesOf(await scene.controller.metrics(), `stageset_stage_promotion_${which}`, {
    namespace: scene.namespace,
    stageset: name,
  })[0]?.value;

/** A pod nothing runs: its containers have restarted as often as the test says. */
const podRef = (pod: string) => ({ apiVersion: "v1", kind: "Pod", metadata: target(pod) });
const restarted = async (pod: string, restarts: number, init = 0): Promise<void> => {
  const status = (name: string, restartCount: number) => ({
    name,
    restartCount,
    image: "x",
    imageID: "",
    ready: true,
  });
  await admin.patchStatus(podRef(pod), {
    containerStatuses: [status("main", restarts)],
    initContainerStatuses: [status("init", init)],
  });
};
const createPod = async (pod: string, app: string, restarts: number, init = 0): Promise<KubeObject> => {
  const containers = [{ name: "main", image: "x" }];
  const ref = podRef(pod);
  const created = await admin.create({
    ...ref,
    metadata: { ...ref.metadata, labels: { app } },
    // No node of the simulation: nobody else says how it is.
    spec: { nodeName: "nowhere", containers, initContainers: [{ name: "init", image: "x" }] },
  });
  await restarted(pod, restarts, init);
  return created;
};

describe("a restart gate", () => {
  const web = { name: "web" };
  const restartGate = (name: string, more: Readonly<Record<string, unknown>> = {}) => ({
    restartGate: { checks: [{ ...web, selector: selectorOf(name), ...more }] },
  });

  test("[40.14] counts each pod from what it had at the last promotion: replaced ones hide nothing", async () => {
    const name = "counted";
    for (const pod of ["a", "b"]) await createPod(`${name}-${pod}`, name, 40);
    const r1 = await publish(name, "1");
    await scene.release(name, stagesOf(name, restartGate(name)), slow);
    const first = await untilApplied(cluster, target(name), { [name]: r1 });
    expect(gateOf(first)).toMatchObject({ phase: "Promoted", restartBaseline: [{ name: "web", restarts: 80 }] });
    // Old pods with unchanged counts never block.
    const r2 = await publish(name, "2");
    await untilApplied(cluster, target(name), { [name]: r2 });
    for (const pod of ["a", "b"]) await admin.delete(podRef(`${name}-${pod}`));
    await createPod(`${name}-c`, name, 0, 1);
    const r3 = await publish(name, "3");
    const blocked = await untilReady(cluster, target(name), "False PromotionBlocked");
    expect(gateOf(blocked)).toMatchObject({ phase: "Blocked", restartCheck: "web", observedRestarts: 1 });
    expect(messageOf(blocked)).toBe('stage "one" is blocked: restart check "web" counts 1 restart(s), more than 0');
    expect(stageStatus(blocked, "one")).toMatchObject({ phase: "Ready", appliedRevision: r3 });
    expect(stageStatus(blocked, "two")).toMatchObject({ appliedRevision: r2 });
    expect(await gauge(name, "blocked")).toBe(1);
    expect(await gauge(name, "pending")).toBe(1);
    const http = await scene.controller.gate(`/gate/${scene.namespace}/${name}/one`);
    expect(http.status).toBe(403);
    expect(http.body).toContain("Blocked");
    // A block is derived anew each time: it goes with its cause.
    await admin.patch(stageSetRef(scene.namespace, name), {
      spec: { stages: stagesOf(name, restartGate(name, { maxRestarts: 1 })) },
    });
    const done = await untilApplied(cluster, target(name), { [name]: r3 });
    expect(gateOf(done)).toMatchObject({ phase: "Promoted", restartBaseline: [{ name: "web", restarts: 1 }] });
    expect(await gauge(name, "blocked")).toBe(0);
  });

  test("is looked at while the stage soaks: a crash blocks, recovery leads back to the deadline there was", async () => {
    const name = "crashing";
    await createPod(`${name}-a`, name, 2);
    await publish(name, "1");
    await scene.release(name, stagesOf(name, { soak: "24h", ...restartGate(name) }), slow);
    const soaking = await untilReady(cluster, target(name), "False Soaking");
    await restarted(`${name}-a`, 3);
    await ticking(untilGate(name, { phase: "Blocked", restartCheck: "web", observedRestarts: 1 }));
    await untilReady(cluster, target(name), "False PromotionBlocked");
    await restarted(`${name}-a`, 5);
    await ticking(untilGate(name, { phase: "Blocked", observedRestarts: 3 }));
    await admin.delete(podRef(`${name}-a`));
    await ticking(untilReady(cluster, target(name), "False Soaking"));
    const { soakUntil } = gateOf(soaking);
    await untilGate(name, { phase: "Soaking", soakUntil });
    clock.jump(Math.max(0, Date.parse(asText(soakUntil) ?? "") - clock.now()));
    await ticking(untilReady(cluster, target(name)));
  });

  test("a token passes a block, and what is then counted is forgotten", async () => {
    const name = "overruled";
    const pod = `${name}-a`;
    await createPod(pod, name, 0);
    await publish(name, "1");
    await scene.release(name, stagesOf(name, restartGate(name)), slow);
    await untilReady(cluster, target(name));
    await restarted(pod, 9);
    const r2 = await publish(name, "2");
    await untilReady(cluster, target(name), "False PromotionBlocked");
    await admin.patch(stageSetRef(scene.namespace, name), {
      metadata: { annotations: { "stages.metio.wtf/promote": "one@anyway" } },
    });
    const done = await untilApplied(cluster, target(name), { [name]: r2 });
    expect(gateOf(done)).toMatchObject({ phase: "Promoted", restartBaseline: [{ restarts: 9 }] });
    expect(gateOf(done)["observedRestarts"]).toBeUndefined();
  });

  test("[40.16] pods that may not be listed: RBACDenied says what is missing, nothing is rolled back, and a grant mends it", async () => {
    const name = "blind";
    await createPod(`${name}-a`, name, 0);
    const verbs = ["get", "list", "watch", "create", "patch", "update", "delete"];
    const rules = [{ apiGroups: [""], resources: ["configmaps"], verbs }];
    await createServiceAccount(cluster, { ...target(name), rules });
    const revision = await publish(name, "1");
    await scene.release(name, stagesOf(name, { soak: "10m", ...restartGate(name) }), {
      ...slow,
      serviceAccountName: name,
    });
    const denied = await untilReady(cluster, target(name), "False RBACDenied");
    expect(messageOf(denied)).toMatch(
      /^stage "one" promotion gate: ServiceAccount ".*\/blind" must be able to list pods/,
    );
    expect(messageOf(denied)).toContain('cannot list resource "pods"');
    expect(stageStatus(denied, "one")).toMatchObject({ phase: "Ready", appliedRevision: revision });
    const { since } = gateOf(denied);
    expect(gateOf(denied)).toMatchObject({ phase: "Soaking" });
    clock.jump(11 * minute);
    await requestPass(cluster, target(name));
    expect(readyOf(await scene.get(name))).toBe("False RBACDenied");
    expect(await scene.object(`${name}-2`)).toBeUndefined();
    expect(await scene.object(`${name}-1`)).toBeDefined();
    const granted = [...rules, { apiGroups: [""], resources: ["pods", "events"], verbs: ["list"] }];
    await createServiceAccount(cluster, { ...target(name), rules: granted });
    // It had soaked meanwhile.
    const done = await ticking(untilReady(cluster, target(name)));
    expect(gateOf(done)).toMatchObject({ phase: "Promoted", since });
    const events = await stageSetEvents(cluster, target(name));
    expect(events.map(({ reason }) => reason)).not.toContain("RolledBack");
  });
});

describe("an event gate", () => {
  const eventGate = (name: string) => ({
    eventGate: { checks: [{ name: "warnings", selector: selectorOf(name), reasons: ["BackOff"], maxEvents: 5 }] },
  });
  const at = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;
  const record = async (
    pod: KubeObject,
    o: {
      readonly id: string;
      readonly firstMs: number;
      readonly lastMs: number;
      readonly count: number;
      readonly more?: object;
    },
  ): Promise<unknown> => {
    const { namespace = "", name, uid } = pod.metadata;
    return admin.create({
      apiVersion: "v1",
      kind: "Event",
      metadata: { namespace, name: `${name}.${o.id}` },
      involvedObject: { apiVersion: "v1", kind: "Pod", namespace, name, uid },
      type: "Warning",
      reason: "BackOff",
      message: "as the test says",
      source: { component: "kubelet" },
      firstTimestamp: at(o.firstMs),
      lastTimestamp: at(o.lastMs),
      count: o.count,
      ...o.more,
    });
  };

  test("[40.15] one of a series counted 7 times blocks; last seen before this revision's apply it does not", async () => {
    const name = "warned";
    const pod = await createPod(`${name}-a`, name, 0);
    const other = await createPod(`${name}-other`, "other", 0);
    const before = clock.now() - 60 * minute;
    await record(pod, { id: "old", firstMs: before, lastMs: before, count: 7 });
    const r1 = await publish(name, "1");
    await scene.release(name, stagesOf(name, eventGate(name)), slow);
    await untilApplied(cluster, target(name), { [name]: r1 });
    // What is not counted: other types, other reasons, other pods, and all but one of what began before.
    const now = clock.now() + 2_000;
    const seen = { firstMs: now, lastMs: now, count: 7 };
    await record(pod, { ...seen, id: "normal", more: { type: "Normal" } });
    await record(pod, { ...seen, id: "reason", more: { reason: "Unhealthy" } });
    await record(other, { ...seen, id: "pod" });
    await record(pod, { id: "began", firstMs: before, lastMs: now, count: 40 });
    const r2 = await publish(name, "2");
    await untilApplied(cluster, target(name), { [name]: r2 });
    const later = clock.now() + 60 * minute;
    await record(pod, {
      id: "series",
      firstMs: later,
      lastMs: later,
      count: 1,
      more: {
        eventTime: new Date(later).toISOString().replace("Z", "000Z"),
        series: { count: 7, lastObservedTime: new Date(later).toISOString().replace("Z", "000Z") },
        action: "Backing",
        reportingComponent: "kubelet",
        reportingInstance: "node",
      },
    });
    await publish(name, "3");
    const blocked = await untilReady(cluster, target(name), "False PromotionBlocked");
    expect(gateOf(blocked)).toMatchObject({ phase: "Blocked", eventCheck: "warnings" });
    expect([7, 8]).toContain(gateOf(blocked)["observedEvents"]);
    expect(messageOf(blocked)).toMatch(
      /^stage "one" is blocked: event check "warnings" counts [78] event\(s\), more than 5$/,
    );
    // Those events are over when the next revision begins.
    clock.jump(90 * minute);
    const r4 = await publish(name, "4");
    await untilApplied(cluster, target(name), { [name]: r4 });
  });
});
