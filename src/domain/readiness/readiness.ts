import type { KubeObject } from "../../lib/kube-object.ts";
import { splitApiVersion } from "../../lib/kube-object.ts";
import { asNumber, at } from "../../lib/json.ts";
import { definitionReadiness } from "./custom-resource-definition.ts";
import { jobReadiness, podReadiness } from "./pods-and-jobs.ts";
import { claimReadiness, serviceReadiness } from "./storage-and-network.ts";
import type { Readiness } from "./verdict.ts";
import { conditionOf, conditionsOf, conditionText, current, failed, inProgress } from "./verdict.ts";
import { daemonSetReadiness, deploymentReadiness, replicaSetReadiness, statefulSetReadiness } from "./workloads.ts";

export { expired, isExpiringJob } from "./pods-and-jobs.ts";
export type { Readiness } from "./verdict.ts";

/** By group and kind, whatever the version. */
const BY_KIND: ReadonlyMap<string, (object: KubeObject) => Readiness> = new Map([
  ["/ConfigMap", existing],
  ["/Secret", existing],
  ["batch/CronJob", existing],
  ["policy/PodDisruptionBudget", existing],
  ["/Service", serviceReadiness],
  ["/Pod", podReadiness],
  ["/PersistentVolumeClaim", claimReadiness],
  ["apps/Deployment", deploymentReadiness],
  ["apps/StatefulSet", statefulSetReadiness],
  ["apps/DaemonSet", daemonSetReadiness],
  ["apps/ReplicaSet", replicaSetReadiness],
  ["batch/Job", jobReadiness],
  ["apiextensions.k8s.io/CustomResourceDefinition", definitionReadiness],
]);

/** The status of an object at hand (spec 20 §9.3): the rules every kind shares, then those of its kind. */
export function readinessOf(object: KubeObject): Readiness {
  const shared = sharedReadiness(object);
  if (shared !== undefined) return shared;
  const { group } = splitApiVersion(object.apiVersion);
  return (BY_KIND.get(`${group}/${object.kind}`) ?? otherReadiness)(object);
}

function sharedReadiness(object: KubeObject): Readiness | undefined {
  if (object.metadata.deletionTimestamp !== undefined) {
    return { status: "Terminating", message: "the object is being deleted" };
  }
  const observed = asNumber(at(object["status"], "observedGeneration"));
  const generation = asNumber(object.metadata.generation);
  if (observed !== undefined && generation !== undefined && observed !== generation) {
    return inProgress("its controller has not seen the newest generation yet");
  }
  for (const condition of conditionsOf(object)) {
    if (condition.status !== "True") continue;
    if (condition.type === "Reconciling") return inProgress(conditionText(condition));
    if (condition.type === "Stalled") return failed(conditionText(condition));
  }
  return undefined;
}

function existing(object: KubeObject): Readiness {
  return current(`the ${object.kind} exists`);
}

function otherReadiness(object: KubeObject): Readiness {
  const ready = conditionOf(object, "Ready");
  if (ready === undefined) return current(`the ${object.kind} exists`);
  return ready.status === "True" ? current("Ready is True") : inProgress(conditionText(ready));
}
