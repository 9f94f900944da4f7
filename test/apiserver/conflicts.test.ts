import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { asArray, asText, at } from "../../src/lib/json.ts";
import { auditEvents, auditMark, eventually, testCluster, uniqueName } from "../support/cluster.ts";
import { configMap, messageOf, stageStatus, untilReady } from "../support/controller.ts";
import { recordedIds, requestPass, untilApplied } from "../support/passes.ts";
import { startScene, type Scene } from "../support/scene.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
const jobKind = { apiVersion: "batch/v1", kind: "Job" } as const;
const claimKind = { apiVersion: "v1", kind: "PersistentVolumeClaim" } as const;

let scene: Scene;
let storageClass = "";
beforeAll(async () => {
  scene = await startScene(cluster, { clusterWide: true });
  storageClass = uniqueName("lazy");
  await admin.create({
    apiVersion: "storage.k8s.io/v1",
    kind: "StorageClass",
    metadata: { name: storageClass },
    provisioner: "example.com/none",
    volumeBindingMode: "WaitForFirstConsumer",
  });
});
afterAll(() => scene[Symbol.asyncDispose]());

interface Marks {
  readonly annotations?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
}

/** A Job whose pods end at once. */
function job(name: string, { image, ...marks }: Marks & { readonly image: string }): string {
  return stringify({
    ...jobKind,
    metadata: { name, ...marks },
    spec: {
      template: {
        metadata: { annotations: { "bench.local/complete-after": "0s" } },
        spec: { restartPolicy: "Never", containers: [{ name: "c", image }] },
      },
    },
  });
}

function claim(name: string, { size, ...marks }: Marks & { readonly size: string }): string {
  return stringify({
    ...claimKind,
    metadata: { name, ...marks },
    spec: {
      accessModes: ["ReadWriteOnce"],
      storageClassName: storageClass,
      resources: { requests: { storage: size } },
    },
  });
}

const nameIn = (name: string) => ({ namespace: scene.namespace, name });
const imageOf = (object: unknown): unknown =>
  at(asArray(at(object, "spec", "template", "spec", "containers"))[0], "image");

/** Releases one manifest as a StageSet of its name, then publishes the next form of it. */
async function change(
  name: string,
  manifests: readonly [first: string, second: string],
  stage: Readonly<Record<string, unknown>> = {},
): Promise<{ readonly revision: string }> {
  await scene.publish(name, { "a.yaml": manifests[0] });
  await scene.release(name, [{ name: "only", sourceRef: { name }, ...stage }], { retryInterval: "2s", timeout: "30s" });
  await untilReady(cluster, nameIn(name));
  return scene.publish(name, { "a.yaml": manifests[1] });
}

describe("a wave with an invalid object", () => {
  test("[20.25] none of the wave is written, and the message names kind, name, reason and what is wrong", async () => {
    const { namespace } = scene;
    await scene.publish("wave", { "a.yaml": configMap("wave-good", { k: "1" }) });
    await scene.release("wave", [{ name: "only", sourceRef: { name: "wave" } }], { retryInterval: "2s" });
    await untilReady(cluster, nameIn("wave"));
    const service = stringify({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "wave-bad" },
      spec: { ports: [{ port: 99999 }] },
    });
    await scene.publish("wave", {
      "a.yaml": configMap("wave-good", { k: "2" }),
      "b.yaml": configMap("wave-new"),
      "c.yaml": service,
    });
    const refused = await untilReady(cluster, nameIn("wave"), "False StageFailed");
    expect(asText(at(stageStatus(refused, "only"), "message"))).toMatch(
      new RegExp(`^apply: Service ${namespace}/wave-bad: Invalid: .*99999`),
    );
    expect(messageOf(refused)).not.toContain("wave-good");
    expect(await scene.object("wave-good")).toMatchObject({ data: { k: "1" } });
    expect(await scene.object("wave-new")).toBeUndefined();
    const fixed = await scene.publish("wave", {
      "a.yaml": configMap("wave-good", { k: "3" }),
      "b.yaml": configMap("wave-new"),
    });
    await untilApplied(cluster, nameIn("wave"), { wave: fixed.revision });
    expect(await scene.object("wave-good")).toMatchObject({ data: { k: "3" } });
  });

  test("[20.25] of many refused objects ten are named, then the count, and no value of a Secret", async () => {
    const secrets = Array.from({ length: 12 }, (_, index) =>
      stringify({
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: `many-${String(index).padStart(2, "0")}` },
        type: "kubernetes.io/tls",
        stringData: { "tls.crt": "s3cr3t-value" },
      }),
    );
    await scene.publish("many", { "a.yaml": secrets.join("---\n") });
    await scene.release("many", [{ name: "only", sourceRef: { name: "many" } }], { retryInterval: "1m" });
    const message = messageOf(await untilReady(cluster, nameIn("many"), "False StageFailed"));
    expect(message.match(/Secret [^ ]+many-\d\d: Invalid/g)).toHaveLength(10);
    expect(message).toContain("12 objects failed");
    expect(message).not.toContain("s3cr3t");
    expect(message).not.toContain(Buffer.from("s3cr3t-value").toString("base64"));
  });
});

describe.concurrent("a changed Job template", () => {
  const [before, after] = [job("template", { image: "one" }), job("template", { image: "two" })];
  const as = (name: string): readonly [string, string] => [
    before.replace("name: template", `name: ${name}`),
    after.replace("name: template", `name: ${name}`),
  ];

  test("[20.26] with Fail: StageFailed naming the field and how to opt in, the Job untouched", async () => {
    await change("job-fail", as("job-fail"));
    const live = await scene.object("job-fail", jobKind);
    const refused = await untilReady(cluster, nameIn("job-fail"), "False StageFailed");
    expect(messageOf(refused)).toMatch(/^stage "only" conflict policy: .*spec\.template.*immutable.*Recreate/);
    expect(await scene.object("job-fail", jobKind)).toEqual(live);
    expect(at(stageStatus(refused, "only"), "phase")).toBe("Failed");
  });

  test("[20.26] with Recreate, by default or by force: a new uid", async () => {
    const both = [
      ["job-recreate", { conflictPolicy: { default: "Recreate" } }],
      ["job-forced", { force: true }],
    ] as const;
    await Promise.all(
      both.map(async ([name, stage]) => {
        const { revision } = await change(name, as(name), stage);
        const uid = (await scene.object(name, jobKind))?.metadata.uid;
        await untilApplied(cluster, nameIn(name), { [name]: revision });
        const live = await scene.object(name, jobKind);
        expect(imageOf(live)).toBe("two");
        expect(live?.metadata.uid).not.toBe(uid);
        expect(await stageSetEvents(cluster, { ...nameIn(name), reason: "DriftCorrected" })).toEqual([]);
      }),
    );
  });

  test("[20.26] with KeepExisting: untouched, and Ready", async () => {
    const name = "job-kept";
    const { revision } = await change(name, as(name), { conflictPolicy: { default: "KeepExisting" } });
    const live = await scene.object(name, jobKind);
    await untilApplied(cluster, nameIn(name), { [name]: revision });
    expect(await scene.object(name, jobKind)).toEqual(live);
  });

  test("the first rule whose target fields are all equal decides, and force counts only without a policy", async () => {
    const rules = [
      { target: { kind: "Job", name: "another" }, action: "Recreate" },
      { target: { apiVersion: "batch/v1", kind: "Job", namespace: scene.namespace }, action: "KeepExisting" },
      { target: { kind: "Job" }, action: "Recreate" },
    ];
    const [ruled, ignored] = await Promise.all([
      change("job-ruled", as("job-ruled"), { conflictPolicy: { default: "Recreate", rules } }),
      change("job-ignored", as("job-ignored"), { force: true, conflictPolicy: {} }),
    ]);
    await untilApplied(cluster, nameIn("job-ruled"), { "job-ruled": ruled.revision });
    expect(imageOf(await scene.object("job-ruled", jobKind))).toBe("one");
    await untilReady(cluster, nameIn("job-ignored"), "False StageFailed");
    expect(ignored.revision).not.toBe("");
    expect(imageOf(await scene.object("job-ignored", jobKind))).toBe("one");
  });
});

describe.concurrent("Recreate", () => {
  test("[20.27] a manifest with an invalid value beside the immutable one deletes nothing", async () => {
    const since = await auditMark(cluster);
    const invalid = job("job-invalid", { image: "two" }).replace("restartPolicy: Never", "restartPolicy: Sometimes");
    await change("job-invalid", [job("job-invalid", { image: "one" }), invalid], { force: true });
    const live = await scene.object("job-invalid", jobKind);
    const refused = await untilReady(cluster, nameIn("job-invalid"), "False StageFailed");
    expect(messageOf(refused)).toContain("Sometimes");
    expect(await scene.object("job-invalid", jobKind)).toEqual(live);
    const deletes = await auditEvents(cluster, { since, namespace: scene.namespace, verbs: ["delete"] });
    expect(deletes.filter((event) => event.name === "job-invalid")).toEqual([]);
  });

  test("[20.27] an invalid value alone deletes nothing either, and no probe is left behind", async () => {
    const service = (port: number): string =>
      stringify({ apiVersion: "v1", kind: "Service", metadata: { name: "svc-invalid" }, spec: { ports: [{ port }] } });
    await change("svc-invalid", [service(80), service(99999)], { conflictPolicy: { default: "Recreate" } });
    const kind = { apiVersion: "v1", kind: "Service" };
    const uid = (await scene.object("svc-invalid", kind))?.metadata.uid;
    await untilReady(cluster, nameIn("svc-invalid"), "False StageFailed");
    expect((await scene.object("svc-invalid", kind))?.metadata.uid).toBe(uid);
    const services = await admin.list({ ...kind, namespace: scene.namespace });
    expect(services.filter((each) => each.metadata.name.endsWith("-probe"))).toEqual([]);
  });

  test("an immutability the server words in its own way is proven by a probe", async () => {
    // "spec.clusterIPs[0]: Invalid value: []string(nil): primary clusterIP can not be unset" speaks of no immutability.
    const service = (spec: Readonly<Record<string, unknown>>): string =>
      stringify({ apiVersion: "v1", kind: "Service", metadata: { name: "svc-probed" }, spec });
    const { revision } = await change(
      "svc-probed",
      [
        service({ ports: [{ port: 80 }], clusterIP: "None" }),
        service({ ports: [{ port: 80 }], clusterIP: "10.0.77.7" }),
      ],
      { conflictPolicy: { default: "Recreate" } },
    );
    await untilApplied(cluster, nameIn("svc-probed"), { "svc-probed": revision });
    const live = await scene.object("svc-probed", { apiVersion: "v1", kind: "Service" });
    expect(at(live, "spec", "clusterIP")).toBe("10.0.77.7");
  });

  test("an object held by a finalizer is waited for, then fails naming it; once it is gone it is created", async () => {
    const name = "job-held";
    await scene.publish(name, { "a.yaml": job(name, { image: "one" }) });
    const stages = [{ name: "only", sourceRef: { name }, force: true, timeout: "3s" }];
    await scene.release(name, stages, { retryInterval: "2s" });
    await untilReady(cluster, nameIn(name));
    const ref = { ...jobKind, metadata: nameIn(name) };
    const held = await admin.patch(ref, { metadata: { finalizers: ["example.com/hold"] } });
    const next = await scene.publish(name, { "a.yaml": job(name, { image: "two" }) });
    const refused = await untilReady(cluster, nameIn(name), "False StageFailed");
    expect(messageOf(refused)).toMatch(
      new RegExp(`^stage "only" apply: .*Job ${scene.namespace}/${name}.*example.com/hold`),
    );
    expect((await admin.get(ref))?.metadata.uid).toBe(held.metadata.uid);
    await admin.patch(ref, { metadata: { finalizers: null } });
    await untilApplied(cluster, nameIn(name), { [name]: next.revision });
    expect(imageOf(await admin.get(ref))).toBe("two");
  });
});

describe.concurrent("volumes", () => {
  test("[20.28] force, a default and a plain rule never recreate a shrunk claim", async () => {
    const ways = {
      "claim-forced": { force: true },
      "claim-default": { conflictPolicy: { default: "Recreate" } },
      "claim-ruled": {
        conflictPolicy: { rules: [{ target: { kind: "PersistentVolumeClaim" }, action: "Recreate" }] },
      },
    };
    await Promise.all(
      Object.entries(ways).map(async ([name, stage]) => {
        await change(name, [claim(name, { size: "2Gi" }), claim(name, { size: "1Gi" })], stage);
        const live = await scene.object(name, claimKind);
        const refused = await untilReady(cluster, nameIn(name), "False StageFailed");
        expect(messageOf(refused)).toMatch(/^stage "only" conflict policy: .*allowDataLoss/s);
        expect((await scene.object(name, claimKind))?.metadata.uid).toBe(live?.metadata.uid);
        expect((await scene.object(name, claimKind))?.metadata.deletionTimestamp).toBeUndefined();
      }),
    );
  });

  test("[20.28] a rule with allowDataLoss, and the object's own control, recreate it", async () => {
    const rule = { target: { kind: "PersistentVolumeClaim" }, action: "Recreate", allowDataLoss: true };
    const control = { annotations: { "stages.metio.wtf/force": "enabled" } };
    const ways = [
      { name: "claim-lost", marks: {}, stage: { conflictPolicy: { rules: [rule] } } },
      { name: "claim-marked", marks: control, stage: {} },
    ];
    await Promise.all(
      ways.map(async ({ name, marks, stage }) => {
        const manifests = [claim(name, { size: "2Gi", ...marks }), claim(name, { size: "1Gi", ...marks })] as const;
        const uid = (): Promise<string | undefined> => scene.object(name, claimKind).then((live) => live?.metadata.uid);
        await scene.publish(name, { "a.yaml": manifests[0] });
        await scene.release(name, [{ name: "only", sourceRef: { name }, ...stage }], { retryInterval: "2s" });
        await untilReady(cluster, nameIn(name));
        const before = await uid();
        const { revision } = await scene.publish(name, { "a.yaml": manifests[1] });
        await untilApplied(cluster, nameIn(name), { [name]: revision });
        expect(await uid()).not.toBe(before);
      }),
    );
  });
});

describe.concurrent("what an object says about its own handling", () => {
  const marks = (key: string, value: string): readonly (readonly [string, Marks])[] => [
    ["annotation", { annotations: { [key]: value } }],
    ["label", { labels: { [key]: value } }],
  ];
  const own = "stages.metio.wtf";
  const flux = "kustomize.toolkit.fluxcd.io";
  const marked = (name: string, value: string, more: Marks): string =>
    stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, ...more }, data: { k: value } });
  let count = 0;
  const unique = (): string => `control-${String(++count)}`;

  test.each([
    ...marks(`${own}/force`, "Enabled"),
    ...marks(`${own}/force`, "true"),
    ...marks(`${flux}/force`, "enabled"),
  ])("force as %s %j recreates on an immutable conflict, before the policy", async (_where, mark) => {
    const name = unique();
    const { revision } = await change(
      name,
      [job(name, { image: "one", ...mark }), job(name, { image: "two", ...mark })],
      {
        conflictPolicy: { default: "KeepExisting" },
      },
    );
    await untilApplied(cluster, nameIn(name), { [name]: revision });
    expect(imageOf(await scene.object(name, jobKind))).toBe("two");
  });

  test.each([...marks(`${own}/keep-existing`, "True"), ...marks(`${flux}/ssa`, "IfNotPresent")])(
    "keep existing as %s %j creates what is absent and leaves alone what is there",
    async (_where, mark) => {
      const name = unique();
      const there = `${name}-there`;
      await admin.create({ apiVersion: "v1", kind: "ConfigMap", metadata: nameIn(there), data: { k: "theirs" } });
      await scene.publish(name, { "a.yaml": marked(name, "1", mark), "b.yaml": marked(there, "1", mark) });
      await scene.release(name, [{ name: "only", sourceRef: { name } }]);
      await untilReady(cluster, nameIn(name));
      expect(await scene.object(name)).toMatchObject({ data: { k: "1" } });
      const { revision } = await scene.publish(name, {
        "a.yaml": marked(name, "2", mark),
        "b.yaml": marked(there, "2", mark),
      });
      await untilApplied(cluster, nameIn(name), { [name]: revision });
      expect(await scene.object(name)).toMatchObject({ data: { k: "1" } });
      const theirs = await scene.object(there);
      expect(theirs).toMatchObject({ data: { k: "theirs" } });
      expect(theirs?.metadata.labels, "what we did not create is not ours").toBeUndefined();
      // Dropped: ours goes, theirs stays.
      const empty = await scene.publish(name, { "a.yaml": "[]" });
      await untilApplied(cluster, nameIn(name), { [name]: empty.revision });
      await eventually(async () => (await scene.object(name)) === undefined);
      expect(await scene.object(there)).toEqual(theirs);
    },
  );

  test.each([
    ...marks(`${own}/reconcile`, "Disabled"),
    ...marks(`${flux}/reconcile`, "disabled"),
    ...marks(`${flux}/ssa`, "Ignore"),
  ])("not reconciled as %s %j: not applied, in the inventory, not waited for, not deleted", async (_where, mark) => {
    const name = unique();
    await scene.publish(name, {
      "a.yaml": job(`${name}-absent`, { image: "one", ...mark }),
      "b.yaml": marked(name, "1", {}),
    });
    await scene.release(name, [{ name: "only", sourceRef: { name } }]);
    await untilReady(cluster, nameIn(name));
    expect(await scene.object(`${name}-absent`, jobKind)).toBeUndefined();
    expect(await recordedIds(cluster, nameIn(name))).toContain(`${scene.namespace}_${name}-absent_batch_Job`);
    // It was applied, then marked: it stays as it is, also when it is dropped and on teardown.
    const now = await scene.publish(name, { "b.yaml": marked(name, "2", mark) });
    await untilApplied(cluster, nameIn(name), { [name]: now.revision });
    expect(await scene.object(name)).toMatchObject({ data: { k: "1" } });
  });

  test.each([...marks(`${own}/reconcile`, "disabled"), ...marks(`${flux}/reconcile`, "Disabled")])(
    "not reconciled by the live %s %j alone: left as it is by apply, prune and teardown",
    async (where, mark) => {
      const name = unique();
      await scene.publish(name, { "a.yaml": marked(name, "1", {}), "b.yaml": marked(`${name}-b`, "1", {}) });
      await scene.release(name, [{ name: "only", sourceRef: { name } }]);
      await untilReady(cluster, nameIn(name));
      for (const each of [name, `${name}-b`])
        await admin.patch({ apiVersion: "v1", kind: "ConfigMap", metadata: nameIn(each) }, { metadata: mark });
      const next = await scene.publish(name, { "a.yaml": marked(name, "2", {}) });
      await untilApplied(cluster, nameIn(name), { [name]: next.revision });
      expect(await scene.object(name), where).toMatchObject({ data: { k: "1" } });
      await eventually(async () => (await recordedIds(cluster, nameIn(name))).length === 1);
      expect(await scene.object(`${name}-b`)).toBeDefined();
      await admin.delete({ apiVersion: "stages.metio.wtf/v1", kind: "StageSet", metadata: nameIn(name) });
      await eventually(async () => (await scene.get(name)) === undefined);
      expect(await scene.object(name)).toBeDefined();
    },
  );

  test("a value that means nothing is told once and has no effect", async () => {
    const name = unique();
    await scene.publish(name, { "a.yaml": marked(name, "1", { annotations: { [`${own}/prune`]: "never" } }) });
    await scene.release(name, [{ name: "only", sourceRef: { name } }]);
    await untilReady(cluster, nameIn(name));
    await requestPass(cluster, nameIn(name));
    await eventually(async () => {
      const events = await stageSetEvents(cluster, { ...nameIn(name), reason: "AnnotationIgnored" });
      expect(events.map((event) => event.count)).toEqual([1]);
      expect(events[0]?.note).toContain(`${own}/prune`);
      return true;
    });
    const empty = await scene.publish(name, { "a.yaml": "[]" });
    await untilApplied(cluster, nameIn(name), { [name]: empty.revision });
    expect(await scene.object(name)).toBeUndefined();
  });
});
