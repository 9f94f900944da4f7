import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { installCrds } from "../../src/dev/crds.ts";
import { startFlagger, type DeliveryProgram } from "../../src/dev/delivery-programs.ts";
import { asArray, asNumber, asObject, asText, at } from "../../src/lib/json.ts";
import { eventually, testCluster } from "../support/cluster.ts";
import { configMap, messageOf, stageStatus, stageSetRef, untilReady } from "../support/controller.ts";
import {
  eventsAbout,
  imageOf,
  releaseShop,
  startDeliveryScene,
  type DeliveryScene,
} from "../support/delivery-scene.ts";
import { follow, type History } from "../support/scene.ts";
import type { Manifest } from "../support/test-client.ts";

const cluster = testCluster();
const { admin } = cluster;

type Hook = "confirm-promotion" | "confirm-rollout" | "confirm-traffic-increase";

/** The guide's canaries under their own names, and each strategy with the other hooks it knows. */
const canaries = [
  { block: "flagger-blue-green", name: "checkout", hook: "confirm-promotion" },
  { block: "flagger-blue-green", name: "checkout-b", hook: "confirm-rollout" },
  { block: "flagger-weighted", name: "catalog", hook: "confirm-traffic-increase" },
  { block: "flagger-weighted", name: "catalog-b", hook: "confirm-promotion" },
  { block: "flagger-weighted", name: "catalog-c", hook: "confirm-rollout" },
  { block: "flagger-ab", name: "search", hook: "confirm-rollout" },
  { block: "flagger-ab", name: "search-b", hook: "confirm-promotion" },
] as const satisfies readonly { readonly block: string; readonly name: string; readonly hook: Hook }[];

/** Hooks that do not do what one may think, as the guide warns; all of them ask the gate. */
const misused = [
  { name: "counted", hooks: ["rollout"] },
  { name: "refused", hooks: ["pre-rollout"] },
  { name: "ignored", hooks: ["confirm-traffic-increase", "post-rollout", "event"] },
  { name: "skipping", hooks: ["confirm-promotion"], skipAnalysis: true },
  { name: "inverted", hooks: ["rollback", "confirm-promotion"] },
] as const;

/** What a canary shows while the gate is closed. */
const waits: Readonly<Record<Hook, { readonly phase: string; readonly event: RegExp }>> = {
  "confirm-promotion": {
    phase: "WaitingPromotion",
    event: /^Halt .* advancement waiting for promotion approval config is ready$/,
  },
  "confirm-rollout": { phase: "Waiting", event: /^Halt .* advancement waiting for approval config is ready$/ },
  "confirm-traffic-increase": {
    phase: "Progressing",
    event: /^Halt .* advancement waiting for traffic increase approval config is ready$/,
  },
};

function deployment(name: string, version: string): Manifest {
  const labels = { app: name };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name },
    spec: {
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: "c", image: `shop/${name}:${version}` }] } },
    },
  };
}

const canaryKind = { apiVersion: "flagger.app/v1beta1", kind: "Canary" } as const;
const deploymentKind = { apiVersion: "apps/v1", kind: "Deployment" } as const;

describe("Flagger holds its canaries on a stage", () => {
  let scene: DeliveryScene;
  let flagger: DeliveryProgram;
  let histories: readonly History[] = [];
  beforeAll(async () => {
    await installCrds({ ...cluster, token: cluster.adminToken }, ["flagger", "gateway-api"]);
    scene = await startDeliveryScene(cluster);
    flagger = await startFlagger({ ...cluster, namespace: scene.namespace });
    await releaseShop(cluster, scene);
  });
  afterAll(async () => {
    for (const history of histories) history[Symbol.dispose]();
    await flagger[Symbol.asyncDispose]();
    await scene[Symbol.asyncDispose]();
  });

  const ref = (name: string) => ({ ...canaryKind, metadata: { name, namespace: scene.namespace } });
  const phaseOf = async (name: string): Promise<string> =>
    asText(at(await admin.get(ref(name)), "status", "phase")) ?? "";
  const primaryOf = async (name: string): Promise<string> =>
    imageOf(await admin.get({ ...deploymentKind, metadata: { name: `${name}-primary`, namespace: scene.namespace } }));
  /** Flagger looks at a canary at once when its interval changes, and else only every ten seconds. */
  let looks = 0;
  const lookNow = async (): Promise<void> => {
    const analysis = { interval: `${10 + (++looks % 2)}s` };
    await Promise.all([...canaries, ...misused].map(({ name }) => admin.patch(ref(name), { spec: { analysis } })));
  };
  const untilAll = (wanted: (name: string, hook: Hook) => Promise<void>, { looking = true } = {}) =>
    eventually(
      async () => {
        if (looking) await lookNow();
        await Promise.all(canaries.map(({ name, hook }) => wanted(name, hook)));
        return true;
      },
      { timeoutMs: 110_000, intervalMs: 2_000 },
    );
  const expectWaiting = async (name: string, hook: Hook): Promise<void> => {
    const canary = await admin.get(ref(name));
    const status = { phase: at(canary, "status", "phase"), failedChecks: at(canary, "status", "failedChecks") };
    const events = await eventsAbout(cluster, { namespace: scene.namespace, name });
    expect({ name, ...status }, events.join("\n")).toEqual({ name, phase: waits[hook].phase, failedChecks: 0 });
    expect(events).toContainEqual(expect.stringMatching(waits[hook].event));
    expect(await primaryOf(name)).toMatch(/:1$/);
  };

  test("[40.41] the guide's canaries are set up: blue/green, weighted by routes, A/B by header and cookie", async () => {
    const { namespace } = scene;
    for (const { block, name, hook } of canaries) {
      const [shown] = scene.blocks.get(block) ?? [];
      const guideName = shown?.metadata.name ?? "";
      const text = JSON.stringify(shown)
        .replaceAll(`"name":"${guideName}"`, `"name":"${name}"`)
        .replace(/"type":"confirm-[a-z-]+"/, `"type":"${hook}"`);
      if (name === "checkout") continue; // A StageSet ships it: below.
      await admin.apply({ ...deployment(name, "1"), metadata: { name, namespace } });
      await admin.apply(JSON.parse(text) as Manifest); // Of the guide's manifest.
    }
    for (const { name, hooks, ...more } of misused) {
      const [shown] = scene.blocks.get("flagger-blue-green") ?? [];
      const [webhook] = asArray(at(shown, "spec", "analysis", "webhooks")).map(asObject);
      const text = JSON.stringify(shown).replaceAll('"name":"checkout"', `"name":"${name}"`);
      const canary = JSON.parse(text) as Manifest; // Of the guide's manifest.
      const analysis = {
        ...asObject(at(canary, "spec", "analysis")),
        webhooks: hooks.map((type) => ({ ...webhook, type })),
      };
      await admin.apply({ ...deployment(name, "1"), metadata: { name, namespace } });
      await admin.apply({ ...canary, spec: { ...asObject(at(canary, "spec")), ...more, analysis } });
    }
    await publishCheckout("1");
    for (const object of scene.blocks.get("wait-for-canary") ?? []) await admin.apply(object);
    histories = canaries.map(({ name }) => follow(cluster, { ...canaryKind, namespace, name }));
    await eventually(
      async () => {
        const shown = messageOf(await admin.get(stageSetRef(namespace, "after-checkout")));
        expect(await admin.get(ref("checkout")), shown).toBeDefined();
        return true;
      },
      { timeoutMs: 60_000 },
    );
    await untilAll(async (name) => expect(await phaseOf(name)).toBe("Initialized"));
    for (const { name } of misused)
      await eventually(async () => (await phaseOf(name)) === "Initialized", { timeoutMs: 60_000 });
    await untilReady(cluster, { namespace, name: "after-checkout" }, "True Succeeded", { timeoutMs: 60_000 });
    expect(await afterVersion()).toBe("1");
  });

  /** The artifacts of the guide's StageSet `after-checkout`: a Deployment with its Canary, and what comes after. */
  const publishCheckout = async (version: string): Promise<void> => {
    const [canary] = scene.blocks.get("flagger-blue-green") ?? [];
    const released = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const annotated = {
      ...canary,
      metadata: { ...canary?.metadata, annotations: { "example.org/released-at": released } },
    };
    await scene.publish("shop-checkout", {
      "deployment.yaml": JSON.stringify(deployment("checkout", version)),
      "canary.yaml": JSON.stringify(annotated),
    });
    await scene.publish("shop-after", { "after.yaml": after(version) });
  };
  const after = (version: string): string =>
    JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "after" }, data: { version } });
  const afterVersion = async (): Promise<unknown> =>
    at(
      await admin.get({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "after", namespace: scene.namespace } }),
      "data",
      "version",
    );

  test("[40.41] while the stage is not Ready each waits in its phase, with its event and without a failed check", async () => {
    const { namespace } = scene;
    await scene.publishConfig("v2");
    await eventually(async () => expect(await scene.gate()).toMatch(/^403 .*NotReady$/));
    for (const { name } of [...canaries, ...misused])
      if (name !== "checkout") await admin.apply({ ...deployment(name, "2"), metadata: { name, namespace } });
    await publishCheckout("2");
    await untilAll(expectWaiting);
    // The stage that waits for its Canary waits as long.
    const stage = stageStatus(await admin.get(stageSetRef(namespace, "after-checkout")), "checkout");
    expect(at(stage, "phase")).toBe("Verifying");
    expect(await afterVersion()).toBe("1");
  });

  test("[40.41] as the guide warns: pre-rollout and rollout hooks roll back, others do not hold, a first version asks nobody", async () => {
    const { namespace } = scene;
    // A stage waits for a canary that lives there already, and fails with it.
    const waiting = JSON.stringify(scene.blocks.get("wait-for-canary")?.[0])
      .replaceAll('"after-checkout"', '"after-refused"')
      .replace(/"name":"checkout"}\]/, '"name":"refused"}]')
      .replace("shop-checkout", "shop-refused")
      .replace("shop-after", "shop-after-refused");
    await scene.publish("shop-refused", { "a.yaml": configMap("refused") });
    await scene.publish("shop-after-refused", { "a.yaml": configMap("after-refused") });
    await admin.apply(JSON.parse(waiting) as Manifest); // Of the guide's manifest.
    await admin.apply({ ...deployment("newcomer", "1"), metadata: { name: "newcomer", namespace } });
    const [shown] = scene.blocks.get("flagger-blue-green") ?? [];
    await admin.apply(
      JSON.parse(JSON.stringify(shown).replaceAll('"name":"checkout"', '"name":"newcomer"')) as Manifest,
    );
    const ends = {
      counted: "Failed",
      refused: "Failed",
      ignored: "Succeeded",
      skipping: "Succeeded",
      newcomer: "Initialized",
    };
    await eventually(
      async () => {
        await lookNow();
        const phases = Object.keys(ends).map(async (name) => [name, await phaseOf(name)] as const);
        expect(Object.fromEntries(await Promise.all(phases))).toEqual(ends);
        return true;
      },
      { timeoutMs: 110_000, intervalMs: 2_000 },
    );
    expect(await scene.gate()).toMatch(/^403 /);
    for (const name of ["counted", "refused"]) {
      expect(await primaryOf(name)).toMatch(/:1$/);
      expect(await eventsAbout(cluster, { namespace, name })).toContainEqual(
        expect.stringMatching(/failed checks threshold reached 3$/),
      );
    }
    for (const name of ["ignored", "skipping"]) expect(await primaryOf(name)).toMatch(/:2$/);
    expect(await phaseOf("inverted")).toBe("WaitingPromotion");
    const failed = await untilReady(cluster, { namespace, name: "after-refused" }, "False StageFailed");
    expect(messageOf(failed)).toContain("refused");
  });

  test("[40.41] each goes on waiting over a new leader, a restart, no gate at all, and a newer revision of the config", async () => {
    const [before, since] = await scene.replaceLeader();
    expect(since).not.toBe(before);
    expect(await scene.gate()).toMatch(/^403 /);
    scene.service.route([]);
    await scene.publishConfig("v3");
    // Flagger asks at its interval, and again as often as `retries` says.
    const refused = scene.service.refused;
    await eventually(() => Promise.resolve(scene.service.refused >= refused + 4 * canaries.length), {
      timeoutMs: 60_000,
    });
    await untilAll(expectWaiting, { looking: false });
    scene.service.route(scene.replicas.map((replica) => replica.gateUrl));
    await eventually(async () => expect(await scene.gate()).toMatch(/^403 .*NotReady$/));
    // The run under way ends first: the stage is Ready at the revision they waited for, which is not the newest.
    await scene.heal("v2");
    await scene.untilRolling("v3");
    expect(await scene.gate()).toMatch(/^403 /);
    await lookNow();
    await untilAll(expectWaiting, { looking: false });
  });

  test("[40.41] each is promoted once the stage is Ready at its newest revision, and the stage behind a Canary follows", async () => {
    const { namespace } = scene;
    const waited = histories.map((history) => history.states.length);
    expect(at(await admin.get(ref("inverted")), "status")).toMatchObject({
      phase: "WaitingPromotion",
      failedChecks: 0,
    });
    await scene.heal("v3");
    await eventually(async () => expect(await scene.gate()).toMatch(/^200 /));
    await untilAll(async (name) => expect(await phaseOf(name)).toBe("Succeeded"));
    for (const { name } of canaries) expect(await primaryOf(name)).toMatch(/:2$/);
    // A `rollback` hook is inverted: no check of this one had failed, and the stage that became Ready rolled it back.
    expect(await phaseOf("inverted")).toBe("Failed");
    expect(await primaryOf("inverted")).toMatch(/:1$/);
    await untilReady(cluster, { namespace, name: "after-checkout" }, "True Succeeded", { timeoutMs: 60_000 });
    expect(await afterVersion()).toBe("2");
    for (const [index, { name }] of canaries.entries()) {
      const states = histories[index]?.states ?? [];
      expect([name, Math.max(...states.map((state) => asNumber(at(state, "status", "failedChecks")) ?? 0))]).toEqual([
        name,
        0,
      ]);
      const early = states.slice(0, waited[index]).map((state) => at(state, "status", "phase"));
      expect(early).not.toContain("Promoting");
    }
    const weights = (histories[2]?.states ?? []).map((state) => at(state, "status", "canaryWeight"));
    expect(weights).toContain(50); // The weighted canary really moved traffic.
    const route = { apiVersion: "gateway.networking.k8s.io/v1", kind: "HTTPRoute" };
    const ab = JSON.stringify(await admin.get({ ...route, metadata: { name: "search", namespace } }));
    expect(ab).toContain("x-canary");
    expect(ab).toContain("canary=always");
  });
});
