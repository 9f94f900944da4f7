import { createServer, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { auditEvents, auditMark, eventually, testCluster } from "../support/cluster.ts";
import { messageOf, readyOf, stageSetRef, stageStatus, untilReady } from "../support/controller.ts";
import { requestPass } from "../support/passes.ts";
import { startScene, type Scene } from "../support/scene.ts";
import {
  createKeySigner,
  startImageRegistry,
  startPrivateRegistry,
  type ImageRegistry,
  type Signer,
} from "../support/signing.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";

const cluster = testCluster();
const { admin } = cluster;
const policyKind = { apiVersion: "stages.metio.wtf/v1", kind: "ImageVerificationPolicy" } as const;
let registry: ImageRegistry;
let signer: Signer;
let scene: Scene;
const policies: KubeObject[] = [];

function settings(more: Readonly<Record<string, unknown>> = {}) {
  return {
    config: {
      imageVerification: {
        requireMatch: false,
        trustedRoot: undefined,
        insecureRegistries: [registry.host],
        breakGlass: "any" as const,
        ...more,
      },
    },
  };
}

beforeAll(async () => {
  [registry, signer] = await Promise.all([startImageRegistry(), createKeySigner()]);
  scene = await startScene(cluster, settings());
}, 300_000);
afterAll(async () => {
  await scene[Symbol.asyncDispose]();
  for (const policy of policies) await admin.delete(policy);
  await registry[Symbol.asyncDispose]();
  await signer[Symbol.asyncDispose]();
});

const nameIn = (name: string) => ({ namespace: scene.namespace, name });

/** Governs the images of one test: policies are the whole cluster's. */
async function policy(name: string, spec: Readonly<Record<string, unknown>> = {}): Promise<KubeObject> {
  const created = await admin.create({
    ...policyKind,
    metadata: { name: `${scene.namespace}-${name}` },
    spec: {
      images: [`${registry.host}/${name}/**`],
      authorities: [{ key: { publicKey: signer.publicKey } }],
      ...spec,
    },
  });
  policies.push(created);
  return created;
}

async function signed(repository: string, tag: string, content: string): Promise<string> {
  const digest = await registry.push(repository, tag, content);
  await signer.sign(registry, repository, digest);
  return digest;
}

const image = (repository: string, to = ":v1"): string => `${registry.host}/${repository}${to}`;

/** A kind with images that needs nobody to become ready. */
function podTemplate(name: string, spec: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "PodTemplate",
    metadata: { name },
    template: { metadata: { labels: { app: name } }, spec },
  });
}
const containers = (...images: readonly string[]) => ({
  containers: images.map((each, index) => ({ name: `c${String(index)}`, image: each })),
});

async function imagesIn(name: string): Promise<unknown> {
  const object = await scene.object(name, { apiVersion: "v1", kind: "PodTemplate" });
  const list = at(object, "template", "spec", "containers");
  return Array.isArray(list) ? list.map((each: unknown) => at(each, "image")) : undefined;
}

const stage = (name: string) => ({ name: "web", sourceRef: { name } });
const spec = { retryInterval: "1s", timeout: "60s" };

describe("images with a policy", () => {
  test("[50.28] signed: Ready, and the object has its digest, on record before; unsigned: held, and nothing is there", async () => {
    await policy("a");
    const digest = await signed("a/app", "v1", "a-app");
    await registry.push("a/bare", "v1", "a-bare");
    await scene.publish("a", { "a.yaml": podTemplate("a", containers(image("a/app"))) });
    await scene.release("a", [stage("a")], spec);
    const ready = await untilReady(cluster, nameIn("a"));
    expect(await imagesIn("a")).toEqual([image("a/app", `@${digest}`)]);
    expect(at(stageStatus(ready, "web"), "verifiedImages")).toEqual([
      { image: image("a/app"), digest, revision: at(stageStatus(ready, "web"), "appliedRevision") },
    ]);

    await scene.publish("bare", { "a.yaml": podTemplate("bare", containers(image("a/app"), image("a/bare"))) });
    await scene.release("bare", [stage("bare")], spec);
    const held = await untilReady(cluster, nameIn("bare"), "False ImageUnverified");
    expect(messageOf(held)).toMatch(/^stage "web" image verification: image "[^"]*a\/bare:v1" .*-a\): .*not signed/);
    expect(await imagesIn("bare")).toBeUndefined();
    expect(stageStatus(held, "web")).not.toHaveProperty("appliedRevision");
  });

  test("[10.29] what is signed at last is released, and a policy that is mended at once", async () => {
    const created = await policy("late", { authorities: [{ key: { publicKey: await otherKey() } }] });
    await signed("late/app", "v1", "late");
    await scene.publish("late", { "a.yaml": podTemplate("late", containers(image("late/app"))) });
    await scene.release("late", [stage("late")], spec);
    await untilReady(cluster, nameIn("late"), "False ImageUnverified");
    await admin.patch(created, { spec: { authorities: [{ key: { publicKey: signer.publicKey } }] } });
    await untilReady(cluster, nameIn("late"));
  });

  test("[10.36] a policy that got past admission invalid holds what it governs", async () => {
    await policy("odd", { requireAttestations: [{ predicateType: "https://example.test/scan" }] });
    await signed("odd/app", "v1", "odd");
    await scene.publish("odd", { "a.yaml": podTemplate("odd", containers(image("odd/app"))) });
    await scene.release("odd", [stage("odd")], spec);
    const held = await untilReady(cluster, nameIn("odd"), "False ImageUnverified");
    expect(messageOf(held)).toContain('-odd" is invalid: spec.requireAttestations');
    expect(await imagesIn("odd")).toBeUndefined();
  });
});

async function otherKey(): Promise<string> {
  await using other = await createKeySigner();
  return other.publicKey;
}

test("[50.30] a tag that moves changes nothing at the same revision; a new one, or forcing the stage, takes what it is then", async () => {
  await policy("tag");
  const first = await signed("tag/app", "v1", "first");
  await scene.publish("tag", { "a.yaml": podTemplate("tag", containers(image("tag/app"))) });
  await scene.release("tag", [stage("tag")], spec);
  await untilReady(cluster, nameIn("tag"));
  const second = await signed("tag/app", "v1", "second");
  await requestPass(cluster, nameIn("tag"));
  expect(await imagesIn("tag")).toEqual([image("tag/app", `@${first}`)]);

  await scene.publish("tag", { "a.yaml": podTemplate("tag", { ...containers(image("tag/app")), hostname: "new" }) });
  await eventually(async () => {
    expect(await imagesIn("tag")).toEqual([image("tag/app", `@${second}`)]);
    return true;
  });
  await untilReady(cluster, nameIn("tag"));
  const third = await signed("tag/app", "v1", "third");
  await admin.patch(stageSetRef(scene.namespace, "tag"), {
    metadata: { annotations: { "stages.metio.wtf/reconcile-stage": "web@force" } },
  });
  await eventually(async () => {
    expect(await imagesIn("tag")).toEqual([image("tag/app", `@${third}`)]);
    return true;
  });
});

describe("[50.31] what policies exempt", () => {
  test("an image that one policy skips and another governs is verified; one that all skip is applied, and told once", async () => {
    await policy("skip", { skip: [`${registry.host}/skip/**`] });
    await policy("skip-b", { images: [`${registry.host}/skip/app`] });
    const digest = await signed("skip/app", "v1", "skip");
    const all = containers(image("skip/app"), image("skip/free"));
    await scene.publish("skip", { "a.yaml": podTemplate("skip", all) });
    await scene.release("skip", [stage("skip")], spec);
    await untilReady(cluster, nameIn("skip"));
    expect(await imagesIn("skip")).toEqual([image("skip/app", `@${digest}`), image("skip/free")]);
    const told = await stageSetEvents(cluster, { ...nameIn("skip"), reason: "ImageVerificationExempted" });
    expect(told).toHaveLength(1);
  });

  test("under the require flag: exempted everywhere is applied, without a policy is held", async () => {
    await policy("req", { skip: [`${registry.host}/req/**`] });
    await using strict = await startScene(cluster, settings({ requireMatch: true }));
    await strict.publish("req", { "a.yaml": podTemplate("req", containers(image("req/free"))) });
    await strict.release("req", [stage("req")], spec);
    await untilReady(cluster, { namespace: strict.namespace, name: "req" });
    await strict.publish("none", { "a.yaml": podTemplate("none", containers(image("none/app"))) });
    await strict.release("none", [stage("none")], spec);
    const held = await untilReady(cluster, { namespace: strict.namespace, name: "none" }, "False ImageUnverified");
    expect(messageOf(held)).toContain("no ImageVerificationPolicy matches it");
    expect(await strict.object("none", { apiVersion: "v1", kind: "PodTemplate" })).toBeUndefined();
  });
});

describe("[50.32] unsigned images are held", () => {
  beforeAll(async () => {
    await policy("held");
    await registry.push("held/app", "v1", "held");
  });
  const bare = () => image("held/app");
  const pod = () => ({ metadata: { labels: { app: "x" } }, spec: containers(bare()) });

  test.each([
    [
      "of a ReplicationController",
      "rc",
      () => ({ apiVersion: "v1", kind: "ReplicationController", spec: { selector: { app: "x" }, template: pod() } }),
    ],
    [
      "of a CronJob",
      "cron",
      () => ({
        apiVersion: "batch/v1",
        kind: "CronJob",
        spec: {
          schedule: "0 0 1 1 *",
          jobTemplate: { spec: { template: { spec: { ...containers(bare()), restartPolicy: "Never" } } } },
        },
      }),
    ],
    [
      "of an image volume",
      "volume",
      () => ({
        apiVersion: "v1",
        kind: "PodTemplate",
        template: { spec: { ...containers("other"), volumes: [{ name: "v", image: { reference: bare() } }] } },
      }),
    ],
    [
      "of an init container, in a List",
      "list",
      () => ({
        apiVersion: "v1",
        kind: "List",
        items: [
          {
            apiVersion: "v1",
            kind: "PodTemplate",
            metadata: { name: "list" },
            template: { spec: { ...containers("other"), initContainers: [{ name: "i", image: bare() }] } },
          },
        ],
      }),
    ],
  ])("%s", async (_what, name, object) => {
    const manifest = { ...object(), ...(name === "list" ? {} : { metadata: { name } }) };
    await scene.publish(name, { "a.json": JSON.stringify(manifest) });
    await scene.release(name, [stage(name)], spec);
    const held = await untilReady(cluster, nameIn(name), "False ImageUnverified");
    expect(messageOf(held)).toContain(bare());
    const kind = name === "list" ? { apiVersion: "v1", kind: "PodTemplate" } : (manifest as KubeObject);
    expect(await scene.object(name, { apiVersion: kind.apiVersion, kind: kind.kind })).toBeUndefined();
  });

  test.each([
    ["job", { job: { sourceRef: { name: "held-job" } } }],
    ["apply", { apply: { sourceRef: { name: "held-apply" } } }],
  ])("[30.24] of a %s action", async (verb, action) => {
    const job = {
      apiVersion: "batch/v1",
      kind: "Job",
      metadata: { name: `held-${verb}` },
      spec: { template: { spec: { ...containers(bare()), restartPolicy: "Never" } } },
    };
    await scene.publish(`held-${verb}`, { "a.json": JSON.stringify(job) });
    await scene.publish(`act-${verb}`, { "a.yaml": podTemplate(`act-${verb}`, containers("other")) });
    const actions = { pre: [{ name: "first", ...action }] };
    await scene.release(`act-${verb}`, [{ ...stage(`act-${verb}`), actions }], spec);
    const held = await untilReady(cluster, nameIn(`act-${verb}`), "False ImageUnverified");
    expect(messageOf(held)).toMatch(/^stage "web" pre-action: action "first": image /);
    expect(await admin.list({ apiVersion: "batch/v1", kind: "Job", namespace: scene.namespace })).toEqual([]);
    expect(await imagesIn(`act-${verb}`)).toBeUndefined();
  });

  test.each([
    ["merge", (to: string) => JSON.stringify({ template: { spec: { containers: [{ name: "c0", image: to }] } } })],
    [
      "json6902",
      (to: string) => JSON.stringify([{ op: "replace", path: "/template/spec/containers/0/image", value: to }]),
    ],
  ] as const)("of a patch action, %s; a signed one must be named by digest", async (type, patch) => {
    const name = `patch-${type}`;
    const digest = await signed(`held/${name}`, "v1", name);
    await admin.create({
      apiVersion: "v1",
      kind: "PodTemplate",
      metadata: { name, namespace: scene.namespace },
      template: { spec: containers("other") },
    });
    await scene.publish(name, { "a.yaml": podTemplate(`${name}-own`, containers("other")) });
    const release = (to: string) => {
      const target = { apiVersion: "v1", kind: "PodTemplate", name };
      const actions = { pre: [{ name: "patch", patch: { target, type, patch: patch(to) } }] };
      return { stages: [{ ...stage(name), actions }] };
    };
    await scene.release(name, release(bare()).stages, spec);
    await untilReady(cluster, nameIn(name), "False ImageUnverified");
    expect(await imagesIn(name)).toEqual(["other"]);
    await admin.patch(stageSetRef(scene.namespace, name), { spec: release(image(`held/${name}`)) });
    await eventually(async () => messageOf(await scene.get(name)).includes("must be named by its digest"));
    expect(await imagesIn(name)).toEqual(["other"]);
    await admin.patch(stageSetRef(scene.namespace, name), { spec: release(image(`held/${name}`, `@${digest}`)) });
    await untilReady(cluster, nameIn(name));
    expect(await imagesIn(name)).toEqual([image(`held/${name}`, `@${digest}`)]);
  });
});

test("[50.33] a registry that is down: cannot verify, and released soon after it is back", async () => {
  const first = await startImageRegistry();
  const port = Number(first.host.split(":")[1]);
  await first[Symbol.asyncDispose]();
  const created = await admin.create({
    ...policyKind,
    metadata: { name: `${scene.namespace}-down` },
    spec: { images: [`${first.host}/**`], authorities: [{ key: { publicKey: signer.publicKey } }] },
  });
  policies.push(created);
  await using own = await startScene(cluster, settings({ insecureRegistries: [first.host] }));
  await own.publish("down", { "a.yaml": podTemplate("down", containers(`${first.host}/app:v1`)) });
  await own.release("down", [stage("down")], spec);
  const name = { namespace: own.namespace, name: "down" };
  const held = await untilReady(cluster, name, "False ImageUnverified");
  expect(asText(at(stageStatus(held, "web"), "message"))).toMatch(/^image verification: cannot verify image/);
  await using back = await startImageRegistry(port);
  const digest = await back.push("app", "v1", "down");
  await signer.sign(back, "app", digest);
  await untilReady(cluster, name, "True Succeeded", { timeoutMs: 90_000 });
});

test("registries that never answer keep no worker from others", async () => {
  const sockets = new Set<Socket>();
  const tarpit = createServer((socket) => void sockets.add(socket.on("error", () => undefined)));
  await new Promise<void>((resolve) => tarpit.listen(0, "localhost", resolve));
  const address = tarpit.address();
  const host = `localhost:${String(typeof address === "object" ? address?.port : 0)}`;
  policies.push(
    await admin.create({
      ...policyKind,
      metadata: { name: `${scene.namespace}-tarpit` },
      spec: { images: [`${host}/**`], authorities: [{ key: { publicKey: signer.publicKey } }] },
    }),
  );
  try {
    await using own = await startScene(cluster, settings({ insecureRegistries: [host] }));
    await own.publish("tarpit", { "a.yaml": podTemplate("tarpit", containers(`${host}/app:v1`)) });
    await own.publish("free", { "a.yaml": podTemplate("free", containers("other")) });
    for (let index = 0; index < 8; index++) await own.release(`tarpit-${String(index)}`, [stage("tarpit")], spec);
    // As many of one namespace as ask at once; more passes than there are workers are under way by then.
    await eventually(() => Promise.resolve(sockets.size >= 4), { timeoutMs: 30_000 });
    await own.release("free", [stage("free")], spec);
    // Within the 60 s for which an image is waited.
    await untilReady(cluster, { namespace: own.namespace, name: "free" }, "True Succeeded", { timeoutMs: 40_000 });
    const first = await own.get("tarpit-0");
    expect(readyOf(first)).not.toBe("True Succeeded");
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => tarpit.close(resolve));
  }
});

describe("a private registry", () => {
  const credential = { username: "robot", password: "a-pull-password" };

  test("[50.34] is read with the pull secrets of the pod, as the stage's ServiceAccount", async () => {
    const digest = await signed("private/app", "v1", "private");
    await using locked = await startPrivateRegistry(registry, credential);
    policies.push(
      await admin.create({
        ...policyKind,
        metadata: { name: `${scene.namespace}-private` },
        spec: { images: [`${locked.host}/**`], authorities: [{ key: { publicKey: signer.publicKey } }] },
      }),
    );
    await using own = await startScene(cluster, settings({ insecureRegistries: [locked.host] }));
    const wanted = `${locked.host}/private/app:v1`;
    const pod = { ...containers(wanted), imagePullSecrets: [{ name: "pull" }] };
    await own.publish("x", { "a.yaml": podTemplate("x", pod) });
    await own.release("x", [stage("x")], spec);
    const name = { namespace: own.namespace, name: "x" };
    const held = await untilReady(cluster, name, "False ImageUnverified");
    expect(messageOf(held)).toContain(`without Secret "${own.namespace}/pull", which does not exist`);
    const auth = Buffer.from(`${credential.username}:${credential.password}`).toString("base64");
    await admin.create({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "pull", namespace: own.namespace },
      type: "kubernetes.io/dockerconfigjson",
      stringData: { ".dockerconfigjson": JSON.stringify({ auths: { [locked.host]: { auth } } }) },
    });
    const mark = await auditMark(cluster);
    await requestPass(cluster, name);
    const ready = await untilReady(cluster, name);
    const live = await own.object("x", { apiVersion: "v1", kind: "PodTemplate" });
    expect(JSON.stringify(live)).toContain(`${locked.host}/private/app@${digest}`);
    for (const told of [JSON.stringify([held, ready, live]), own.controller.logs.join("\n")])
      expect(told).not.toMatch(new RegExp(`${credential.password}|${auth}|a-token`));
    const reads = await auditEvents(cluster, { since: mark, namespace: own.namespace, verbs: ["get"] });
    const readers = reads.filter((event) => event.uri.includes("/secrets/pull")).map((event) => event.username);
    expect(new Set(readers)).toEqual(new Set([`system:serviceaccount:${own.namespace}:deployer`]));
  });
});

describe("[50.35] break glass", () => {
  const skip = "stages.metio.wtf/skip-image-verification";
  const annotate = (name: string, reason: string | null) =>
    admin.patch(stageSetRef(scene.namespace, name), { metadata: { annotations: { [skip]: reason } } });

  test("counts for the revision at hand, unpinned, however often it is reconciled, and not for the next one", async () => {
    await policy("glass");
    await registry.push("glass/app", "v1", "glass");
    await scene.publish("glass", { "a.yaml": podTemplate("glass", containers(image("glass/app"))) });
    await scene.release("glass", [stage("glass")], spec);
    await untilReady(cluster, nameIn("glass"), "False ImageUnverified");
    await annotate("glass", "registry of signatures is gone");
    await untilReady(cluster, nameIn("glass"));
    expect(await imagesIn("glass")).toEqual([image("glass/app")]);
    const status = at(await scene.get("glass"), "status", "imageVerificationSkip");
    expect(at(status, "token")).toBe("registry of signatures is gone");
    await admin.delete({
      apiVersion: "v1",
      kind: "PodTemplate",
      metadata: { name: "glass", namespace: scene.namespace },
    });
    await requestPass(cluster, nameIn("glass"));
    await eventually(async () => (await imagesIn("glass")) !== undefined);
    await eventually(async () => readyOf(await scene.get("glass")) === "True Succeeded");
    expect(await stageSetEvents(cluster, { ...nameIn("glass"), reason: "ImageVerificationSkipped" })).toHaveLength(1);

    await scene.publish("glass", {
      "a.yaml": podTemplate("glass", { ...containers(image("glass/app")), hostname: "new" }),
    });
    await untilReady(cluster, nameIn("glass"), "False ImageUnverified");
    await annotate("glass", "another reason");
    await untilReady(cluster, nameIn("glass"));
  });

  test.each([
    ["off", "break-glass is off"],
    ["authorized", "without the webhook"],
  ] as const)("mode %s without the webhook: ignored, and why", async (breakGlass, why) => {
    await policy(breakGlass);
    await registry.push(`${breakGlass}/app`, "v1", breakGlass);
    await using own = await startScene(cluster, settings({ breakGlass }));
    await own.publish("x", { "a.yaml": podTemplate("x", containers(image(`${breakGlass}/app`))) });
    await own.release("x", [stage("x")], spec);
    const name = { namespace: own.namespace, name: "x" };
    await untilReady(cluster, name, "False ImageUnverified");
    await admin.patch(stageSetRef(own.namespace, "x"), { metadata: { annotations: { [skip]: "please" } } });
    await eventually(async () => messageOf(await admin.get(stageSetRef(own.namespace, "x"))).includes(why));
    expect(await own.object("x", { apiVersion: "v1", kind: "PodTemplate" })).toBeUndefined();
  });
});
