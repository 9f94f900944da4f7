import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { createServiceAccount, eventually, testCluster } from "../support/cluster.ts";
import {
  configMap,
  messageOf,
  readyOf,
  stageSetRef,
  stageStatus,
  startTestController,
  untilReady,
} from "../support/controller.ts";
import { createEffects, type Effects } from "../support/effects.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { requestPass } from "../support/passes.ts";
import { follow, startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(() => scene[Symbol.asyncDispose]());

const key = (name: string) => ({ namespace: scene.namespace, name });
const ledgerRef = (name: string) => ({ ...stageSetRef(scene.namespace, name), kind: "StageLedger" });
const ledgerOf = (name: string): Promise<KubeObject | undefined> => admin.get(ledgerRef(name));
const effectsOf = (name: string): Promise<Effects> => createEffects(cluster, key(`effects-${name}`));
const publish = (name: string, value: string) =>
  scene.publish(name, { "a.yaml": configMap(name, { k: value }) }, { revision: value });
const lifetime = { scope: "Lifetime" };
const fast = { interval: "1s", retryInterval: "1s" };

const annotate = (name: string, annotations: Readonly<Record<string, string>>): Promise<unknown> =>
  admin.patch(stageSetRef(scene.namespace, name), { metadata: { annotations } });

const reconcile = (name: string) => requestPass(cluster, key(name));

const until: Scene["until"] = (name, holds) => scene.until(name, holds);

const isApplied = (revision: string) => (stageSet: KubeObject | undefined) =>
  readyOf(stageSet) === "True Succeeded" && at(stageStatus(stageSet, "only"), "appliedRevision") === revision;

const completions = async (name: string): Promise<readonly string[]> =>
  asArray(at((await ledgerOf(name))?.["status"], "completedActions")).map(
    (entry) =>
      `${asText(at(entry, "stage")) ?? ""}/${asText(at(entry, "action")) ?? ""} ${asText(at(entry, "origin")) ?? ""}`,
  );
const reasons = async (name: string): Promise<readonly string[]> =>
  (await stageSetEvents(cluster, key(name))).map(({ reason }) => reason);

describe("Lifetime actions", () => {
  test("[30.6] [10.2] run once for all revisions, forces, and StageSets of that name", async () => {
    const name = "once";
    const effects = await effectsOf(name);
    const actions = {
      pre: [effects.action("create", lifetime), effects.action("each")],
      post: [effects.action("seed", lifetime)],
    };
    const stages = [{ name: "only", sourceRef: { name }, actions }];
    await publish(name, "r1");
    await scene.release(name, stages);
    await until(name, isApplied("r1"));
    expect(await effects.seen()).toEqual(["create", "each", "seed"]);
    await publish(name, "r2");
    await until(name, isApplied("r2"));
    await annotate(name, { "stages.metio.wtf/reconcile-stage": "only@t" });
    await until(
      name,
      (stageSet) => at(stageStatus(stageSet, "only"), "lastHandledReconcileAt") === "t" && isApplied("r2")(stageSet),
    );
    expect(await effects.seen()).toEqual(["create", "each", "seed", "each", "each"]);
    const ledger = await ledgerOf(name);
    expect(ledger?.metadata.ownerReferences).toBeUndefined();
    expect(ledger?.metadata.finalizers).toBeUndefined();
    expect(await completions(name)).toEqual(["only/create Executed", "only/seed Executed"]);
    expect(at(ledger, "status", "completedCount")).toBe(2);
    expect(at(asArray(at(ledger, "status", "completedActions"))[0], "digest")).toMatch(/^sha256:[0-9a-f]{64}$/);

    await admin.delete(stageSetRef(scene.namespace, name));
    await eventually(async () => (await scene.get(name)) === undefined);
    expect(await reasons(name)).not.toContain("LedgerAdopted");
    await scene.release(name, stages);
    await until(name, isApplied("r2"));
    expect(await effects.seen()).toEqual(["create", "each", "seed", "each", "each", "each"]);
    await eventually(async () => (await reasons(name)).filter((reason) => reason === "LedgerAdopted").length === 1);
    const metrics = await scene.controller.metrics();
    const labels = `{namespace="${scene.namespace}",name="${name}"`;
    expect(metrics).toContain(`stageset_ledger_adoptions_total${labels}} 1`);
    expect(metrics).toContain(`stageset_action_runs_total${labels},scope="Revision"} 1`);
  });

  test("[30.6] one that another client has recorded before there is a StageSet does not run", async () => {
    const name = "recorded";
    const effects = await effectsOf(name);
    await publish(name, "r1");
    // Before the StageSet: the ledger comes first.
    await admin.create({ ...ledgerRef(name), spec: {} });
    const completedAt = "2026-01-01T00:00:00Z";
    const completion = { stage: "only", action: "create", origin: "Executed", completedAt };
    await admin.patchStatus(ledgerRef(name), { completedActions: [completion] });
    await scene.release(name, [
      { name: "only", sourceRef: { name }, actions: { pre: [effects.action("create", lifetime)] } },
    ]);
    await until(name, isApplied("r1"));
    expect(await effects.seen()).toEqual([]);
    // Neither is it counted for that alone: a ledger is left as it was found.
    expect(asArray(at(await ledgerOf(name), "status", "completedActions"))).toHaveLength(1);
  });

  test("[30.6] an action that becomes Lifetime keeps the completion it has, and one with an absent witness runs", async () => {
    const name = "changed";
    const effects = await effectsOf(name);
    await publish(name, "r1");
    type More = Readonly<Record<string, unknown>>;
    const release = (scope: More, anchored: More) => [
      {
        name: "only",
        sourceRef: { name },
        actions: { pre: [effects.action("kept", scope), effects.action("anchored", anchored)] },
      },
    ];
    await scene.release(name, release({}, {}));
    await until(name, isApplied("r1"));
    expect(await effects.seen()).toEqual(["kept", "anchored"]);
    const completionAnchor = { apiVersion: "v1", kind: "ConfigMap", name: `${name}-witness` };
    await admin.patch(stageSetRef(scene.namespace, name), {
      spec: { ...fast, stages: release(lifetime, { ...lifetime, completionAnchor, timeout: "1s" }) },
    });
    await until(name, (stageSet) => messageOf(stageSet).includes("its witness ConfigMap"));
    expect(await completions(name)).toEqual(["only/kept Executed"]);
    await admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: key(`${name}-witness`) });
    await untilReady(cluster, key(name));
    expect(await completions(name)).toEqual(["only/kept Executed", "only/anchored Executed"]);
    expect((await effects.seen()).filter((each) => each === "kept")).toEqual(["kept"]);
    expect((await effects.seen()).length).toBeGreaterThan(2);
  });
});

describe("completion anchors", () => {
  test("[30.7] a witness that is deleted and created anew makes the action run once more", async () => {
    const name = "anchored";
    const effects = await effectsOf(name);
    const witness = { apiVersion: "v1", kind: "ConfigMap", name: `${name}-witness` };
    const create = () => admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: key(witness.name) });
    await create();
    await publish(name, "r1");
    const pre = [effects.action("create", { ...lifetime, completionAnchor: witness })];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }]);
    await until(name, isApplied("r1"));
    const recorded = (ledger: KubeObject | undefined) =>
      at(asArray(at(ledger, "status", "completedActions"))[0], "anchor");
    expect(recorded(await ledgerOf(name))).toMatchObject(witness);
    await reconcile(name);
    expect(await effects.seen()).toEqual(["create"]);
    await admin.delete({ apiVersion: "v1", kind: "ConfigMap", metadata: key(witness.name) });
    await create();
    await reconcile(name);
    await untilReady(cluster, key(name));
    expect(await effects.seen()).toEqual(["create", "create"]);
    await eventually(async () => (await reasons(name)).includes("LedgerInvalidated"));
    await reconcile(name);
    expect(await effects.seen()).toEqual(["create", "create"]);
  });

  test("[30.7] one that may not be read keeps the completion, and is counted", async () => {
    const name = "unreadable";
    const effects = await effectsOf(name);
    const rules = [{ apiGroups: [""], resources: ["configmaps", "serviceaccounts"], verbs: ["*"] }];
    await createServiceAccount(cluster, { ...key(name), rules });
    const role = { apiVersion: "rbac.authorization.k8s.io/v1", kind: "Role", metadata: key(name) };
    await admin.create({ apiVersion: "v1", kind: "Endpoints", metadata: key(name) });
    const extra = { apiGroups: [""], resources: ["endpoints"], verbs: ["get"] };
    await admin.patch(role, { rules: [...rules, extra] });
    await publish(name, "r1");
    const completionAnchor = { apiVersion: "v1", kind: "Endpoints", name };
    const pre = [effects.action("create", { ...lifetime, completionAnchor })];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }], { serviceAccountName: name });
    await until(name, isApplied("r1"));
    await admin.patch(role, { rules });
    for (let times = 0; times < 3; times++) await reconcile(name);
    expect(readyOf(await scene.get(name))).toBe("True Succeeded");
    expect(await effects.seen()).toEqual(["create"]);
    expect(await completions(name)).toEqual(["only/create Executed"]);
    const metrics = await scene.controller.metrics();
    const count = new RegExp(
      `stageset_ledger_anchor_errors_total\\{namespace="${scene.namespace}",name="${name}"\\} (\\d+)`,
    ).exec(metrics);
    expect(Number(count?.[1])).toBeGreaterThanOrEqual(3);
    await eventually(async () => (await reasons(name)).includes("LedgerAnchorUnreadable"));
    expect((await reasons(name)).filter((reason) => reason === "LedgerAnchorUnreadable")).toHaveLength(1);
  });

  test("an absent witness fails the action, and what it names", async () => {
    const name = "absent";
    const effects = await effectsOf(name);
    await publish(name, "r1");
    const completionAnchor = { apiVersion: "v1", kind: "ConfigMap", name };
    const pre = [effects.action("create", { ...lifetime, completionAnchor, timeout: "1s" })];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }], fast);
    const failed = await until(name, (stageSet) => readyOf(stageSet) === "False StageFailed");
    expect(messageOf(failed)).toContain(`its witness ConfigMap ${scene.namespace}/${name} does not exist`);
    expect(messageOf(failed)).toContain("make the action a post action");
    expect(await completions(name)).toEqual([]);
  });
});

describe("the baseline", () => {
  test("[30.8] [10.33] a typo is told once, and an action that it names later does not run", async () => {
    const name = "baseline";
    const effects = await effectsOf(name);
    await admin.create({
      ...ledgerRef(name),
      spec: {
        baseline: [
          { stage: "only", action: "laetr" },
          { stage: "only", action: "first" },
        ],
      },
    });
    await publish(name, "r1");
    const release = (...names: readonly string[]) => [
      { name: "only", sourceRef: { name }, actions: { pre: names.map((each) => effects.action(each, lifetime)) } },
    ];
    await scene.release(name, release("first"), fast);
    await until(name, isApplied("r1"));
    const condition = async () =>
      asArray(at(await ledgerOf(name), "status", "conditions")).find((each) => at(each, "type") === "BaselineValid");
    await eventually(async () => at(await condition(), "status") === "False");
    expect(await condition()).toMatchObject({ reason: "Unresolved" });
    expect(asText(at(await condition(), "message"))).toContain('"only/laetr"');
    for (let times = 0; times < 2; times++) await reconcile(name);
    const told = async () => stageSetEvents(cluster, { ...key(name), kind: "StageLedger", reason: "BaselineInvalid" });
    await eventually(async () => (await told()).length === 1);
    await admin.patch(stageSetRef(scene.namespace, name), { spec: { stages: release("first", "laetr") } });
    await untilReady(cluster, key(name));
    expect(await completions(name)).toEqual(["only/first Baselined", "only/laetr Baselined"]);
    expect(await condition()).toMatchObject({ status: "True", reason: "AllResolved" });
    expect(await effects.seen()).toEqual([]);
    expect(await told()).toHaveLength(1);
    await admin.delete(stageSetRef(scene.namespace, name));
    await eventually(async () => (await scene.get(name)) === undefined);
    expect(await completions(name)).toHaveLength(2);
  });

  test("[30.9] another client's edit while the action runs costs no completion", async () => {
    const name = "edited";
    const effects = await effectsOf(name);
    await publish(name, "r1");
    const target = { apiVersion: "v1", kind: "ConfigMap", name: `${name}-go` };
    const pre = [
      { name: "wait", wait: { target, expr: "metadata.name != ''" }, ...lifetime },
      effects.action("next", lifetime),
    ];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }]);
    await eventually(() =>
      scene.controller.logs.some((line) => line.includes('"action":"wait"') && line.includes(name)),
    );
    await admin.patch(ledgerRef(name), { spec: { baseline: [{ stage: "only", action: "nothing" }] } });
    await admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: key(target.name) });
    await until(name, isApplied("r1"));
    expect(await completions(name)).toEqual(["only/wait Executed", "only/next Executed"]);
    expect(at(await ledgerOf(name), "spec", "baseline")).toEqual([{ stage: "only", action: "nothing" }]);
    expect(await effects.seen()).toEqual(["next"]);
  });
});

test("what is done and could not be recorded yet is recorded before its StageSet goes", async () => {
  const name = "going";
  await using proxy = await startFaultProxy(cluster);
  await using own = await startScene(cluster, { server: proxy.server });
  const effects = await createEffects(cluster, { namespace: own.namespace, name: "effects" });
  let isRefused = true;
  let refusals = 0;
  proxy.onCall = ({ method, target }) => {
    if (method === "GET" || !target.includes(`/stageledgers/${name}/status`) || !isRefused) return undefined;
    refusals++;
    const message = "exceeded quota";
    const body = { kind: "Status", apiVersion: "v1", status: "Failure", reason: "Forbidden", message, code: 403 };
    return { kind: "answer", status: 403, body };
  };
  await own.publish(name, { "a.yaml": configMap(name) });
  const pre = [effects.action("once", lifetime)];
  await own.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }], fast);
  await eventually(() => refusals > 0);
  const before = refusals;
  await admin.delete(stageSetRef(own.namespace, name));
  // Tried again after the deletion, which waits for it.
  await eventually(() => refusals > before + 1);
  isRefused = false;
  await eventually(async () => (await own.get(name)) === undefined);
  const ledger = await admin.get({ ...stageSetRef(own.namespace, name), kind: "StageLedger" });
  expect(at(ledger, "status", "completedActions")).toMatchObject([{ stage: "only", action: "once" }]);
  expect(await effects.seen()).toEqual(["once"]);
});

describe("dirty halts", () => {
  const failing = (name: string, effects: Effects): Parameters<Scene["release"]>[1] => {
    const target = { apiVersion: "v1", kind: "ConfigMap", name: `${name}-target` };
    const pre = [
      effects.action("each"),
      { name: "create", patch: { target, patch: "data: {reached: 'yes'}" }, ...lifetime },
    ];
    return [{ name: "only", sourceRef: { name }, actions: { pre } }];
  };

  test("[30.10] the fifth failing pass in a row halts; a revision and a spec edit attempt nothing, requestedAt does", async () => {
    const name = "dirty";
    const effects = await effectsOf(name);
    await publish(name, "r1");
    await scene.release(name, failing(name, effects), fast);
    using history = follow(cluster, { ...stageSetRef(scene.namespace, name), ...key(name) });
    const halted = await until(name, (stageSet) => readyOf(stageSet) === "False ActionDirty");
    expect(messageOf(halted)).toContain('stage "only" action halted (dirty): action "create": ');
    expect(at(halted, "status", "actionFailureCount")).toBe(5);
    expect(asText(at(stageStatus(halted, "only"), "message"))).toContain('action halted (dirty): action "create"');
    await publish(name, "r2");
    await admin.patch(stageSetRef(scene.namespace, name), { spec: { timeout: "14m" } });
    await until(
      name,
      (stageSet) => at(stageSet, "status", "observedGeneration") === 2 && readyOf(stageSet) === "False ActionDirty",
    );
    const attempts = () =>
      scene.controller.logs.filter((line) => line.includes("running action") && line.includes(`"name":"${name}"`))
        .length;
    const before = attempts();
    // What it waits for is there by now.
    await admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: key(`${name}-target`) });
    const seenBefore = history.states.length;
    await annotate(name, { "stages.metio.wtf/update-now": "a pass" });
    await eventually(() => history.states.length > seenBefore);
    await eventually(async () => at(await scene.get(name), "status", "lastHandledUpdateOverride") === "a pass");
    expect(attempts()).toBe(before);
    expect(readyOf(await scene.get(name))).toBe("False ActionDirty");
    await reconcile(name);
    const ready = await until(name, isApplied("r2"));
    expect(at(ready, "status", "actionFailureCount")).toBeUndefined();
    expect(await completions(name)).toEqual(["only/create Executed"]);
  });

  test("[30.10] a restart attempts nothing either", async () => {
    const name = "restarted";
    await using own = await startScene(cluster);
    const effects = await createEffects(cluster, { namespace: own.namespace, name: "effects" });
    await own.publish(name, { "a.yaml": configMap(name) });
    await own.release(name, failing(name, effects), fast);
    const ready = async (): Promise<string> => readyOf(await own.get(name));
    await eventually(async () => (await ready()) === "False ActionDirty");
    await own.controller[Symbol.asyncDispose]();
    const metadata = { namespace: own.namespace, name: `${name}-target` };
    await admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata });
    await using next = await startTestController(cluster, { namespaces: [own.namespace] });
    const passes = () => next.logs.filter((line) => line.includes("StageSet failed")).length;
    await eventually(() => passes() >= 3, { timeoutMs: 60_000 });
    expect(next.logs.filter((line) => line.includes("running action"))).toEqual([]);
    expect(await ready()).toBe("False ActionDirty");
  });

  test("[30.10] the other stages, and what the halted one has applied, are corrected meanwhile", async () => {
    const name = "corrected";
    await publish(name, "r1");
    await scene.publish(`${name}-2`, { "a.yaml": configMap(`${name}-2`) }, { revision: "r1" });
    const target = { apiVersion: "v1", kind: "ConfigMap", name: `${name}-target` };
    const post = [{ name: "seed", patch: { target, patch: "data: {reached: 'yes'}" }, ...lifetime }];
    const stages = [
      { name: "only", sourceRef: { name } },
      { name: "second", sourceRef: { name: `${name}-2` }, actions: { post } },
    ];
    await scene.release(name, stages, fast);
    await until(name, (stageSet) => readyOf(stageSet) === "False ActionDirty");
    for (const object of [name, `${name}-2`]) {
      const { uid } = (await scene.object(object))?.metadata ?? {};
      await admin.delete({ apiVersion: "v1", kind: "ConfigMap", metadata: key(object) });
      await eventually(async () => ((await scene.object(object))?.metadata.uid ?? uid) !== uid);
    }
    const halted = await scene.get(name);
    expect(readyOf(halted)).toBe("False ActionDirty");
    expect(stageStatus(halted, "only")).toMatchObject({ phase: "Ready" });
    expect(stageStatus(halted, "second")).toMatchObject({ phase: "Failed", appliedRevision: "r1" });
    await admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: key(target.name) });
    await reconcile(name);
    await untilReady(cluster, key(name));
    expect(await completions(name)).toEqual(["second/seed Executed"]);
  });

  test("[30.10] baselined and asked for, the stage proceeds without the action", async () => {
    const name = "asserted";
    const effects = await effectsOf(name);
    await publish(name, "r1");
    await scene.release(name, failing(name, effects), fast);
    await until(name, (stageSet) => readyOf(stageSet) === "False ActionDirty");
    await admin.patch(ledgerRef(name), { spec: { baseline: [{ stage: "only", action: "create" }] } });
    await reconcile(name);
    await until(name, isApplied("r1"));
    expect(await completions(name)).toEqual(["only/create Baselined"]);
    expect(await effects.seen()).toEqual(["each"]);
  });

  test("[30.11] a failing Revision action never is one, also before a Lifetime action", async () => {
    const name = "ordinary";
    const effects = await effectsOf(name);
    await publish(name, "r1");
    const target = { apiVersion: "v1", kind: "ConfigMap", name: `${name}-target` };
    const pre = [{ name: "fails", patch: { target, patch: "data: {}" } }, effects.action("pending", lifetime)];
    await scene.release(name, [{ name: "only", sourceRef: { name }, actions: { pre } }], fast);
    const attempts = () =>
      scene.controller.logs.filter((line) => line.includes("action failed") && line.includes(`"name":"${name}"`))
        .length;
    await eventually(() => attempts() >= 7, { timeoutMs: 60_000 });
    const failed = await scene.get(name);
    expect(readyOf(failed)).toBe("False StageFailed");
    expect(at(failed, "status", "actionFailureCount")).toBeUndefined();
    expect(await effects.seen()).toEqual([]);
  });
});
