import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { asArray, at } from "../../src/lib/json.ts";
import { auditEvents, auditMark, createServiceAccount, eventually, testCluster } from "../support/cluster.ts";
import { messageOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { deployment } from "../support/manifests.ts";
import { startScene, type Scene } from "../support/scene.ts";

const cluster = testCluster();
const { admin } = cluster;
let scene: Scene;
beforeAll(async () => {
  scene = await startScene(cluster);
});
afterAll(() => scene[Symbol.asyncDispose]());

const nameIn = (name: string) => ({ namespace: scene.namespace, name });
const waits = async (name: string): Promise<readonly unknown[]> =>
  asArray(at(stageStatus(await scene.get(name), "only"), "waitingFor"));
const untilWaiting = (name: string, count: number): Promise<readonly unknown[]> =>
  eventually(async () => {
    const list = await waits(name);
    return list.length === count && list;
  });

describe.concurrent("what a stage waits for", () => {
  test("is listed with kind, name, status, message and since, stays as it is, and goes when the stage is Ready", async () => {
    const pods = { readyAfter: "6s" };
    await scene.publish("slow", { "a.yaml": deployment("slow", { pods }), "b.yaml": deployment("quick") });
    await scene.release("slow", [{ name: "only", sourceRef: { name: "slow" } }]);
    const [first] = await untilWaiting("slow", 1);
    expect(first).toMatchObject({
      kind: "Deployment",
      namespace: scene.namespace,
      name: "slow",
      status: "InProgress",
      message: expect.stringMatching(/./) as unknown,
      since: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/) as unknown,
    });
    await untilReady(cluster, nameIn("slow"));
    expect(stageStatus(await scene.get("slow"), "only")).not.toHaveProperty("waitingFor");
  });

  test("names at most ten objects, written once while nothing changes, and gone when the wait is ended", async () => {
    const pods = { neverReady: "true" };
    const many = Array.from({ length: 12 }, (_, index) => deployment(`stuck-${String(index)}`, { pods }));
    await scene.publish("stuck", { "a.yaml": many.join("---\n") });
    await scene.release("stuck", [{ name: "only", sourceRef: { name: "stuck" } }]);
    await untilWaiting("stuck", 10);
    // The messages come to rest with the Deployments; then there is nothing to write.
    const resting = await eventually(
      async () => {
        const before = await scene.get("stuck");
        await new Promise((resolve) => setTimeout(resolve, 5_000)); // Longer than the list is ever left alone at first.
        const after = await scene.get("stuck");
        return before?.metadata.resourceVersion === after?.metadata.resourceVersion && after;
      },
      { timeoutMs: 40_000 },
    );
    expect(resting.metadata.generation).toBe(1);
    await admin.patch(stageSetRef(scene.namespace, "stuck"), { spec: { suspend: true } });
    const suspended = await untilReady(cluster, nameIn("stuck"), "False Suspended");
    expect(stageStatus(suspended, "only")).toMatchObject({ phase: "Verifying" });
    expect(stageStatus(suspended, "only")).not.toHaveProperty("waitingFor");
  });

  test("follows what changes, each object since it was first listed, and ends with the stage's failure", async () => {
    const pods = { neverReady: "true" };
    const check = { apiVersion: "v1", kind: "ConfigMap", name: "late" };
    await scene.publish("moving", { "a.yaml": deployment("moving", { pods }) });
    await scene.release(
      "moving",
      [
        {
          name: "only",
          sourceRef: { name: "moving" },
          readyChecks: { checks: [check] },
          timeout: "15s",
          onTimeout: "Rollback",
        },
      ],
      { retryInterval: "1m" },
    );
    const both = await untilWaiting("moving", 2);
    const since = both.map((each) => at(each, "since"));
    await admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: nameIn("late") });
    const [left] = await untilWaiting("moving", 1);
    expect(left).toMatchObject({ kind: "Deployment", name: "moving", since: since[0] });
    const failed = await untilReady(cluster, nameIn("moving"), "False StageFailed", { timeoutMs: 60_000 });
    expect(stageStatus(failed, "only")).not.toHaveProperty("waitingFor");
    expect(stringify(stageStatus(failed, "only"))).toContain("phase: Failed");
  });
});

/** The first of what the stage waits for, once its message matches. */
const untilExplained = (name: string, message: RegExp): Promise<unknown> =>
  eventually(
    async () => {
      const [first] = await waits(name);
      expect(at(first, "message")).toMatch(message);
      return first;
    },
    { timeoutMs: 60_000 },
  );
const pull = { waitingReason: "ImagePullBackOff" };
const cannotPull = (image: string): string => `container "app" cannot pull image "${image}" (ImagePullBackOff)`;
const quoted = (text: string): string => text.replaceAll(/[.()]/g, "\\$&");

describe.concurrent("why it waits", () => {
  test("an image that cannot be pulled is named, decides nothing, and is brought up to date", async () => {
    await scene.publish("pull", { "a.yaml": deployment("pull", { pods: pull, image: "none.example/app:1" }) });
    await scene.release("pull", [{ name: "only", sourceRef: { name: "pull" } }]);
    const first = await untilExplained("pull", new RegExp(`: ${quoted(cannotPull("none.example/app:1"))}$`));
    expect(first).toMatchObject({ kind: "Deployment", name: "pull", status: "InProgress" });
    expect(stageStatus(await scene.get("pull"), "only")).toMatchObject({ phase: "Verifying" });
    const pods = await admin.list(
      { apiVersion: "v1", kind: "Pod", namespace: scene.namespace },
      { labelSelector: "app=pull" },
    );
    const waiting = { reason: "CreateContainerConfigError", message: 'secret "db" not found' };
    const [name = ""] = pods.map((pod) => pod.metadata.name);
    await admin.patchStatus(
      { apiVersion: "v1", kind: "Pod", metadata: nameIn(name) },
      {
        containerStatuses: [
          { name: "app", image: "a", imageID: "", ready: false, restartCount: 0, state: { waiting } },
        ],
      },
    );
    await untilExplained("pull", /cannot be started: secret "db" not found \(CreateContainerConfigError\)$/);
    expect(stageStatus(await scene.get("pull"), "only")).toMatchObject({ phase: "Verifying" });
  });

  test("of a Deployment whose old pods are still there the new ones are heard", async () => {
    const publish = (image: string, more: Parameters<typeof deployment>[1] = {}) =>
      scene.publish("rolling", { "a.yaml": deployment("rolling", { image, ...more }) });
    await publish("app:1");
    await scene.release("rolling", [{ name: "only", sourceRef: { name: "rolling" } }], { timeout: "3s" });
    await untilReady(cluster, nameIn("rolling"));
    await publish("app:2", { pods: pull });
    const cause = `1 old replicas are still there: ${cannotPull("app:2")}`;
    await untilExplained("rolling", new RegExp(`^${quoted(cause)}$`));
    // Past the timeout Ready says so too, and the wait goes on.
    const parked = await eventually(
      async () => {
        const stageSet = await scene.get("rolling");
        return messageOf(stageSet).includes(cause) && stageSet;
      },
      { timeoutMs: 60_000 },
    );
    expect(messageOf(parked)).toMatch(
      /^stage "only" is applied and still becoming ready: Deployment .* \(InProgress, /,
    );
    expect(stageStatus(parked, "only")).toMatchObject({ phase: "Verifying" });
    await publish("app:3");
    await untilReady(cluster, nameIn("rolling"));
  });

  test("the failure of a stage names the cause", async () => {
    const broken = { ...pull, waitingReason: "ErrImagePull" };
    await scene.publish("failing", { "a.yaml": deployment("failing", { pods: broken, image: "app:4" }) });
    const stage = { name: "only", sourceRef: { name: "failing" }, timeout: "15s", onTimeout: "Rollback" };
    await scene.release("failing", [stage], { retryInterval: "1m" });
    const failed = await untilReady(cluster, nameIn("failing"), "False StageFailed", { timeoutMs: 60_000 });
    expect(messageOf(failed)).toMatch(/^stage "only" verify: not ready within 15s: Deployment /);
    expect(messageOf(failed)).toContain(cannotPull("app:4"));
  });

  test("pods are asked for by the workload's labels as the stage's identity, and not again when that is refused", async () => {
    const { namespace } = scene;
    const rules = [
      { apiGroups: ["apps"], resources: ["deployments"], verbs: ["get", "list", "watch", "create", "patch"] },
    ];
    const { username } = await createServiceAccount(cluster, { namespace, name: "no-pods", rules });
    const since = await auditMark(cluster);
    const reads = (by: string) =>
      auditEvents(cluster, { since, namespace, resource: "pods", where: (event) => event.username === by });
    await scene.publish("blind", { "a.yaml": deployment("blind", { pods: pull }) });
    await scene.publish("seeing", { "a.yaml": deployment("seeing", { pods: pull }) });
    const spec = { serviceAccountName: "no-pods" };
    await scene.release("blind", [{ name: "only", sourceRef: { name: "blind" } }], spec);
    await scene.release("seeing", [{ name: "only", sourceRef: { name: "seeing" } }]);
    await untilExplained("seeing", /cannot pull image/);
    await eventually(async () => (await reads(username)).length > 0);
    const [first] = await waits("blind");
    expect(at(first, "message")).toMatch(/^\d of 1 replicas are \w+$/);
    const deployer = username.replace("no-pods", "deployer");
    const ofSeeing = (await reads(deployer)).filter(({ uri }) => uri.includes("seeing"));
    expect(ofSeeing.length).toBeGreaterThan(0);
    for (const { verb, uri } of await reads(deployer)) {
      expect(verb).toBe("list");
      expect(uri).toMatch(/labelSelector=app%3D[a-z0-9-]+(%2Cpod-template-hash%3D[a-z0-9]+)?&limit=50$/);
    }
    // Longer than until a second look, had the first one not been refused.
    await new Promise((resolve) => setTimeout(resolve, 15_000));
    expect(await reads(username)).toHaveLength(1);
    expect(stageStatus(await scene.get("blind"), "only")).toMatchObject({ phase: "Verifying" });
  });

  test("a stage that becomes ready in the usual time asks for no pods", async () => {
    const since = await auditMark(cluster);
    await scene.publish("usual", { "a.yaml": deployment("usual", { pods: { readyAfter: "2s" } }) });
    await scene.release("usual", [{ name: "only", sourceRef: { name: "usual" } }]);
    await untilReady(cluster, nameIn("usual"));
    const asked = await auditEvents(cluster, { since, namespace: scene.namespace, resource: "pods" });
    expect(asked.filter(({ uri }) => uri.includes("app%3Dusual"))).toEqual([]);
  });
});
