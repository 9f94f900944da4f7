import type { ApiResource } from "../kube/request.ts";

const own = { group: "stages.metio.wtf", version: "v1", namespaced: true, verbs: [] } as const;
const core = { group: "", version: "v1", verbs: [] } as const;

/** The kinds the engine reads and writes as the controller, which need no discovery. */
export const stageSets: ApiResource = { ...own, kind: "StageSet", plural: "stagesets" };
export const stageInventories: ApiResource = { ...own, kind: "StageInventory", plural: "stageinventories" };
export const stageLedgers: ApiResource = { ...own, kind: "StageLedger", plural: "stageledgers" };
export const namespaces: ApiResource = { ...core, kind: "Namespace", plural: "namespaces", namespaced: false };
export const configMaps: ApiResource = { ...core, kind: "ConfigMap", plural: "configmaps", namespaced: true };
export const serviceAccounts: ApiResource = {
  ...core,
  kind: "ServiceAccount",
  plural: "serviceaccounts",
  namespaced: true,
};
export const pods: ApiResource = { ...core, kind: "Pod", plural: "pods", namespaced: true };
export const coreEvents: ApiResource = { ...core, kind: "Event", plural: "events", namespaced: true };
export const storageClasses: ApiResource = {
  group: "storage.k8s.io",
  version: "v1",
  kind: "StorageClass",
  plural: "storageclasses",
  namespaced: false,
  verbs: [],
};
