import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { eventually, testCluster, uniqueName } from "../support/cluster.ts";
import {
  configMap,
  messageOf,
  readyOf,
  stageSetRef,
  stageStatus,
  startTestController,
  untilReady,
} from "../support/controller.ts";
import { createJumpingClock } from "../support/jumping-clock.ts";
import { samplesOf } from "../support/metrics-page.ts";
import { requestPass, untilApplied } from "../support/passes.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
const clock = createJumpingClock();
const minute = 60_000;
const hour = 60 * minute;

let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster, { clock, clusterWide: true });
});
afterAll(() => scene[Symbol.asyncDispose]());

const target = (name: string) => ({ namespace: scene.namespace, name });
const ref = (name: string) => stageSetRef(scene.namespace, name);
const mapRef = (name: string) => ({ apiVersion: "v1", kind: "ConfigMap", metadata: target(name) });
const value = async (name: string): Promise<unknown> => at(await scene.object(name), "data", "k");
const edit = (name: string): Promise<unknown> => admin.patch(mapRef(name), { data: { k: "edited" } });
const publish = (name: string, k: string) => scene.publish(name, { "a.yaml": configMap(name, { k }) });
const stageOf = (name: string, source = name, more: Readonly<Record<string, unknown>> = {}) => ({
  name,
  sourceRef: { name: source },
  ...more,
});
/** Corrects drift often, and looks again late on its own account. */
const quick = { interval: "1h", driftDetectionInterval: "1s", retryInterval: "1s" };

const instant = (afterMs: number): string => `${new Date(clock.now() + afterMs).toISOString().slice(0, 19)}Z`;
/** Closed from now on for this time. */
const closedFor = (ms: number) => ({ type: "Deny", from: instant(-minute), to: instant(ms) });
const close = async (name: string, ms: number, more: Readonly<Record<string, unknown>> = {}) => {
  const window = closedFor(ms);
  await admin.patch(ref(name), { spec: { updateWindows: [window], ...more } });
  return window;
};
const pendingOf = (stageSet: KubeObject | undefined): unknown => at(stageSet, "status", "pendingUpdate");
const untilPending = (name: string, revisions: Readonly<Record<string, string>>): Promise<KubeObject> =>
  eventually(async () => {
    const stageSet = await scene.get(name);
    const keyed = Object.fromEntries(
      Object.entries(revisions).map(([source, revision]) => [`${scene.namespace}/${source}`, revision]),
    );
    expect(at(pendingOf(stageSet), "revisions")).toEqual(keyed);
    return stageSet ?? false;
  });
const untilMessage = (name: string, message: RegExp): Promise<KubeObject> =>
  eventually(async () => {
    const stageSet = await scene.get(name);
    expect(messageOf(stageSet)).toMatch(message);
    return stageSet ?? false;
  });
/** Type and note of each `UpdateDeferred` Event, once per count. */
const deferrals = async (name: string): Promise<readonly string[]> =>
  (await stageSetEvents(cluster, { ...target(name), reason: "UpdateDeferred" })).flatMap(({ type, note, count }) =>
    Array.from({ length: count }, () => `${type} ${note}`),
  );
const deferred = async (name: string): Promise<number | undefined> =>
  samplesOf(await scene.controller.metrics(), "stageset_update_deferred_total", target(name))[0]?.value;
const lines = (name: string, text: string): number =>
  scene.controller.logs.filter((line) => line.includes(text) && line.includes(`"name":"${name}"`)).length;
const annotate = (name: string, key: string, token: string): Promise<unknown> =>
  admin.patch(ref(name), { metadata: { annotations: { [key]: token } } });
const updateNow = "stages.metio.wtf/update-now";

describe("a deployed StageSet whose windows are closed", () => {
  const name = "shop";
  let before: KubeObject;
  let window: { readonly to: string };
  let revisions: readonly string[] = [];
  beforeAll(async () => {
    const first = await publish(name, "1");
    await scene.release(name, [stageOf("one", name)], quick);
    await untilReady(cluster, target(name));
    window = await close(name, 2 * hour);
    before = await untilReady(cluster, target(name));
    expect(await deferred(name)).toBe(0);
    const second = await publish(name, "2");
    revisions = [first.revision, second.revision];
    await untilPending(name, { [name]: second.revision });
  });

  test("[40.1] nothing enters, Ready says so, and the deferral is told and counted once over many passes", async () => {
    const text = `delivery held by update window (next window opens ${window.to})`;
    const held = await untilMessage(name, /^Deployed; /);
    expect(readyOf(held)).toBe("True Succeeded");
    expect(messageOf(held)).toBe(`Deployed; ${text}`);
    expect(pendingOf(held)).toEqual({
      revisions: { [`${scene.namespace}/${name}`]: revisions[1] },
      nextWindowOpens: window.to,
    });
    for (let pass = 0; pass < 3; pass++) await requestPass(cluster, target(name));
    expect(await value(name)).toBe("1");
    expect(readyOf(await scene.get(name))).toBe("True Succeeded");
    expect(await deferred(name)).toBe(1);
    await eventually(async () => (await deferrals(name)).length > 0);
    expect(await deferrals(name)).toEqual([`Normal ${text}: ${scene.namespace}/${name} at ${revisions[1]}`]);
    expect(lines(name, "rollout deferred while update windows are closed")).toBeGreaterThanOrEqual(3);
  });

  test("[10.24] phases and lastAttemptedRevisions keep the old values, pendingUpdate shows the new", async () => {
    const held = await untilPending(name, { [name]: revisions[1] ?? "" });
    expect(at(held, "status", "lastAttemptedRevisions")).toEqual(at(before, "status", "lastAttemptedRevisions"));
    expect(at(held, "status", "lastAttemptedRevisions")).toEqual({ [`${scene.namespace}/${name}`]: revisions[0] });
    expect(stageStatus(held, "one")).toMatchObject({
      phase: "Ready",
      enteredRevision: revisions[0],
      appliedRevision: revisions[0],
    });
  });

  test("the gate stays closed for the revision that waits", async () => {
    const gate = await scene.controller.gate(`/gate/${scene.namespace}/${name}/one`);
    expect(gate.status).toBe(403);
    expect(gate.body).toContain("RevisionPending");
  });

  test("[40.2] drift is undone while they stay closed, unless windowScope is All", async () => {
    await edit(name);
    await eventually(async () => (await value(name)) === "1");
    expect(at(pendingOf(await scene.get(name)), "nextWindowOpens")).toBe(window.to);
    await admin.patch(ref(name), { spec: { windowScope: "All" } });
    await eventually(async () => at(await scene.get(name), "status", "observedGeneration") === 3);
    await edit(name);
    for (let pass = 0; pass < 3; pass++) await requestPass(cluster, target(name));
    expect(await value(name)).toBe("edited");
    await admin.patch(ref(name), { spec: { windowScope: "Updates" } });
    await eventually(async () => (await value(name)) === "1");
    const corrected = await untilMessage(name, /^Deployed; /);
    expect(stageStatus(corrected, "one")).toMatchObject({ phase: "Ready", appliedRevision: revisions[0] });
  });
});

describe("what a closed window lets through", () => {
  test("a first release waits with Ready False, one Normal Event and no Warning, until the opening", async () => {
    const name = "first";
    const { revision } = await publish(name, "1");
    const window = closedFor(hour);
    await scene.release(name, [stageOf("one", name)], { ...quick, updateWindows: [window] });
    const held = await untilReady(cluster, target(name), "False UpdateDeferred");
    expect(messageOf(held)).toBe(`delivery held by update window (next window opens ${window.to})`);
    expect(at(pendingOf(held), "revisions")).toEqual({ [`${scene.namespace}/${name}`]: revision });
    await requestPass(cluster, target(name));
    await eventually(async () => (await deferrals(name)).length > 0);
    expect(await deferrals(name)).toEqual([expect.stringMatching(/^Normal delivery held by update window/)]);
    expect(await scene.object(name)).toBeUndefined();
    clock.jump(hour + minute);
    const done = await untilReady(cluster, target(name));
    expect(pendingOf(done)).toBeUndefined();
    const events = await stageSetEvents(cluster, target(name));
    expect(events.filter(({ type }) => type === "Warning")).toEqual([]);
    expect(await deferred(name)).toBe(1);
  });

  test("[40.4] update-now starts the roll-out and covers its retries; the next revision waits again", async () => {
    const name = "hurry";
    const second = `${name}-2`;
    const publishBoth = async (k: string): Promise<string> =>
      (await scene.publish(name, { "1/a.yaml": configMap(name, { k }), "2/a.yaml": configMap(second, { k }) }))
        .revision;
    await publishBoth("1");
    const stages = [stageOf("one", name, { path: "1" }), stageOf("two", name, { path: "2" })];
    await scene.release(name, stages, quick);
    await untilReady(cluster, target(name));
    await close(name, 10 * hour);
    const r2 = await publishBoth("2");
    await untilPending(name, { [name]: r2 });
    // Nobody may change the second stage's object, so that stage fails; without a look ahead, in its turn.
    await annotate(name, "stages.metio.wtf/preflight", "disabled");
    await admin.patch(mapRef(second), { immutable: true });
    await annotate(name, updateNow, "now-1");
    const failed = await untilReady(cluster, target(name), "False StageFailed");
    expect(at(failed, "status", "lastHandledUpdateOverride")).toBe("now-1");
    expect(at(failed, "status", "updateOverrideFor")).toMatch(/^[0-9a-f]{64}$/);
    expect(await value(name)).toBe("2");
    const tries = lines(name, '"stage failed"');
    await eventually(() => lines(name, '"stage failed"') > tries);
    const retried = await scene.get(name);
    expect(readyOf(retried)).toBe("False StageFailed");
    expect(pendingOf(retried)).toBeUndefined();
    await admin.delete(mapRef(second));
    const done = await untilApplied(cluster, target(name), { [name]: r2 });
    expect(await value(second)).toBe("2");
    expect(at(done, "status", "updateOverrideFor"), "it is through").toBeUndefined();
    // The same token lets nothing through again.
    const r3 = await publishBoth("3");
    await untilPending(name, { [name]: r3 });
    await requestPass(cluster, target(name));
    expect(await value(name)).toBe("2");
    expect(await deferred(name)).toBe(2);
    // What waits may be replaced by another revision, and a token is for what waits when it comes.
    const r4 = await publishBoth("4");
    await untilPending(name, { [name]: r4 });
    await annotate(name, updateNow, "now-2");
    await untilApplied(cluster, target(name), { [name]: r4 });
  });

  test("a token that found nothing held is used up", async () => {
    const name = "early";
    await publish(name, "1");
    await scene.release(name, [stageOf("one", name)], quick);
    await untilReady(cluster, target(name));
    await annotate(name, updateNow, "early-1");
    await eventually(async () => at(await scene.get(name), "status", "lastHandledUpdateOverride") === "early-1");
    await close(name, hour);
    const { revision } = await publish(name, "2");
    const held = await untilPending(name, { [name]: revision });
    expect(at(held, "status", "updateOverrideFor")).toBeUndefined();
    expect(await value(name)).toBe("1");
  });

  test("a spec edit flows through a closed window, but not under windowScope All", async () => {
    const name = "edited";
    await publish(name, "${k:-plain}");
    await scene.release(name, [stageOf("one", name)], quick);
    await untilReady(cluster, target(name));
    const patched = (k: string) => ({ stages: [stageOf("one", name, { postBuild: { substitute: { k } } })] });
    await close(name, hour, patched("patched"));
    await eventually(async () => (await value(name)) === "patched");
    expect(readyOf(await untilReady(cluster, target(name)))).toBe("True Succeeded");
    const window = await close(name, hour, { ...patched("later"), windowScope: "All" });
    const still = await untilMessage(name, /^Deployed; /);
    expect(pendingOf(still)).toEqual({ revisions: {}, nextWindowOpens: window.to });
    await untilReady(cluster, target(name));
    await requestPass(cluster, target(name));
    expect(await value(name)).toBe("patched");
    expect(at(stageStatus(await scene.get(name), "one"), "phase")).toBe("Pending");
    expect((await scene.controller.gate(`/gate/${scene.namespace}/${name}/one`)).status).toBe(403);
    await eventually(async () => (await deferrals(name)).length === 1);
    await annotate(name, updateNow, "let-go");
    await eventually(async () => (await value(name)) === "later");
    // It covers this one run; what comes after waits again.
    await untilMessage(name, /^Deployed; /);
    await eventually(async () => at(stageStatus(await scene.get(name), "one"), "phase") === "Ready");
    await edit(name);
    await requestPass(cluster, target(name));
    expect(await value(name)).toBe("edited");
    clock.jump(hour + minute);
    await eventually(async () => (await value(name)) === "later");
    expect(pendingOf(await untilMessage(name, /^Applied and verified/))).toBeUndefined();
  });

  test("an Allow that is over never opens, and the message says so", async () => {
    const name = "over";
    await publish(name, "1");
    const over = { type: "Allow", from: instant(-2 * hour), to: instant(-hour) };
    await scene.release(name, [stageOf("one", name)], { ...quick, updateWindows: [over] });
    const held = await untilReady(cluster, target(name), "False UpdateDeferred");
    expect(messageOf(held)).toBe("delivery held by update window (no future opening exists)");
    expect(at(pendingOf(held), "nextWindowOpens")).toBeUndefined();
    await admin.patch(ref(name), {
      spec: { updateWindows: [{ type: "Allow", schedule: "* * * * *", duration: "2m" }] },
    });
    await untilReady(cluster, target(name));
  });

  test("a dependent waits while a new revision is held", async () => {
    const [base, app] = ["base", "app"];
    for (const name of [base, app]) await publish(name, "1");
    await scene.release(base, [stageOf("one", base)], quick);
    await scene.release(app, [stageOf("one", app)], { ...quick, dependsOn: [{ name: base }] });
    for (const name of [base, app]) await untilReady(cluster, target(name));
    await close(base, hour);
    await publish(base, "2");
    expect(readyOf(await untilMessage(app, /holds a new revision back/))).toBe("False DependencyNotReady");
    await annotate(base, updateNow, "go");
    await untilReady(cluster, target(app));
    expect(await value(base)).toBe("2");
  });
});

describe("a window that closes in the middle of a release", () => {
  const flag = (name: string) => mapRef(`${name}-flag`);
  const stagesOf = (name: string) => [
    stageOf("one", name, {
      path: "1",
      readyChecks: { checks: [{ apiVersion: "v1", kind: "ConfigMap", name: `${name}-flag` }] },
    }),
    stageOf("two", `${name}-2`),
  ];
  const publishAll = async (name: string, k: string) => {
    const second = await publish(`${name}-2`, k);
    const first = await scene.publish(name, { "1/a.yaml": configMap(name, { k }) });
    return [first.revision, second.revision] as const;
  };

  test("the stage that was entered becomes ready, the next one is held, and goes on at the opening", async () => {
    const name = "midway";
    await admin.create(flag(name));
    const [r1, s1] = await publishAll(name, "1");
    await scene.release(name, stagesOf(name), { ...quick, interval: "1h", driftDetectionInterval: "1h" });
    await untilReady(cluster, target(name));
    // The window closes an hour from now, for an hour.
    const window = { type: "Deny", from: instant(hour), to: instant(2 * hour) };
    await admin.patch(ref(name), { spec: { updateWindows: [window], timeout: "24h" } });
    await untilReady(cluster, target(name));
    await admin.delete(flag(name));
    const second = await publish(`${name}-2`, "2");
    const first = await scene.publish(name, { "1/a.yaml": configMap(name, { k: "2" }) });
    await eventually(
      async () => at(stageStatus(await scene.get(name), "one"), "phase") === "Verifying" && (await value(name)) === "2",
    );
    clock.jump(hour + minute);
    await admin.create(flag(name));
    const held = await untilReady(cluster, target(name), "False UpdateDeferred");
    expect(stageStatus(held, "one")).toMatchObject({ phase: "Ready", appliedRevision: first.revision });
    expect(stageStatus(held, "two")).toMatchObject({ enteredRevision: s1, appliedRevision: s1 });
    expect(at(pendingOf(held), "revisions")).toEqual({ [`${scene.namespace}/${name}-2`]: second.revision });
    expect(at(held, "status", "lastAppliedRevisions", `${scene.namespace}/${name}`)).toBe(r1);
    // What runs is guarded meanwhile, the stage that is held too.
    for (const [object, kept] of [
      [name, "2"],
      [`${name}-2`, "1"],
    ] as const) {
      await edit(object);
      await eventually(async () => (await value(object)) === kept);
    }
    clock.jump(hour);
    await untilApplied(cluster, target(name), { [name]: first.revision, [`${name}-2`]: second.revision });
    expect(await value(`${name}-2`)).toBe("2");
    expect(await deferred(name)).toBe(1);
  });

  test("a stage whose apply failed half-way is tried again at its new pin, the next one is held", async () => {
    const name = "half";
    const [one, two] = [uniqueName("one"), uniqueName("two")];
    const priority = (each: string) =>
      stringify({ apiVersion: "scheduling.k8s.io/v1", kind: "PriorityClass", metadata: { name: each }, value: 1 });
    const before = await scene.publish(name, { "a.yaml": priority(one), "b.yaml": configMap(name, { k: "1" }) });
    const held = await publish(`${name}-2`, "1");
    await scene.release(name, [stageOf("one", name), stageOf("two", `${name}-2`)], quick);
    await untilReady(cluster, target(name));
    await admin.patch(mapRef(name), { immutable: true });
    const after = await scene.publish(name, {
      "a.yaml": priority(one),
      "b.yaml": configMap(name, { k: "2" }),
      "c.yaml": priority(two),
    });
    await untilReady(cluster, target(name), "False StageFailed");
    await close(name, hour);
    const later = await publish(`${name}-2`, "2");
    const failing = await untilPending(name, { [`${name}-2`]: later.revision });
    expect(stageStatus(failing, "one")).toMatchObject({
      enteredRevision: after.revision,
      appliedRevision: before.revision,
    });
    await untilReady(cluster, target(name), "False StageFailed");
    const tries = lines(name, '"stage failed"');
    await eventually(() => lines(name, '"stage failed"') > tries);
    await admin.delete(mapRef(name));
    const waiting = await untilReady(cluster, target(name), "False UpdateDeferred");
    expect(await value(name)).toBe("2");
    expect(stageStatus(waiting, "one")).toMatchObject({ phase: "Ready", appliedRevision: after.revision });
    expect(stageStatus(waiting, "two")).toMatchObject({ phase: "Ready", enteredRevision: held.revision });
    expect(await value(`${name}-2`)).toBe("1");
  });

  test("one that began a revision without finishing it is left alone once another one is pinned", async () => {
    const name = "torn";
    const [one, two] = [uniqueName("one"), uniqueName("two")];
    const priority = (each: string) =>
      stringify({ apiVersion: "scheduling.k8s.io/v1", kind: "PriorityClass", metadata: { name: each }, value: 1 });
    await scene.publish(name, { "a.yaml": priority(one), "b.yaml": configMap(name, { k: "1" }) });
    await scene.release(name, [stageOf("one", name)], quick);
    await untilReady(cluster, target(name));
    await admin.patch(mapRef(name), { immutable: true });
    const torn = await scene.publish(name, { "b.yaml": configMap(name, { k: "2" }), "c.yaml": priority(two) });
    await untilReady(cluster, target(name), "False StageFailed");
    await close(name, hour);
    const third = await scene.publish(name, { "b.yaml": configMap(name, { k: "3" }) });
    const held = await untilReady(cluster, target(name), "False UpdateDeferred");
    expect(at(pendingOf(held), "revisions")).toEqual({ [`${scene.namespace}/${name}`]: third.revision });
    expect(stageStatus(held, "one")).toMatchObject({ enteredRevision: torn.revision });
    await admin.delete(mapRef(name));
    for (let pass = 0; pass < 3; pass++) await requestPass(cluster, target(name));
    expect(await scene.object(name), "neither content is written").toBeUndefined();
    const paused = async () => stageSetEvents(cluster, { ...target(name), reason: "DriftCorrectionPaused" });
    await eventually(async () => (await paused()).length > 0);
    expect(await paused()).toMatchObject([{ type: "Warning", count: 1 }]);
    expect((await paused())[0]?.note).toContain(torn.revision);
    await annotate(name, updateNow, "mend");
    await untilApplied(cluster, target(name), { [name]: third.revision });
    expect(await value(name)).toBe("3");
  });
});

describe("a new leader", () => {
  test("a controller that starts meanwhile goes on holding and tells nothing twice", async () => {
    const name = "led";
    await publish(name, "1");
    await scene.release(name, [stageOf("one", name)], quick);
    await untilReady(cluster, target(name));
    await close(name, 2 * hour);
    const { revision } = await publish(name, "2");
    await untilMessage(name, /^Deployed; /);
    await eventually(async () => (await deferrals(name)).length === 1);
    await scene.controller[Symbol.asyncDispose]();
    const { namespace } = scene;
    await using controller = await startTestController(cluster, { namespaces: [namespace], clock });
    const looked = (): number =>
      controller.logs.filter((line) => line.includes("rollout deferred") && line.includes(`"name":"${name}"`)).length;
    await eventually(() => looked() > 0);
    expect(samplesOf(await controller.metrics(), "stageset_update_deferred_total", target(name))[0]?.value).toBe(0);
    expect(await deferrals(name)).toHaveLength(1);
    expect(await value(name)).toBe("1");
    // Only time wakes it from here on: no pass before the hour is over, and the release at the opening.
    await admin.patch(ref(name), { spec: { driftDetectionInterval: "1h", interval: "24h" } });
    await eventually(async () => at(await scene.get(name), "status", "observedGeneration") === 3);
    await eventually(async () => messageOf(await scene.get(name)).startsWith("Deployed; "));
    const lookedBefore = looked();
    clock.jump(59 * minute);
    clock.jump(hour);
    await eventually(() => looked() > lookedBefore);
    expect(looked() - lookedBefore).toBeLessThanOrEqual(2);
    clock.jump(2 * minute);
    const done = await untilApplied(cluster, target(name), { [name]: revision });
    expect(pendingOf(done)).toBeUndefined();
    expect(await value(name)).toBe("2");
  });
});
