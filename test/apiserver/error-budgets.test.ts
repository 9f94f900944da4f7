import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { requestedAtAnnotation } from "../../src/api/keys.ts";
import { at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { createServiceAccount, eventually, testCluster, uniqueName } from "../support/cluster.ts";
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
import { promValue, startMetricServer, type MetricReply, type MetricServer } from "../support/metric-server.ts";
import { sampleOf, samplesOf } from "../support/metrics-page.ts";
import { requestPass, untilApplied } from "../support/passes.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";
import { rulesOn } from "../support/tenancy.ts";

const cluster = testCluster();
const { admin } = cluster;
const clock = createJumpingClock();
const minute = 60_000;
const hour = 60 * minute;

let scene: Scene;
let server: MetricServer;
/** What the budget of this name answers. */
const answers = new Map<string, () => MetricReply | Promise<MetricReply>>();
beforeAll(async () => {
  server = await startMetricServer();
  server.reply(({ path }) => answers.get(path.slice(1))?.() ?? { status: 404 });
  scene = await startScene(cluster, { clock });
});
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

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
const quick = { interval: "24h", driftDetectionInterval: "1s", retryInterval: "1s" };
/** Read again once an hour, so only when the clock is moved. */
const budgetOf = (name: string, more: Readonly<Record<string, unknown>> = {}) => ({
  source: { webhook: { url: `${server.url}/${name}`, jsonPath: "{.left}" } },
  freezeThreshold: "0",
  resumeThreshold: "0.05",
  interval: "1h",
  ...more,
});
const says = (name: string, left: number): void => void answers.set(name, () => ({ body: JSON.stringify({ left }) }));
const fails = (name: string): void => void answers.set(name, () => ({ status: 404 }));
const queries = (name: string): number => server.queries.filter(({ path }) => path === `/${name}`).length;
/** From now on every number is too old. */
const nextHour = (): void => clock.jump(hour + minute);
/**
 * The same, and a pass with it: a jump may fall between the moment the controller decides when to look next and the one at
 * which it sets the timer.
 */
const nextHourOf = async (name: string): Promise<void> => {
  nextHour();
  await admin.patch(ref(name), { metadata: { annotations: { [requestedAtAnnotation]: uniqueName("at") } } });
};
const freezeOf = (of: unknown): unknown => at(of, "budgetFreeze");
const untilFreeze = (name: string, wanted: Readonly<Record<string, unknown>> | undefined): Promise<KubeObject> =>
  eventually(async () => {
    const stageSet = await scene.get(name);
    const freeze = freezeOf(at(stageSet, "status"));
    if (wanted === undefined) expect(freeze).toBeUndefined();
    else expect(freeze).toMatchObject(wanted);
    return stageSet ?? false;
  });
const untilMessage = (name: string, message: RegExp): Promise<KubeObject> =>
  eventually(async () => {
    const stageSet = await scene.get(name);
    expect(messageOf(stageSet)).toMatch(message);
    return stageSet ?? false;
  });
const gauge = async (family: string, labels: Readonly<Record<string, string>>): Promise<number | undefined> =>
  sampleOf(await scene.controller.metrics(), `stageset_${family}`, { namespace: scene.namespace, ...labels });
const gauges = async (name: string): Promise<readonly (number | undefined)[]> => [
  await gauge("budget_remaining", { name }),
  await gauge("budget_frozen", { name }),
];
/** They follow the status as the controller's watch shows it. */
const untilGauges = (name: string, wanted: readonly unknown[]): Promise<unknown> =>
  eventually(async () => {
    expect(await gauges(name)).toEqual(wanted);
    return true;
  });
/** Type and note of each Event with one of the budgets' reasons, once per count. */
const budgetEvents = async (name: string): Promise<readonly string[]> =>
  (await stageSetEvents(cluster, target(name)))
    .filter(({ reason }) => reason.startsWith("Budget"))
    .flatMap(({ type, reason, note, count }) => Array.from({ length: count }, () => `${type} ${reason} ${note}`));
const untilEvents = (name: string, wanted: readonly unknown[]): Promise<unknown> =>
  eventually(async () => {
    expect(await budgetEvents(name)).toEqual(wanted);
    return true;
  });
const annotate = (name: string, key: string, token: string): Promise<unknown> =>
  admin.patch(ref(name), { metadata: { annotations: { [`stages.metio.wtf/${key}`]: token } } });
/** Deployed at 1 with budget to spare, which is read anew from now on. */
const deploy = async (
  name: string,
  budget: Readonly<Record<string, unknown>> = budgetOf(name),
  more: Readonly<Record<string, unknown>> = {},
): Promise<void> => {
  says(name, 0.5);
  await publish(name, "1");
  await scene.release(name, [stageOf("one", name)], { ...quick, errorBudget: budget, ...more });
  await untilReady(cluster, target(name));
  nextHour();
};
const text = (remaining: number): string =>
  `error budget is exhausted: ${remaining} remaining, frozen below 0, resumes at 0.05`;

describe("a deployed StageSet whose error budget is exhausted", () => {
  const name = "shop";
  let since: unknown;
  let second: string;
  beforeAll(async () => {
    says(name, 0.02);
    await publish(name, "1");
    await scene.release(name, [stageOf("one", name)], { ...quick, errorBudget: budgetOf(name) });
    await untilReady(cluster, target(name));
    await untilGauges(name, [0.02, 0]);
    nextHour();
    says(name, -0.1);
    second = (await publish(name, "2")).revision;
    await untilFreeze(name, { remaining: "-0.1" });
  });

  test("[40.6] -0.1 freezes: nothing enters, and it is read once in an interval", async () => {
    const held = await untilMessage(name, /^Deployed; /);
    expect(messageOf(held)).toBe(`Deployed; ${text(-0.1)}`);
    expect(readyOf(held)).toBe("True Succeeded");
    const freeze = freezeOf(at(held, "status"));
    expect(freeze).toEqual({
      remaining: "-0.1",
      freezeThreshold: "0",
      resumeThreshold: "0.05",
      since: expect.stringMatching(/Z$/) as unknown,
    });
    since = at(freeze, "since");
    await untilGauges(name, [-0.1, 1]);
    const before = queries(name);
    for (let pass = 0; pass < 3; pass++) await requestPass(cluster, target(name));
    expect(queries(name)).toBe(before);
    expect(await value(name)).toBe("1");
    expect(scene.controller.logs.some((line) => line.includes("rollout frozen by error budget"))).toBe(true);
  });

  test("[20.30] an exhausted budget: drift is corrected while the new revision stays out", async () => {
    await edit(name);
    await eventually(async () => (await value(name)) === "1");
  });

  test("[60.31] it is told once, Normal, because Ready stays True", async () => {
    await untilEvents(name, [`Normal BudgetExhausted ${text(-0.1)}`]);
  });

  test("[40.6] 0.03 stays frozen since the same instant, 0.05 resumes", async () => {
    says(name, 0.03);
    await nextHourOf(name);
    const still = await untilFreeze(name, { remaining: "0.03", since });
    await untilGauges(name, [0.03, 1]);
    expect(readyOf(still)).toBe("True Succeeded");
    await untilMessage(name, /^Deployed; error budget is exhausted: 0\.03 remaining/);
    expect(await value(name)).toBe("1");
    says(name, 0.05);
    await nextHourOf(name);
    const done = await untilApplied(cluster, target(name), { [name]: second });
    expect(await value(name)).toBe("2");
    expect(freezeOf(at(done, "status"))).toBeUndefined();
    await untilGauges(name, [0.05, 0]);
    expect(await budgetEvents(name)).toHaveLength(1);
  });
});

describe("a budget whose source cannot be read", () => {
  test("[40.7] Allow: a freeze outlives one and two failed queries, and opens at the third, with one Warning", async () => {
    const name = "blind";
    await deploy(name);
    says(name, -1);
    const { revision } = await publish(name, "2");
    await untilFreeze(name, { remaining: "-1" });
    // A jump of the clock ends what waits for the API server, such as the call that tells an Event.
    await untilEvents(name, [`Normal BudgetExhausted ${text(-1)}`]);
    fails(name);
    for (const sourceErrors of [1, 2]) {
      await nextHourOf(name);
      await untilFreeze(name, { remaining: "-1", sourceErrors });
      await requestPass(cluster, target(name));
      expect(await value(name)).toBe("1");
      expect(at(freezeOf(at(await scene.get(name), "status")), "sourceErrors"), "counted once").toBe(sourceErrors);
    }
    await nextHourOf(name);
    const done = await untilApplied(cluster, target(name), { [name]: revision });
    expect(freezeOf(at(done, "status"))).toBeUndefined();
    expect(await gauge("metric_source_errors_total", { name })).toBe(3);
    const unreadable = `Warning BudgetSourceUnavailable error budget cannot be read: "${server.url}/${name}": the server answered 404, want 2xx`;
    await untilEvents(name, expect.arrayContaining([`Normal BudgetExhausted ${text(-1)}`, unreadable]) as never);
    expect(await budgetEvents(name)).toHaveLength(2);
  });

  test("[40.7] Allow: what is not frozen proceeds with a Warning; [60.31] also while Ready is not True", async () => {
    const name = "hopeful";
    fails(name);
    await publish(name, "1");
    await scene.release(name, [stageOf("one", name)], { ...quick, errorBudget: budgetOf(name) });
    await untilReady(cluster, target(name));
    await untilEvents(name, [expect.stringMatching(/^Warning BudgetSourceUnavailable error budget cannot be read: /)]);
    await untilGauges(name, [undefined, 0]);
  });

  test("[40.7] Hold holds until there is a number; [60.31] a Warning while Ready is False, and one while it is True", async () => {
    const name = "careful";
    fails(name);
    const first = await publish(name, "1");
    await scene.release(name, [stageOf("one", name)], {
      ...quick,
      errorBudget: budgetOf(name, { onSourceError: "Hold" }),
    });
    const held = await untilReady(cluster, target(name), "False BudgetSourceUnavailable");
    expect(messageOf(held)).toMatch(/^error budget cannot be read: .* the server answered 404, want 2xx$/);
    const warning = expect.stringMatching(/^Warning BudgetSourceUnavailable error budget cannot be read: /) as unknown;
    await untilEvents(name, [warning]);
    expect(await scene.object(name)).toBeUndefined();
    says(name, 1);
    await nextHourOf(name);
    await untilApplied(cluster, target(name), { [name]: first.revision });
    fails(name);
    nextHour();
    const second = await publish(name, "2");
    await untilMessage(name, /^Deployed; error budget cannot be read: /);
    await untilEvents(name, [warning, warning]);
    for (let pass = 0; pass < 3; pass++) await requestPass(cluster, target(name));
    expect(await value(name)).toBe("1");
    expect(await budgetEvents(name)).toHaveLength(2);
    await annotate(name, "budget-override", "anyway");
    await untilApplied(cluster, target(name), { [name]: second.revision });
  });

  test("[40.10] a Secret the ServiceAccount cannot read: a source error, and no request leaves", async () => {
    const name = "secretive";
    says(name, 1);
    await admin.create({ apiVersion: "v1", kind: "Secret", metadata: target("slo"), stringData: { token: "s3cret" } });
    await createServiceAccount(cluster, {
      namespace: scene.namespace,
      name: "maps",
      rules: rulesOn(["configmaps"], ["*"]),
    });
    await publish(name, "1");
    const source = { webhook: { url: `${server.url}/${name}`, jsonPath: "{.left}", secretRef: { name: "slo" } } };
    await scene.release(name, [stageOf("one", name)], {
      ...quick,
      serviceAccountName: "maps",
      errorBudget: budgetOf(name, { onSourceError: "Hold", source }),
    });
    const held = await untilReady(cluster, target(name), "False BudgetSourceUnavailable");
    expect(messageOf(held)).toContain(`system:serviceaccount:${scene.namespace}:maps" cannot get resource "secrets"`);
    expect(messageOf(held)).not.toContain("s3cret");
    expect(queries(name)).toBe(0);
    expect(await gauge("metric_source_errors_total", { name })).toBe(1);
  });
});

describe("a stage with an error budget of its own", () => {
  test("[40.8] stage 1 rolls, stage 2 stays and is corrected; an override ships once", async () => {
    const name = "staged";
    const second = `${name}-2`;
    const publishBoth = async (k: string): Promise<string> =>
      (await scene.publish(name, { "1/a.yaml": configMap(name, { k }), "2/a.yaml": configMap(second, { k }) }))
        .revision;
    const source = { prometheus: { address: `${server.url}/${name}`, query: "slo:left" } };
    const path = `${name}/api/v1/query?query=slo%3Aleft`;
    answers.set(path, () => promValue(1));
    const r1 = await publishBoth("1");
    const stages = [
      stageOf("one", name, { path: "1" }),
      stageOf("two", name, { path: "2", errorBudget: budgetOf(name, { source }) }),
    ];
    await scene.release(name, stages, quick);
    await untilReady(cluster, target(name));
    nextHour();
    answers.set(path, () => promValue(-2));
    const r2 = await publishBoth("2");
    const held = await untilReady(cluster, target(name), "False BudgetExhausted");
    const message = 'error budget of stage "two" is exhausted: -2 remaining, frozen below 0, resumes at 0.05';
    expect(messageOf(held)).toBe(message);
    expect(stageStatus(held, "one")).toMatchObject({ phase: "Ready", appliedRevision: r2 });
    expect(stageStatus(held, "two")).toMatchObject({
      enteredRevision: r1,
      appliedRevision: r1,
      budgetFreeze: { remaining: "-2", freezeThreshold: "0", resumeThreshold: "0.05" },
    });
    expect([await value(name), await value(second)]).toEqual(["2", "1"]);
    const labels = { stageset: name, stage: "two" };
    await eventually(async () => expect(await gauge("stage_budget_frozen", labels)).toBe(1));
    await untilEvents(name, [`Warning BudgetExhausted ${message}`]);
    for (const [object, kept] of [
      [name, "2"],
      [second, "1"],
    ] as const) {
      await edit(object);
      await eventually(async () => (await value(object)) === kept);
    }
    await annotate(name, "budget-override", "ship-1");
    const done = await untilApplied(cluster, target(name), { [name]: r2 });
    expect(await value(second)).toBe("2");
    expect(stageStatus(done, "two")).not.toHaveProperty("budgetFreeze");
    expect(at(done, "status", "lastHandledBudgetOverride")).toBe("ship-1");
    expect(at(done, "status", "budgetOverrideFor"), "it is through").toBeUndefined();
    await eventually(async () => expect(await gauge("stage_budget_frozen", labels)).toBe(0));
    // The same token ships nothing more.
    await publishBoth("3");
    await untilReady(cluster, target(name), "False BudgetExhausted");
    await requestPass(cluster, target(name));
    expect([await value(name), await value(second)]).toEqual(["3", "2"]);
  });
});

describe("a budget-override", () => {
  test("covers the retries of what it released, and not the next revision", async () => {
    const name = "retried";
    const second = `${name}-2`;
    const publishBoth = async (k: string): Promise<string> =>
      (await scene.publish(name, { "1/a.yaml": configMap(name, { k }), "2/a.yaml": configMap(second, { k }) }))
        .revision;
    says(name, 1);
    await publishBoth("1");
    const stages = [stageOf("one", name, { path: "1" }), stageOf("two", name, { path: "2" })];
    await scene.release(name, stages, { ...quick, errorBudget: budgetOf(name) });
    await untilReady(cluster, target(name));
    nextHour();
    says(name, -1);
    const r2 = await publishBoth("2");
    await untilFreeze(name, { remaining: "-1" });
    await annotate(name, "preflight", "disabled");
    await admin.patch(mapRef(second), { immutable: true });
    await annotate(name, "budget-override", "now-1");
    const failed = await untilReady(cluster, target(name), "False StageFailed");
    expect(at(failed, "status", "budgetOverrideFor")).toMatch(/^[0-9a-f]{64}$/);
    expect(freezeOf(at(failed, "status"))).toBeUndefined();
    await requestPass(cluster, target(name));
    expect(readyOf(await scene.get(name)), "a retry is not held").toBe("False StageFailed");
    await admin.delete(mapRef(second));
    await untilApplied(cluster, target(name), { [name]: r2 });
    await publishBoth("3");
    await untilFreeze(name, { remaining: "-1" });
    await requestPass(cluster, target(name));
    expect(await value(name)).toBe("2");
  });

  test("a token that found nothing held is used up", async () => {
    const name = "early";
    await deploy(name);
    await annotate(name, "budget-override", "early-1");
    await eventually(async () => at(await scene.get(name), "status", "lastHandledBudgetOverride") === "early-1");
    says(name, -1);
    await publish(name, "2");
    const held = await untilFreeze(name, { remaining: "-1" });
    expect(at(held, "status", "budgetOverrideFor")).toBeUndefined();
    await requestPass(cluster, target(name));
    expect(await value(name)).toBe("1");
  });
});

describe("what a budget does beside holding", () => {
  test("a dry run is on record and told once, and holds nothing", async () => {
    const name = "dry";
    const flag = mapRef(`${name}-flag`);
    const checks = [{ apiVersion: "v1", kind: "ConfigMap", name: `${name}-flag` }];
    says(name, -1);
    for (const source of [name, `${name}-2`]) await publish(source, "1");
    await scene.release(name, [stageOf("one", name, { readyChecks: { checks } }), stageOf("two", `${name}-2`)], {
      ...quick,
      timeout: "24h",
      errorBudget: budgetOf(name, { dryRun: true }),
    });
    await untilFreeze(name, { remaining: "-1", dryRun: true });
    await eventually(async () => at(stageStatus(await scene.get(name), "one"), "phase") === "Verifying");
    await untilGauges(name, [-1, 0]);
    await admin.create(flag);
    const done = await untilReady(cluster, target(name));
    expect(freezeOf(at(done, "status"))).toBeUndefined();
    await untilEvents(name, [expect.stringMatching(/^Normal BudgetExhausted error budget is exhausted: -1 remaining/)]);
  });

  test("closed windows come first: the budget is not asked, and its token is kept", async () => {
    const name = "windowed";
    await deploy(name);
    says(name, -1);
    const until = `${new Date(clock.now() + 10 * hour).toISOString().slice(0, 19)}Z`;
    const from = `${new Date(clock.now() - hour).toISOString().slice(0, 19)}Z`;
    await admin.patch(ref(name), { spec: { updateWindows: [{ type: "Deny", from, to: until }] } });
    await untilReady(cluster, target(name));
    const before = queries(name);
    await publish(name, "2");
    await untilMessage(name, /^Deployed; delivery held by update window/);
    await annotate(name, "budget-override", "later");
    for (let pass = 0; pass < 3; pass++) await requestPass(cluster, target(name));
    expect(queries(name)).toBe(before);
    expect(at(await scene.get(name), "status", "lastHandledBudgetOverride")).toBeUndefined();
    await annotate(name, "budget-override", "");
    await admin.patch(ref(name), { spec: { updateWindows: [] } });
    await untilMessage(name, /^Deployed; error budget is exhausted/);
    expect(queries(name)).toBe(before + 1);
  });

  test("[60.13] a budget that is removed, and a frozen revision that is withdrawn, leave neither series nor record", async () => {
    const name = "removed";
    const first = await scene.publish(name, { "a.yaml": configMap(name, { k: "1" }) });
    says(name, 0.5);
    const stages = [stageOf("one", name, { errorBudget: budgetOf(`${name}-stage`) })];
    says(`${name}-stage`, 0.5);
    await scene.release(name, stages, { ...quick, errorBudget: budgetOf(name) });
    await untilReady(cluster, target(name));
    nextHour();
    says(`${name}-stage`, -1);
    await publish(name, "2");
    const labels = { stageset: name, stage: "one" };
    await eventually(async () => expect(await gauge("stage_budget_frozen", labels)).toBe(1));
    const back = await publish(name, "1");
    await untilApplied(cluster, target(name), { [name]: back.revision });
    expect(first.revision).toBe(back.revision);
    await eventually(async () => expect(await gauge("stage_budget_frozen", labels), "withdrawn").toBe(0));
    expect(stageStatus(await scene.get(name), "one")).not.toHaveProperty("budgetFreeze");
    nextHour();
    says(name, -1);
    const third = await publish(name, "3");
    await untilFreeze(name, { remaining: "-1" });
    await untilGauges(name, [-1, 1]);
    await admin.patch(ref(name), { spec: { errorBudget: null, stages: [stageOf("one", name)] } });
    await untilApplied(cluster, target(name), { [name]: third.revision });
    expect(freezeOf(at(await scene.get(name), "status"))).toBeUndefined();
    const left = async (): Promise<readonly unknown[]> => {
      const page = await scene.controller.metrics();
      return [
        ...samplesOf(page, "stageset_budget_remaining", { name }),
        ...samplesOf(page, "stageset_budget_frozen", { name }),
        ...samplesOf(page, "stageset_stage_budget_frozen", { stageset: name }),
      ];
    };
    await eventually(async () => (await left()).length === 0);
    await admin.patch(ref(name), { spec: { errorBudget: budgetOf(name) } });
    await untilReady(cluster, target(name));
    await eventually(async () => expect(await gauge("budget_frozen", { name })).toBe(0));
    await admin.delete(ref(name));
    await eventually(async () => (await scene.get(name)) === undefined && (await left()).length === 0);
  });

  test("a source that does not answer keeps no worker from another StageSet", async () => {
    const answer = Promise.withResolvers<MetricReply>();
    answers.set("slow", () => answer.promise);
    await using own = await startScene(cluster, { config: { concurrency: 1 } });
    const spec = { ...quick, errorBudget: budgetOf("slow", { onSourceError: "Hold" }) };
    for (const name of ["slow-1", "slow-2", "slow-3", "slow-4", "slow-5", "quick"]) {
      await own.publish(name, { "a.yaml": configMap(name) });
      if (name !== "quick") await own.release(name, [stageOf("one", name)], spec);
    }
    await eventually(() => queries("slow") === 5);
    await own.release("quick", [stageOf("one", "quick")], quick);
    await untilReady(cluster, { namespace: own.namespace, name: "quick" });
    expect(await own.object("slow-1")).toBeUndefined();
    answer.resolve({ body: '{"left":1}' });
    for (const name of ["slow-1", "slow-5"]) await untilReady(cluster, { namespace: own.namespace, name });
  });
});

describe("a new leader", () => {
  test("goes on holding what is frozen, since the same instant, and tells nothing twice", async () => {
    const name = "led";
    await deploy(name);
    says(name, -1);
    const { revision } = await publish(name, "2");
    await untilMessage(name, /^Deployed; error budget/);
    const before = freezeOf(at(await scene.get(name), "status"));
    await untilEvents(name, [`Normal BudgetExhausted ${text(-1)}`]);
    await scene.controller[Symbol.asyncDispose]();
    const asked = queries(name);
    await using controller = await startTestController(cluster, { namespaces: [scene.namespace], clock });
    await eventually(() => queries(name) > asked);
    await requestPass(cluster, target(name));
    expect(freezeOf(at(await scene.get(name), "status"))).toEqual(before);
    await eventually(async () => sampleOf(await controller.metrics(), "stageset_budget_frozen", target(name)) === 1);
    expect(await budgetEvents(name)).toHaveLength(1);
    expect(await value(name)).toBe("1");
    says(name, 1);
    await nextHourOf(name);
    await untilApplied(cluster, target(name), { [name]: revision });
  });
});
