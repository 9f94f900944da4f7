import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { asArray, asObject, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { publishArtifact, startArtifactServer, type ArtifactServer } from "../support/artifacts.ts";
import { eventually, testCluster, uniqueNamespace } from "../support/cluster.ts";
import {
  configMap,
  readyOf,
  stageSetRef,
  stageStatus,
  startTestController,
  untilReady,
} from "../support/controller.ts";
import { readFixture } from "../support/fixtures.ts";
import { deployment } from "../support/manifests.ts";
import { recordedIds, requestPass, shardsOf, untilApplied } from "../support/passes.ts";
import { stageSetEvents } from "../support/stage-set-events.ts";
import type { Manifest } from "../support/test-client.ts";

const cluster = testCluster();
const { admin } = cluster;
const manager = "stageset-controller";
const roleKind = { apiVersion: "rbac.authorization.k8s.io/v1", kind: "ClusterRole" } as const;
const inventoryKind = { apiVersion: "stages.metio.wtf/v1", kind: "StageInventory" } as const;

/** Captured objects with the captured namespace, and what is named after it in the whole cluster, replaced. */
async function captured(file: string, namespace: string): Promise<readonly KubeObject[]> {
  const renamed = (text: string): string =>
    text.replace(/^_shop-reader_/, `_${namespace}-reader_`).replace(/^shop([_/])/, `${namespace}$1`);
  const visit = (value: unknown, key = ""): unknown => {
    if (Array.isArray(value)) return value.map((each) => visit(each));
    if (typeof value === "string")
      return key === "namespace" || key === "stages.metio.wtf/namespace" ? namespace : renamed(value);
    const object = asObject(value);
    if (object === undefined) return value;
    return Object.fromEntries(Object.entries(object).map(([member, each]) => [renamed(member), visit(each, member)]));
  };
  const objects = await readFixture(`existing-installation/${file}`);
  return objects.map((object) => visit(object) as KubeObject); // The same shape with other texts.
}

/** What a manifest held: everything the server or the controller did not add. */
function manifestOf({ apiVersion, kind, metadata, ...rest }: KubeObject): Manifest {
  const { status: _status, ...body } = rest;
  return { apiVersion, kind, metadata: { name: metadata.name, namespace: metadata.namespace ?? "" }, ...body };
}

interface Installation {
  readonly namespace: string;
  readonly server: ArtifactServer;
  readonly manifests: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly stageSet: KubeObject;
  readonly publish: (source: string, files: Readonly<Record<string, string>>, revision: string) => Promise<unknown>;
}

const ownerLabels = (namespace: string, stage: string): Readonly<Record<string, string>> => ({
  "stages.metio.wtf/name": "shop",
  "stages.metio.wtf/namespace": namespace,
  "stages.metio.wtf/stage": stage,
});

/** Puts back what the other controller left behind: sources, applied objects, inventories, ledger, and the StageSet. */
async function install(state: "1-installed" | "2-upgraded", server: ArtifactServer): Promise<Installation> {
  const namespace = await uniqueNamespace(cluster, "shop");
  const [source] = await captured(`${state}-stageset.yaml`, namespace);
  if (source === undefined) throw new Error("no StageSet in the fixture");
  const objects = await captured(`${state}-objects.yaml`, namespace);
  const apply = (object: KubeObject | Manifest, stage: string): Promise<KubeObject> => {
    const manifest = manifestOf(object as KubeObject); // Both have what is read of them.
    const labels = ownerLabels(namespace, stage);
    return admin.apply({ ...manifest, metadata: { ...manifest.metadata, labels } }, { fieldManager: manager });
  };
  const manifests: Record<string, Record<string, string>> = { one: {}, two: {}, three: {} };
  const sources: Readonly<Record<string, string>> = { config: "one", app: "two", after: "three" };
  for (const object of objects) {
    const stage = object.metadata.labels?.["stages.metio.wtf/stage"] ?? "";
    const isPatched = object.metadata.name === "settings";
    // What actions and migrations patched in was never part of a manifest.
    const plain = isPatched ? { ...object, data: { mode: "live" } } : object;
    const files = manifests[sources[stage] ?? ""] ?? {};
    files[`${object.kind}.yaml`] = stringify(minimal(manifestOf(plain)));
    await admin.apply(withLabels(minimal(manifestOf(plain)), ownerLabels(namespace, stage)), { fieldManager: manager });
    const patch = { metadata: { annotations: object.metadata.annotations }, data: object["data"] };
    if (isPatched) await admin.patch(plain, patch, { fieldManager: "ref-controller" });
  }
  const role: Manifest = { ...roleKind, metadata: { name: `${namespace}-reader` }, rules: [] };
  await apply(role, "config");
  await admin.apply(
    { ...role, metadata: { ...role.metadata, labels: ownerLabels(namespace, "config") } },
    { fieldManager: manager },
  );
  manifests["one"] = { ...manifests["one"], "role.yaml": stringify(role) };

  const stageSet = await storeStageSet(source, namespace);
  for (const shard of await captured(`${state}-inventories.yaml`, namespace)) await storeShard(shard, stageSet);
  for (const ledger of await captured(`${state}-ledger.yaml`, namespace)) {
    await admin.create(manifestOf(ledger));
    await admin.patchStatus(ledger, ledger["status"]);
  }
  const publish: Installation["publish"] = (name, files, revision) =>
    publishArtifact(cluster, { server, namespace, name, files, revision });
  for (const [name, files] of Object.entries(manifests)) {
    const revision = asText(at(source, "status", "lastAppliedRevisions", `${namespace}/${name}`)) ?? "";
    await publish(name, files, revision);
  }
  return { namespace, server, manifests, stageSet, publish };
}

function withLabels(manifest: Manifest, labels: Readonly<Record<string, string>>): Manifest {
  return { ...manifest, metadata: { ...manifest.metadata, labels } };
}

/** Without the defaults the server filled in: only what the captured field manager owned. */
function minimal(manifest: Manifest): Manifest {
  const spec = asObject(manifest["spec"]);
  if (manifest.kind === "Service")
    return { ...manifest, spec: { ports: [{ port: 80, targetPort: 80 }], selector: { app: "shop" } } };
  if (manifest.kind !== "Deployment") return manifest;
  const [container] = asArray(at(spec, "template", "spec", "containers"));
  return {
    ...manifest,
    spec: {
      replicas: at(spec, "replicas"),
      selector: at(spec, "selector"),
      strategy: {},
      template: {
        metadata: { labels: { app: "shop" } },
        spec: { containers: [{ name: "c", image: at(container, "image"), resources: {} }] },
      },
    },
  };
}

/** With the captured generation, finalizer and status. */
async function storeStageSet(source: KubeObject, namespace: string): Promise<KubeObject> {
  const ref = stageSetRef(namespace, source.metadata.name);
  const spec = asObject(source["spec"]) ?? {};
  await admin.create({
    ...ref,
    metadata: { ...ref.metadata, finalizers: source.metadata.finalizers },
    spec: { ...spec, interval: "1m" },
  });
  const generation = Number(source.metadata.generation);
  for (let index = 2; index < generation; index++) await admin.patch(ref, { spec: { interval: `${String(index)}m` } });
  await admin.patch(ref, { spec: { interval: spec["interval"] } });
  const stored = await admin.patchStatus(ref, source["status"]);
  expect(stored.metadata.generation).toBe(generation);
  return stored;
}

async function storeShard(shard: KubeObject, stageSet: KubeObject): Promise<void> {
  const [owner] = shard.metadata.ownerReferences ?? [];
  const { name, namespace = "", labels } = shard.metadata;
  await admin.create({
    ...inventoryKind,
    metadata: { name, namespace, labels, ownerReferences: [{ ...owner, uid: stageSet.metadata.uid }] },
    spec: shard["spec"],
  });
}

/** Every object of the installation as it is, the workloads settled. */
async function applied(namespace: string): Promise<ReadonlyMap<string, string>> {
  const labelSelector = `stages.metio.wtf/namespace=${namespace}`;
  const kinds = [
    { apiVersion: "v1", kind: "ConfigMap", namespace },
    { apiVersion: "v1", kind: "Service", namespace },
    { apiVersion: "apps/v1", kind: "Deployment", namespace },
    roleKind,
  ];
  const lists = await Promise.all(kinds.map((kind) => admin.list(kind, { labelSelector })));
  return new Map(
    lists
      .flat()
      .map(({ kind, metadata }) => [
        `${kind} ${metadata.name}`,
        `${metadata.uid ?? ""} ${metadata.resourceVersion ?? ""}`,
      ]),
  );
}

async function untilSettled(namespace: string): Promise<void> {
  const ref = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "shop", namespace } };
  await eventually(
    async () => {
      const before = await admin.get(ref);
      expect(at(before, "status", "availableReplicas")).toBe(at(before, "spec", "replicas"));
      expect(JSON.stringify(before)).toContain("NewReplicaSetAvailable");
      return true;
    },
    { timeoutMs: 60_000 },
  );
}

/** Everything of the status that actions, migrations and promotions left there. */
function ledgers(stageSet: KubeObject | undefined): unknown {
  const stages = asArray(at(stageSet, "status", "stages")).map((entry) => {
    const { shards: _shards, message: _message, ...rest } = asObject(entry) ?? {};
    return rest;
  });
  return { version: at(stageSet, "status", "version"), stages };
}

describe.concurrent("an installation of another controller, taken over", () => {
  test.each(["1-installed", "2-upgraded"] as const)(
    "[10.41] %s: nothing changes, shards and ledgers stay, and what the next revision drops is pruned",
    async (state) => {
      await using server = await startArtifactServer();
      const { namespace, manifests, stageSet, publish } = await install(state, server);
      await untilSettled(namespace);
      const [objects, shards] = [await applied(namespace), await shardsOf(cluster, { namespace, name: "shop" })];
      expect(objects.size).toBe(5);
      const ledgerRef = {
        apiVersion: "stages.metio.wtf/v1",
        kind: "StageLedger",
        metadata: { name: "shop", namespace },
      };
      const ledger = await admin.get(ledgerRef);

      // The release names no ServiceAccount, as where the controller is cluster-admin.
      await using _controller = await startTestController(cluster, {
        namespaces: [namespace],
        token: cluster.adminToken,
      });
      const taken = await requestPass(cluster, { namespace, name: "shop" });
      expect(readyOf(taken)).toBe("True Succeeded");
      expect(taken.metadata.generation).toBe(stageSet.metadata.generation);
      expect(ledgers(taken)).toEqual(ledgers(stageSet));
      expect(at(taken, "status", "lastAppliedRevisions")).toEqual(at(stageSet, "status", "lastAppliedRevisions"));
      await requestPass(cluster, { namespace, name: "shop" });
      expect(await applied(namespace)).toEqual(objects);
      expect(await admin.get(ledgerRef)).toEqual(ledger);
      const entriesOf = (list: readonly KubeObject[]) =>
        list.map((shard) => ({ name: shard.metadata.name, uid: shard.metadata.uid, spec: shard["spec"] }));
      const used = await shardsOf(cluster, { namespace, name: "shop" });
      expect(entriesOf(used)).toEqual(entriesOf(shards));
      expect(await stageSetEvents(cluster, { namespace, name: "shop", reason: "DriftCorrected" })).toEqual([]);

      // Actions, migrations and promotion gates leave the spec, so that nothing but the objects is at stake.
      await withoutSteps(namespace, stageSet);
      const { "role.yaml": _dropped, ...kept } = manifests["one"] ?? {};
      await publish("one", kept, "v3");
      await eventually(
        async () => (await admin.get({ ...roleKind, metadata: { name: `${namespace}-reader` } })) === undefined,
      );
      await eventually(async () => {
        const now = await admin.get(stageSetRef(namespace, "shop"));
        expect(readyOf(now)).toBe("True Succeeded");
        expect(stageStatus(now, "config")).toMatchObject({ phase: "Ready", appliedRevision: "v3" });
        return true;
      });
      const left = await applied(namespace);
      expect(left).toEqual(new Map([...objects].filter(([name]) => !name.startsWith("ClusterRole"))));
      const names = (list: readonly KubeObject[]) =>
        list.map((shard) => `${shard.metadata.name} ${shard.metadata.uid ?? ""}`);
      expect(names(await shardsOf(cluster, { namespace, name: "shop" }))).toEqual(names(shards));
      expect(await recordedIds(cluster, { namespace, name: "shop", stage: "config" })).toEqual([
        `${namespace}_settings__ConfigMap`,
      ]);
    },
  );

  test("[10.41] made by hand: entries of `v: apps/v1` and a plain substitutionDigest mean what they meant", async () => {
    await using server = await startArtifactServer();
    const namespace = await uniqueNamespace(cluster, "shop");
    const files = { "a.yaml": deployment("web"), "b.yaml": configMap("word", { word: "${WORD}" }) };
    const { revision, digest, url } = await publishArtifact(cluster, { server, namespace, name: "app", files });
    const labels = { ...ownerLabels(namespace, "only"), "stages.metio.wtf/name": "hand" };
    const web = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "web", namespace } };
    // As the first one would have applied it: the manifest and the owner labels.
    const template = {
      metadata: { labels: { app: "web" } },
      spec: { containers: [{ name: "app", image: "app" }] },
    };
    const spec = { replicas: 1, selector: { matchLabels: { app: "web" } }, template };
    await admin.apply({ ...web, metadata: { ...web.metadata, labels }, spec }, { fieldManager: manager });
    const word = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "word", namespace, labels },
      data: { word: "said" },
    };
    await admin.apply(word, { fieldManager: manager });
    const secret = { apiVersion: "v1", kind: "Secret", metadata: { name: "words", namespace } };
    await admin.create({ ...secret, stringData: { WORD: "said" } });
    const stages = [
      {
        name: "only",
        sourceRef: { name: "app" },
        postBuild: { substituteFrom: [{ kind: "Secret", name: "words" }] },
      },
    ];
    const ref = stageSetRef(namespace, "hand");
    const finalizers = ["stages.metio.wtf/finalizer"];
    const stageSet = await admin.create({ ...ref, metadata: { ...ref.metadata, finalizers }, spec: { stages } });
    const substitutionDigest = createHash("sha256").update("4:WORD=4:said\n").digest("hex");
    const revisions = { [`${namespace}/app`]: revision };
    await admin.patchStatus(ref, {
      observedGeneration: 1,
      conditions: [
        {
          type: "Ready",
          status: "True",
          reason: "Succeeded",
          message: "Applied and verified 1 stage(s)",
          observedGeneration: 1,
          lastTransitionTime: "2026-11-23T19:08:09Z",
        },
      ],
      lastAttemptedRevisions: revisions,
      lastAppliedRevisions: revisions,
      lastAppliedSnapshot: [{ stage: "only", url, digest, revision, substitutionDigest }],
      stages: [{ name: "only", phase: "Ready", appliedRevision: revision, entriesCount: 2 }],
    });
    const shard: KubeObject = {
      ...inventoryKind,
      metadata: {
        name: "hand-only-00-5b3f5cfdd2",
        namespace,
        labels: {
          "stages.metio.wtf/shard": "0",
          "stages.metio.wtf/stage": "only",
          "stages.metio.wtf/stage-set": "hand",
        },
        ownerReferences: [
          {
            apiVersion: "stages.metio.wtf/v1",
            kind: "StageSet",
            name: "hand",
            uid: "",
            controller: true,
            blockOwnerDeletion: true,
          },
        ],
      },
      spec: {
        stagePosition: 0,
        entries: [
          { id: `${namespace}_web_apps_Deployment`, v: "apps/v1" },
          { id: `${namespace}_word__ConfigMap`, v: "v1" },
        ],
      },
    };
    await storeShard({ ...shard, metadata: { ...shard.metadata, name: handShardName() } }, stageSet);
    await eventually(async () => JSON.stringify(await admin.get(web)).includes("NewReplicaSetAvailable"), {
      timeoutMs: 60_000,
    });
    const versions = async (): Promise<unknown> =>
      Promise.all([web, word].map(async (each) => (await admin.get(each))?.metadata.resourceVersion));
    const before = await versions();

    // The release names no ServiceAccount, as where the controller is cluster-admin.
    await using _controller = await startTestController(cluster, {
      namespaces: [namespace],
      token: cluster.adminToken,
    });
    const taken = await requestPass(cluster, { namespace, name: "hand" });
    expect(readyOf(taken)).toBe("True Succeeded");
    expect(await versions()).toEqual(before);
    expect((await shardsOf(cluster, { namespace, name: "hand" })).map(({ metadata }) => metadata.name)).toEqual([
      handShardName(),
    ]);
    const next = await publishArtifact(cluster, {
      server,
      namespace,
      name: "app",
      files: { "b.yaml": files["b.yaml"] },
    });
    await untilApplied(cluster, { namespace, name: "hand" }, { app: next.revision });
    await eventually(async () => (await admin.get(web)) === undefined);
    expect(await recordedIds(cluster, { namespace, name: "hand" })).toEqual([`${namespace}_word__ConfigMap`]);
  });
});

/** The same stages, applied one after the other and nothing more. */
async function withoutSteps(namespace: string, stageSet: KubeObject): Promise<void> {
  const stages = asArray(at(stageSet, "spec", "stages")).map((stage) => ({
    name: at(stage, "name"),
    sourceRef: at(stage, "sourceRef"),
  }));
  const ref = stageSetRef(namespace, "shop");
  await admin.patch(ref, { spec: { version: null, migrations: null, stages } });
  await untilReady(cluster, { namespace, name: "shop" });
}

/** As spec 10 §7 makes it, written out here apart from the code. */
function handShardName(): string {
  return `hand-only-00-${createHash("sha256").update("4/hand/4/only/0").digest("hex").slice(0, 10)}`;
}
