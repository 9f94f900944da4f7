import { setTimeout as delay } from "node:timers/promises";
import { asArray, asNumber, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { publishArtifact, type ArtifactServer } from "../support/artifacts.ts";
import { allRules, createServiceAccount, eventually, uniqueNamespace, type TestCluster } from "../support/cluster.ts";
import { createStageSet, readyOf, stageSetRef, stageStatus } from "../support/controller.ts";
import { carriedOver } from "./monitor.ts";
import { releaseSpec, renamedStage, revisions, type Revision } from "./release.ts";

/** The name of the reference release's StageSet. */
export const stageSetName = "app";
const kinds = [
  ["v1", "ConfigMap"],
  ["v1", "Secret"],
  ["v1", "Service"],
  ["v1", "ServiceAccount"],
  ["apps/v1", "Deployment"],
] as const;
const labelSelector = `stages.metio.wtf/name=${stageSetName}`;

export interface LifeOptions {
  readonly cluster: TestCluster;
  readonly server: ArtifactServer;
  readonly namespace: string;
  /** Looks until it is met, while something keeps the controller alive. */
  readonly until: (what: string, look: () => Promise<boolean>) => Promise<void>;
  /** Called with each revision before and after it is published. */
  readonly onPublish?: (revision: string, when: "before" | "after") => void;
  /** Default true. What two controllers at once count may be old for one pass more, so it is waited for. */
  readonly alone?: boolean;
  /** When the release is whole: from when on, and how long, it must be quiet. Absent: not looked at. */
  readonly quiet?: { readonly begin: () => Promise<void>; readonly ms: number; readonly writes: () => number };
}

/** What must be equal whatever went wrong on the way: what there was after each phase. */
export interface Life {
  readonly phases: Readonly<Record<string, unknown>>;
  readonly problems: readonly string[];
}

export async function prepareLife(cluster: TestCluster): Promise<string> {
  const namespace = await uniqueNamespace(cluster, "life");
  await createServiceAccount(cluster, { namespace, name: "deployer", rules: allRules });
  // What makes one revision fail in its second stage: a look ahead at the whole release does not end it before its first.
  await cluster.admin.create({
    apiVersion: "v1",
    kind: "LimitRange",
    metadata: { namespace, name: "small-volumes" },
    spec: { limits: [{ type: "PersistentVolumeClaim", max: { storage: "1Gi" } }] },
  });
  return namespace;
}

/** Install, upgrade, a failure and its repair with a renamed stage, teardown (fault-testing.md, the reference release). */
export async function live(options: LifeOptions): Promise<Life> {
  const { cluster, namespace, until } = options;
  const { admin } = cluster;
  const ref = stageSetRef(namespace, stageSetName);
  const phases: Record<string, unknown> = {};
  const problems: string[] = [];
  const uids = new Map<string, string[]>();
  const get = (): Promise<KubeObject | undefined> => admin.get(ref);
  const publish = async (look: Revision): Promise<void> => {
    options.onPublish?.(look.revision, "before");
    await publishArtifact(cluster, { ...options, name: "app", revision: look.revision, files: look.files });
    options.onPublish?.(look.revision, "after");
  };
  const deployed = async (look: Revision, stages: readonly string[]): Promise<boolean> => {
    const stageSet = await get();
    return (
      readyOf(stageSet) === "True Succeeded" &&
      at(stageSet, "status", "observedGeneration") === stageSet?.metadata.generation &&
      at(stageSet, "status", "lastAppliedRevisions", `${namespace}/app`) === look.revision &&
      stages.every((stage) => at(stageStatus(stageSet, stage), "appliedRevision") === look.revision) &&
      (await ownObjects(cluster, namespace)).length === Object.keys(look.files).length &&
      (await recordedIds(cluster, namespace)).length === Object.keys(look.files).length &&
      (options.alone !== false || countedIn(stageSet) === Object.keys(look.files).length)
    );
  };
  const settle = async (phase: string): Promise<void> => {
    const objects = await ownObjects(cluster, namespace);
    for (const object of objects) {
      const known = uids.get(object.metadata.name) ?? [];
      const uid = object.metadata.uid ?? "";
      if (!known.includes(uid)) known.push(uid);
      uids.set(object.metadata.name, known);
    }
    phases[phase] = await stateOf(cluster, namespace, { objects, uids });
    // O4: the inventory is exactly what carries our labels.
    const ids = objects.map(idOf).sort();
    const recorded = [...(await recordedIds(cluster, namespace))].sort();
    const orphans = ids.filter((id) => !recorded.includes(id));
    if (orphans.length > 0) problems.push(`${phase}: in no inventory: ${orphans.join(", ")}`);
  };
  await publish(revisions.installed);
  await createStageSet(cluster, { namespace, name: stageSetName, spec: releaseSpec("extras") });
  await until("installed", () => deployed(revisions.installed, ["base", "apps", "extras"]));
  await seedEntries(cluster, namespace);
  await settle("installed");

  await publish(revisions.upgraded);
  await until("upgraded", () => deployed(revisions.upgraded, ["base", "apps", "extras"]));
  await settle("upgraded");

  await publish(revisions.broken);
  await until("failed", async () => {
    const stageSet = await get();
    return (
      readyOf(stageSet) === "False StageFailed" &&
      at(stageSet, "status", "lastAttemptedRevisions", `${namespace}/app`) === revisions.broken.revision &&
      at(stageStatus(stageSet, "base"), "appliedRevision") === revisions.broken.revision &&
      (asText(at(stageStatus(stageSet, "apps"), "message")) ?? "").includes("maximum storage usage")
    );
  });
  await settle("failed");

  await publish(revisions.repaired);
  await admin.patch(ref, { spec: releaseSpec(renamedStage) });
  await until("repaired", () => deployed(revisions.repaired, ["base", "apps", renamedStage]));
  await settle("repaired");

  if (options.quiet !== undefined) {
    await options.quiet.begin();
    const before = options.quiet.writes();
    await delay(options.quiet.ms);
    const after = options.quiet.writes();
    if (after > before) problems.push(`${after - before} writes in a steady state`);
  }

  await admin.delete(ref);
  await until("torn down", async () => (await get()) === undefined);
  const left = await ownObjects(cluster, namespace);
  if (left.length > 0) problems.push(`left after the teardown: ${left.map(idOf).join(", ")}`);
  return { phases, problems };
}

/** Marks in the status that nothing of the engine writes yet: it has to carry them over. */
async function seedEntries(cluster: TestCluster, namespace: string): Promise<void> {
  const ref = stageSetRef(namespace, stageSetName);
  await eventually(async () => {
    const stageSet = await cluster.admin.get(ref);
    const stages = asArray(at(stageSet, "status", "stages"));
    const patch = stages.flatMap((_stage, index) => [
      { op: "test", path: "/metadata/resourceVersion", value: stageSet?.metadata.resourceVersion },
      ...Object.entries(carriedOver).map(([member, value]) => ({
        op: "add",
        path: `/status/stages/${index}/${member}`,
        value,
      })),
    ]);
    await cluster.admin.patch(ref, patch, { type: "json", subresource: "status" });
    return true;
  });
}

async function ownObjects(cluster: TestCluster, namespace: string): Promise<readonly KubeObject[]> {
  const lists = kinds.map(([apiVersion, kind]) =>
    cluster.admin.list({ apiVersion, kind, namespace }, { labelSelector }),
  );
  return (await Promise.all(lists)).flat();
}

async function shardsOf(cluster: TestCluster, namespace: string): Promise<readonly KubeObject[]> {
  return cluster.admin.list({ apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", namespace });
}

/** How many objects the status says its stages have. */
function countedIn(stageSet: KubeObject | undefined): number {
  const counts = asArray(at(stageSet, "status", "stages")).map((entry) => asNumber(at(entry, "entriesCount")) ?? 0);
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Every recorded id, as often as it is recorded. */
async function recordedIds(cluster: TestCluster, namespace: string): Promise<readonly string[]> {
  return (await shardsOf(cluster, namespace)).flatMap((shard) =>
    asArray(at(shard, "spec", "entries")).flatMap((entry) => asText(at(entry, "id")) ?? []),
  );
}

function idOf(object: KubeObject): string {
  const { namespace = "", name } = object.metadata;
  const group = object.apiVersion.includes("/") ? object.apiVersion.slice(0, object.apiVersion.indexOf("/")) : "";
  return `${namespace}_${name}_${group}_${object.kind}`;
}

/** Objects with their content and how often they were made anew, records and status; times and versions left out. */
async function stateOf(
  cluster: TestCluster,
  namespace: string,
  seen: { readonly objects: readonly KubeObject[]; readonly uids: ReadonlyMap<string, readonly string[]> },
): Promise<unknown> {
  const stageSet = await cluster.admin.get(stageSetRef(namespace, stageSetName));
  const shards = await shardsOf(cluster, namespace);
  const byText = (a: readonly unknown[], b: readonly unknown[]): number => (String(a[0]) < String(b[0]) ? -1 : 1);
  const state = {
    objects: seen.objects
      .map((object) => [
        idOf(object),
        object.metadata.labels,
        object["data"],
        at(object, "spec", "ports"),
        at(object, "spec", "template", "spec", "containers", "0", "image"),
        `made ${(seen.uids.get(object.metadata.name) ?? []).length} times`,
      ])
      .sort(byText),
    stages: asArray(at(stageSet, "status", "stages")),
    ready: readyOf(stageSet),
    attempted: at(stageSet, "status", "lastAttemptedRevisions"),
    applied: at(stageSet, "status", "lastAppliedRevisions"),
    inventories: shards
      .map((shard) => [shard.metadata.name.replace(/-[0-9a-f]{10}$/, ""), shard["spec"], shard.metadata.annotations])
      .sort(byText),
  };
  const text = JSON.stringify(state).replaceAll(namespace, "NS");
  // The cluster IP of a Service is the API server's choice, and a node port too.
  return JSON.parse(text.replaceAll(/"nodePort":\d+,?/g, ""));
}
