import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, readyOf, stageSetRef, stageStatus, startTestController } from "../support/controller.ts";
import { untilReady } from "../support/controller.ts";
import { createJumpingClock, whileStepping } from "../support/jumping-clock.ts";
import { samplesOf } from "../support/metrics-page.ts";
import { recordedIds, requestPass, untilApplied } from "../support/passes.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
const clock = createJumpingClock();
const minute = 60_000;
const hour = 60 * minute;

let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster, { clock });
});
afterAll(() => scene[Symbol.asyncDispose]());

const target = (name: string) => ({ namespace: scene.namespace, name });
const ref = (name: string) => stageSetRef(scene.namespace, name);
const mapRef = (name: string) => ({ apiVersion: "v1", kind: "ConfigMap", metadata: target(name) });
const value = async (name: string): Promise<unknown> => at(await scene.object(name), "data", "k");
const edit = (name: string): Promise<unknown> => admin.patch(mapRef(name), { data: { k: "edited" } });
const promoteKey = "stages.metio.wtf/promote";
const promote = (name: string, token: string): Promise<unknown> =>
  admin.patch(ref(name), { metadata: { annotations: { [promoteKey]: token } } });

/** Looks again late on its own account, but for ticks. */
const slow = { interval: "24h", retryInterval: "24h" };
/** Corrects drift often. */
const quick = { interval: "1h", driftDetectionInterval: "1s", retryInterval: "1s" };

/** Two stages of one source: `<name>-1` in the first, `<name>-2` in the second. */
const stagesOf = (
  name: string,
  promotion: Readonly<Record<string, unknown>>,
  more: Readonly<Record<string, unknown>> = {},
) => [
  { name: "one", sourceRef: { name }, path: "1", promotion, ...more },
  { name: "two", sourceRef: { name }, path: "2" },
];
const publish = async (name: string, k: string, more: Readonly<Record<string, string>> = {}): Promise<string> => {
  const files = { "1/a.yaml": configMap(`${name}-1`, { k }), "2/a.yaml": configMap(`${name}-2`, { k }), ...more };
  return (await scene.publish(name, files)).revision;
};
const gateOf = (stageSet: KubeObject | undefined, stage = "one"): Record<string, unknown> =>
  Object.assign({}, at(stageStatus(stageSet, stage), "promotionState"));
const text = (state: Record<string, unknown>, member: string): string => asText(state[member]) ?? "";
/** Deployed at revision 1, past its gate: what a new revision comes to. */
const deployed = async (
  name: string,
  promotion: Readonly<Record<string, unknown>>,
  o: { readonly spec?: Readonly<Record<string, unknown>>; readonly stage?: Readonly<Record<string, unknown>> } = {},
): Promise<string> => {
  const revision = await publish(name, "1");
  await scene.release(name, stagesOf(name, promotion, o.stage), { ...slow, ...o.spec });
  await promote(name, "one@first");
  await untilApplied(cluster, target(name), { [name]: revision });
  return revision;
};
const untilGate = (name: string, wanted: Readonly<Record<string, unknown>>): Promise<KubeObject> =>
  eventually(async () => {
    const stageSet = await scene.get(name);
    expect(gateOf(stageSet)).toMatchObject(wanted);
    return stageSet ?? false;
  });
const untilHeldAt = (name: string, revision: string, ready = "False Soaking"): Promise<KubeObject> =>
  eventually(async () => {
    const stageSet = await scene.get(name);
    expect(at(stageStatus(stageSet, "one"), "appliedRevision")).toBe(revision);
    expect(readyOf(stageSet), messageOf(stageSet)).toBe(ready);
    return stageSet ?? false;
  });
/** Moves the clock to this long before an instant of status. */
const jumpTo = (instant: string, beforeMs: number): void =>
  clock.jump(Math.max(0, Date.parse(instant) - beforeMs - clock.now()));
/** Waits for what the next ticks bring. */
const ticking = <T>(wait: Promise<T>): Promise<T> => whileStepping(clock, 31_000, wait);
const gauges = async (name: string): Promise<readonly string[]> => {
  const page = await scene.controller.metrics();
  return ["pending", "blocked"].flatMap((which) =>
    samplesOf(page, `stageset_stage_promotion_${which}`, { namespace: scene.namespace, stageset: name }).map(
      ({ labels, value: shown }) => `${labels["stage"] ?? ""} ${which} ${shown}`,
    ),
  );
};

describe("a soak", () => {
  test("[40.11] holds for all of its time, then lets the next stage begin; a new revision restarts it", async () => {
    const name = "soak";
    const r1 = await deployed(name, { soak: "10m" });
    const r2 = await publish(name, "2");
    const held = await untilHeldAt(name, r2);
    const { since, soakUntil } = gateOf(held);
    expect(Date.parse(String(soakUntil)) - Date.parse(String(since))).toBe(10 * minute);
    expect(gateOf(held)).toMatchObject({ phase: "Soaking", windowStart: expect.stringContaining("T") as unknown });
    expect(messageOf(held)).toBe(`stage "one" soaks until ${String(soakUntil)}`);
    expect(stageStatus(held, "one")).toMatchObject({ phase: "Ready" });
    expect(stageStatus(held, "two")).toMatchObject({ phase: "Pending", enteredRevision: r1, appliedRevision: r1 });
    expect(await value(`${name}-2`)).toBe("1");
    // Shortly before its end, also when it is asked: nothing happens.
    jumpTo(String(soakUntil), 2 * minute);
    expect(gateOf(await requestPass(cluster, target(name)))).toEqual(gateOf(held));
    // Another revision comes in between, and soaks for as long.
    const r3 = await publish(name, "3");
    const again = await untilHeldAt(name, r3);
    expect(Date.parse(text(gateOf(again), "since"))).toBeGreaterThanOrEqual(Date.parse(String(since)) + 7 * minute);
    jumpTo(String(soakUntil), -minute);
    expect(readyOf(await requestPass(cluster, target(name)))).toBe("False Soaking");
    expect(await value(`${name}-2`)).toBe("1");
    jumpTo(text(gateOf(again), "soakUntil"), 0);
    const done = await ticking(untilApplied(cluster, target(name), { [name]: r3 }));
    expect(gateOf(done)).toMatchObject({ phase: "Promoted", since: gateOf(again)["since"] });
    expect(await value(`${name}-2`)).toBe("3");
    // Back to one it had soaked at before: that counts for nothing.
    const r4 = await publish(name, "4");
    await untilHeldAt(name, r4);
    const r3again = await publish(name, "3");
    expect(r3again).toBe(r3);
    const back = await untilHeldAt(name, r3);
    expect(Date.parse(text(gateOf(back), "since"))).toBeGreaterThan(Date.parse(text(gateOf(done), "soakUntil")) - 1);
    expect(gateOf(back)["phase"]).toBe("Soaking");
  });

  test("[40.11] goes on across restarts and a change of leaders, to the deadline it had", async () => {
    const name = "led";
    await publish(name, "1");
    await using own = await startScene(cluster, { clock });
    const { namespace } = own;
    const get = (): Promise<KubeObject | undefined> => admin.get(stageSetRef(namespace, name));
    const files = { "1/a.yaml": configMap("led-1"), "2/a.yaml": configMap("led-2") };
    await own.publish(name, files);
    await own.release(name, stagesOf(name, { soak: "10m" }), slow);
    const before = gateOf(await untilReady(cluster, { namespace, name }, "False Soaking"));
    await own.controller[Symbol.asyncDispose]();
    clock.jump(4 * minute);
    const config = { leaderElect: true, leaderElectionNamespace: namespace };
    const start = () => startTestController(cluster, { namespaces: [namespace], clock, config });
    const passes = (logs: readonly string[]): number =>
      logs.filter((line) => line.includes("StageSet is not synced")).length;
    {
      await using first = await start();
      await eventually(() => passes(first.logs) > 0);
      await using second = await start();
      expect(gateOf(await get())).toEqual(before);
      await first[Symbol.asyncDispose]();
      await eventually(() => passes(second.logs) > 0, { timeoutMs: 60_000 });
      expect(gateOf(await get())).toEqual(before);
    }
    jumpTo(text(before, "soakUntil"), minute);
    {
      await using third = await startTestController(cluster, { namespaces: [namespace], clock });
      await eventually(() => passes(third.logs) > 0);
      expect(readyOf(await get())).toBe("False Soaking");
      expect(gateOf(await get())).toEqual(before);
      expect(await own.object("led-2")).toBeUndefined();
      jumpTo(text(before, "soakUntil"), 0);
      await ticking(untilReady(cluster, { namespace, name }));
    }
    expect(await own.object("led-2")).toBeDefined();
  });

  test("[40.3] goes on while the window is closed; the next stage waits for the opening", async () => {
    const name = "window";
    const r1 = await deployed(name, { soak: "10m" });
    const r2 = await publish(name, "2");
    const held = await untilHeldAt(name, r2);
    const instant = (afterMs: number): string => `${new Date(clock.now() + afterMs).toISOString().slice(0, 19)}Z`;
    const window = { type: "Deny", from: instant(-minute), to: instant(2 * hour) };
    await admin.patch(ref(name), { spec: { updateWindows: [window] } });
    const closed = await untilHeldAt(name, r2, "False UpdateDeferred");
    expect(gateOf(closed)).toEqual(gateOf(held));
    expect(at(closed, "status", "pendingUpdate", "revisions")).toEqual({ [`${scene.namespace}/${name}`]: r2 });
    jumpTo(text(gateOf(held), "soakUntil"), 0);
    await ticking(untilGate(name, { phase: "Promoted" }));
    const after = await requestPass(cluster, target(name));
    expect(readyOf(after)).toBe("False UpdateDeferred");
    expect(stageStatus(after, "two")).toMatchObject({ enteredRevision: r1 });
    expect(await value(`${name}-2`)).toBe("1");
    clock.jump(2 * hour);
    await requestPass(cluster, target(name));
    await untilApplied(cluster, target(name), { [name]: r2 });
  });

  test("[20.30] drift is put right meanwhile, in the stage that soaks and in the one it holds; nothing is pruned", async () => {
    const name = "drift";
    await publish(name, "1", { "1/b.yaml": configMap(`${name}-dropped`) });
    await scene.release(name, stagesOf(name, { soak: "10m" }), quick);
    await promote(name, "one@first");
    await untilReady(cluster, target(name));
    const r2 = await publish(name, "2");
    const held = await untilHeldAt(name, r2);
    for (const [object, kept] of [
      [`${name}-1`, "2"],
      [`${name}-2`, "1"],
    ] as const) {
      await edit(object);
      await eventually(async () => (await value(object)) === kept);
    }
    await requestPass(cluster, target(name));
    expect(await scene.object(`${name}-dropped`)).toBeDefined();
    expect(await recordedIds(cluster, { ...target(name), stage: "one" })).toHaveLength(2);
    // The stage that soaks is Ready, and its gate over HTTP is open; the one that is held runs something else.
    const http = (stage: string) => scene.controller.gate(`/gate/${scene.namespace}/${name}/${stage}`);
    expect((await http("one")).status).toBe(200);
    expect((await http("two")).status).toBe(403);
    jumpTo(text(gateOf(held), "soakUntil"), 0);
    await ticking(untilApplied(cluster, target(name), { [name]: r2 }));
    await eventually(async () => (await scene.object(`${name}-dropped`)) === undefined);
  });

  test("at the last stage holds the release too: Ready is False and nothing is committed", async () => {
    const name = "last";
    const { revision } = await scene.publish(name, { "a.yaml": configMap(name) });
    await scene.release(name, [{ name: "one", sourceRef: { name }, promotion: { soak: "10m" } }], slow);
    const held = await untilHeldAt(name, revision);
    expect(at(held, "status", "lastAppliedRevisions")).toBeUndefined();
    expect(await gauges(name)).toEqual(["one pending 1", "one blocked 0"]);
    jumpTo(text(gateOf(held), "soakUntil"), 0);
    const done = await ticking(untilApplied(cluster, target(name), { [name]: revision }));
    await eventually(async () => (await gauges(name)).join() === "one pending 0,one blocked 0");
    // Without a gate there is no state, and no series.
    await admin.patch(ref(name), { spec: { stages: [{ name: "one", sourceRef: { name } }] } });
    await eventually(async () => Object.keys(gateOf(await scene.get(name))).length === 0);
    await eventually(async () => (await gauges(name)).length === 0);
    expect(readyOf(await untilReady(cluster, target(name)))).toBe("True Succeeded");
    // A gate that comes later is for what comes next: nothing that is deployed is held again.
    await admin.patch(ref(name), {
      spec: { stages: [{ name: "one", sourceRef: { name }, promotion: { requireManualPromotion: true } }] },
    });
    await eventually(async () => (await gauges(name)).join() === "one pending 0,one blocked 0");
    await eventually(async () => {
      const now = await scene.get(name);
      return at(now, "status", "observedGeneration") === now?.metadata.generation;
    });
    expect(readyOf(await requestPass(cluster, target(name)))).toBe("True Succeeded");
    expect(at(done, "status", "lastAppliedRevisions")).toEqual({ [`${scene.namespace}/${name}`]: revision });
    await admin.delete(ref(name));
    await eventually(async () => (await gauges(name)).length === 0);
  });
});

describe("the health of a stage that soaks", () => {
  const flag = (name: string) => mapRef(`${name}-flag`);
  const checks = (name: string) => ({
    readyChecks: { checks: [{ apiVersion: "v1", kind: "ConfigMap", name: `${name}-flag` }] },
  });
  const beginSoak = async (name: string, spec: Readonly<Record<string, unknown>>): Promise<KubeObject> => {
    await admin.create(flag(name));
    const revision = await publish(name, "1");
    await scene.release(name, stagesOf(name, { soak: "10m" }, checks(name)), { ...slow, ...spec });
    return untilHeldAt(name, revision);
  };

  test("a dip keeps the clock, and the promotion waits until it is over", async () => {
    const name = "dip";
    const held = await beginSoak(name, { timeout: "24h" });
    await admin.delete(flag(name));
    await requestPass(cluster, target(name));
    jumpTo(text(gateOf(held), "soakUntil"), -minute);
    const waiting = await requestPass(cluster, target(name));
    expect(gateOf(waiting)).toEqual(gateOf(held));
    expect(readyOf(waiting)).toBe("False Soaking");
    expect(messageOf(waiting)).toContain("once it is ready");
    expect(await scene.object(`${name}-2`)).toBeUndefined();
    await admin.create(flag(name));
    await untilReady(cluster, target(name));
  });

  test("one that is not ready for longer than its verify timeout soaks anew", async () => {
    const name = "relapse";
    const held = await beginSoak(name, { timeout: "30m" });
    await admin.delete(flag(name));
    await requestPass(cluster, target(name));
    clock.jump(31 * minute);
    const lost = await whileStepping(clock, 5 * minute, untilReady(cluster, target(name), "False StageProgressing"));
    expect(Object.keys(gateOf(lost))).toEqual(["windowStart"]);
    await admin.create(flag(name));
    const again = await untilReady(cluster, target(name), "False Soaking");
    expect(Date.parse(text(gateOf(again), "since"))).toBeGreaterThan(Date.parse(text(gateOf(held), "soakUntil")));
    expect(await scene.object(`${name}-2`)).toBeUndefined();
  });

  test("one that fails soaks anew, one that waits for somebody does not", async () => {
    const name = "failing";
    const revision = await publish(name, "1");
    await scene.release(name, stagesOf(name, { soak: "10m", requireManualPromotion: true }), quick);
    const fail = async (): Promise<KubeObject> => {
      await admin.patch(mapRef(`${name}-1`), { immutable: true, data: { k: "stuck" } });
      return untilReady(cluster, target(name), "False StageFailed");
    };
    const held = await untilHeldAt(name, revision);
    clock.jump(5 * minute);
    expect(Object.keys(gateOf(await fail()))).toEqual(["windowStart"]);
    await admin.delete(mapRef(`${name}-1`));
    const again = await untilHeldAt(name, revision);
    expect(Date.parse(text(gateOf(again), "since"))).toBeGreaterThan(
      Date.parse(text(gateOf(held), "since")) + 4 * minute,
    );
    jumpTo(text(gateOf(again), "soakUntil"), 0);
    const awaiting = await ticking(untilReady(cluster, target(name), "False AwaitingPromotion"));
    expect(gateOf(await fail())).toEqual(gateOf(awaiting));
    await admin.delete(mapRef(`${name}-1`));
    expect(gateOf(await untilReady(cluster, target(name), "False AwaitingPromotion"))).toEqual(gateOf(awaiting));
  });

  test("[20.40] a promoted stage that flaps keeps its promotion, its token and its ledger, and is not held again", async () => {
    const name = "flapping";
    await admin.create(flag(name));
    const revision = await publish(name, "1");
    const stages = stagesOf(name, { requireManualPromotion: true }, checks(name));
    await scene.release(name, stages, { ...slow, timeout: "10m" });
    await promote(name, "one@go");
    await untilApplied(cluster, target(name), { [name]: revision });
    await admin.patch(ref(name), { metadata: { annotations: { [promoteKey]: null } } });
    const ledger = { ledgerRevision: revision, executedActions: ["made-up"] };
    const before = await scene.get(name);
    const entries = (at(before, "status", "stages") as readonly object[]).map((entry) => ({ ...entry, ...ledger }));
    await admin.patchStatus(ref(name), { stages: entries });
    const kept = { ...ledger, lastHandledPromotion: "go", promotionState: { phase: "Promoted" } };
    for (let flap = 0; flap < 2; flap++) {
      await admin.delete(flag(name));
      await requestPass(cluster, target(name));
      clock.jump(11 * minute);
      const lost = await whileStepping(clock, 2 * minute, untilReady(cluster, target(name), "False StageProgressing"));
      expect(stageStatus(lost, "one")).toMatchObject({ ...kept, phase: "Verifying" });
      await admin.create(flag(name));
      const back = await untilReady(cluster, target(name));
      expect(stageStatus(back, "one")).toMatchObject(kept);
    }
  });
});

describe("a manual promotion", () => {
  const events = async (name: string, reason: string): Promise<readonly string[]> =>
    (await stageSetEvents(cluster, { ...target(name), reason })).flatMap(({ type, note, count }) =>
      Array.from({ length: count }, () => `${type} ${note}`),
    );
  const untilHandled = (name: string, token: string, stage = "one"): Promise<KubeObject> =>
    eventually(async () => {
      const stageSet = await scene.get(name);
      expect(at(stageStatus(stageSet, stage), "lastHandledPromotion")).toBe(token);
      return stageSet ?? false;
    });

  test("[40.17] [10.25] one token opens the gate once: not for the next revision, be it failed, retried or not", async () => {
    const name = "manual";
    const r1 = await publish(name, "1");
    await scene.release(name, stagesOf(name, { requireManualPromotion: true }), quick);
    const held = await untilHeldAt(name, r1, "False AwaitingPromotion");
    expect(messageOf(held)).toBe(
      `stage "one" awaits its promotion: stagesetctl promote ${name} --namespace ${scene.namespace} --stage one`,
    );
    expect(gateOf(held)).toMatchObject({ phase: "AwaitingManual" });
    expect(await gauges(name)).toEqual(["one pending 1", "one blocked 0"]);
    await promote(name, "one@T");
    const done = await untilApplied(cluster, target(name), { [name]: r1 });
    expect(stageStatus(done, "one")).toMatchObject({
      lastHandledPromotion: "T",
      promotionState: { phase: "Promoted" },
    });
    expect(at(stageStatus(done, "one"), "pendingPromotion")).toBeUndefined();
    await eventually(async () => (await gauges(name)).join() === "one pending 0,one blocked 0");
    // The next revision fails in the gated stage, is tried again, and then comes to the gate.
    await admin.patch(mapRef(`${name}-1`), { immutable: true });
    await publish(name, "2");
    const failed = await untilReady(cluster, target(name), "False StageFailed");
    expect(at(stageStatus(failed, "one"), "lastHandledPromotion")).toBe("T");
    const tries = scene.controller.logs.filter((line) => line.includes('"stage failed"')).length;
    await eventually(() => scene.controller.logs.filter((line) => line.includes('"stage failed"')).length > tries);
    await admin.delete(mapRef(`${name}-1`));
    const waiting = await untilReady(cluster, target(name), "False AwaitingPromotion");
    expect(at(stageStatus(waiting, "one"), "lastHandledPromotion")).toBe("T");
    for (let pass = 0; pass < 3; pass++) await requestPass(cluster, target(name));
    expect(readyOf(await scene.get(name))).toBe("False AwaitingPromotion");
    expect(await value(`${name}-2`)).toBe("1");
    // Nor after a restart.
    const { namespace } = scene;
    await scene.controller[Symbol.asyncDispose]();
    scene = { ...scene, controller: await startTestController(cluster, { namespaces: [namespace], clock }) };
    await requestPass(cluster, target(name));
    expect(readyOf(await scene.get(name))).toBe("False AwaitingPromotion");
    await promote(name, "one@T2");
    await untilReady(cluster, target(name));
    expect(await value(`${name}-2`)).toBe("2");
  });

  test("[40.17] [60.30] a token for what is promoted already is used up, with one Normal Event, and opens nothing later", async () => {
    const name = "early";
    const r1 = await deployed(name, { requireManualPromotion: true });
    await promote(name, "one@early");
    const handled = await untilHandled(name, "early");
    expect(at(stageStatus(handled, "one"), "pendingPromotion")).toBeUndefined();
    const told = [`Normal Nothing to promote: stage "one" is past its gate at "${r1}"`];
    await eventually(async () => (await events(name, "PromotionUnused")).length > 0);
    const r2 = await publish(name, "2");
    await untilHeldAt(name, r2, "False AwaitingPromotion");
    for (let pass = 0; pass < 2; pass++) await requestPass(cluster, target(name));
    expect(readyOf(await scene.get(name))).toBe("False AwaitingPromotion");
    expect(await events(name, "PromotionUnused")).toEqual(told);
    // A stage without a gate has nothing to promote either.
    await promote(name, "two@none");
    await untilHandled(name, "none", "two");
    await eventually(async () => (await events(name, "PromotionUnused")).length === 2);
    expect(await events(name, "PromotionUnused")).toContain(
      'Normal Nothing to promote: stage "two" has no promotion gate',
    );
  });

  test("[60.30] a token is bound to what is pinned when it is seen; it is discarded with a Warning when that moves", async () => {
    const name = "moved";
    await deployed(name, { requireManualPromotion: true });
    // Pinned and not at its gate yet: the stage cannot be applied.
    await admin.patch(ref(name), { spec: quick });
    await admin.patch(mapRef(`${name}-1`), { immutable: true });
    const r2 = await publish(name, "2");
    await untilReady(cluster, target(name), "False StageFailed");
    await promote(name, "one@two");
    await eventually(async () => {
      const entry = stageStatus(await scene.get(name), "one");
      expect(at(entry, "pendingPromotion")).toMatchObject({ token: "two", revision: r2 });
      return true;
    });
    const r3 = await publish(name, "3");
    await untilHandled(name, "two");
    await eventually(async () => (await events(name, "PromotionUnused")).length > 0);
    await admin.delete(mapRef(`${name}-1`));
    await untilHeldAt(name, r3, "False AwaitingPromotion");
    for (let pass = 0; pass < 2; pass++) await requestPass(cluster, target(name));
    expect(readyOf(await scene.get(name))).toBe("False AwaitingPromotion");
    const told = await events(name, "PromotionUnused");
    expect(told).toEqual([expect.stringMatching(/^Warning The promotion of stage "one" at /)]);
    expect(told[0]).toContain(r2);
    expect(told[0]).toContain(r3);
    // Given while the revision is on its way, it opens the gate when that is reached.
    await admin.patch(mapRef(`${name}-1`), { immutable: true, data: { k: "stuck" } });
    const r4 = await publish(name, "4");
    await untilReady(cluster, target(name), "False StageFailed");
    await promote(name, "one@four");
    await eventually(async () => at(stageStatus(await scene.get(name), "one"), "pendingPromotion", "token") === "four");
    await admin.delete(mapRef(`${name}-1`));
    const done = await untilApplied(cluster, target(name), { [name]: r4 });
    expect(at(stageStatus(done, "one"), "lastHandledPromotion")).toBe("four");
  });

  test("a token ends a soak", async () => {
    const name = "hurry";
    await deployed(name, { soak: "10m" });
    const r2 = await publish(name, "2");
    await untilHeldAt(name, r2);
    await promote(name, "one@now");
    await untilApplied(cluster, target(name), { [name]: r2 });
  });

  test("[60.30] a malformed token or one for an unknown stage is one Warning AnnotationIgnored, in no later pass", async () => {
    const name = "wrong";
    const revision = await publish(name, "1");
    await scene.release(name, stagesOf(name, { requireManualPromotion: true }), slow);
    await untilHeldAt(name, revision, "False AwaitingPromotion");
    for (const token of ["one", "nine@t", `one@${"t".repeat(257)}`]) {
      const before = (await events(name, "AnnotationIgnored")).length;
      await promote(name, token);
      await requestPass(cluster, target(name));
      await requestPass(cluster, target(name));
      await eventually(async () => (await events(name, "AnnotationIgnored")).length > before);
      expect((await events(name, "AnnotationIgnored")).length, token).toBe(before + 1);
    }
    expect((await events(name, "AnnotationIgnored")).every((event) => event.startsWith(`Warning ${promoteKey} `))).toBe(
      true,
    );
    expect(readyOf(await scene.get(name))).toBe("False AwaitingPromotion");
    expect(await events(name, "PromotionUnused")).toEqual([]);
  });
});
