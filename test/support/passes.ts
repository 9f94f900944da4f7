import { expect } from "vitest";
import { requestedAtAnnotation } from "../../src/api/keys.ts";
import { asArray, asText, at } from "../../src/lib/json.ts";
import type { KubeObject } from "../../src/lib/kube-object.ts";
import { uniqueName, type TestCluster } from "./cluster.ts";
import { readyOf, stageSetRef } from "./controller.ts";
import { eventually } from "./eventually.ts";

interface Name {
  readonly namespace: string;
  readonly name: string;
}

/** Asks for a reconcile and waits until the pass that handled it has ended; gives the StageSet as it was then. */
export async function requestPass(
  { admin }: TestCluster,
  { namespace, name }: Name,
  { timeoutMs = 30_000 }: { readonly timeoutMs?: number } = {},
): Promise<KubeObject> {
  const token = uniqueName("at");
  const ref = stageSetRef(namespace, name);
  await admin.patch(ref, { metadata: { annotations: { [requestedAtAnnotation]: token } } });
  return eventually(
    async () => {
      const stageSet = await admin.get(ref);
      return at(stageSet, "status", "lastHandledReconcileAt") === token && stageSet;
    },
    { timeoutMs },
  );
}

/** Waits until the last run succeeded at exactly these revisions of the StageSet's sources, by artifact name. */
export async function untilApplied(
  { admin }: TestCluster,
  { namespace, name }: Name,
  revisions: Readonly<Record<string, string>>,
  { timeoutMs = 30_000 }: { readonly timeoutMs?: number } = {},
): Promise<KubeObject> {
  const wanted = Object.fromEntries(
    Object.entries(revisions).map(([source, revision]) => [`${namespace}/${source}`, revision]),
  );
  return eventually(
    async () => {
      const stageSet = await admin.get(stageSetRef(namespace, name));
      expect(at(stageSet, "status", "lastAppliedRevisions")).toEqual(wanted);
      expect(readyOf(stageSet)).toBe("True Succeeded");
      expect(at(stageSet, "status", "observedGeneration")).toBe(stageSet?.metadata.generation);
      return stageSet ?? false;
    },
    { timeoutMs },
  );
}

/** The shards of a StageSet, or of one of its stages, by name. */
export async function shardsOf(
  { admin }: TestCluster,
  { namespace, name, stage }: Name & { readonly stage?: string },
): Promise<readonly KubeObject[]> {
  const labelSelector = [
    `stages.metio.wtf/stage-set=${name}`,
    ...(stage === undefined ? [] : [`stages.metio.wtf/stage=${stage}`]),
  ].join(",");
  const shards = await admin.list(
    { apiVersion: "stages.metio.wtf/v1", kind: "StageInventory", namespace },
    { labelSelector },
  );
  return shards.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

/** The ids recorded by a StageSet, or by one of its stages, sorted. */
export async function recordedIds(
  cluster: TestCluster,
  of: Name & { readonly stage?: string },
): Promise<readonly string[]> {
  const shards = await shardsOf(cluster, of);
  return shards
    .flatMap((shard) => asArray(at(shard, "spec", "entries")).map((entry) => asText(at(entry, "id")) ?? ""))
    .toSorted();
}
