import type { KubeObject } from "../../lib/kube-object.ts";
import { asNumber, at } from "../../lib/json.ts";
import type { Readiness } from "./verdict.ts";
import {
  conditionOf,
  conditionText,
  current,
  failed,
  inProgress,
  partOf,
  statusNumber,
  wantedReplicas,
} from "./verdict.ts";

/** What the API server stores for "no progress deadline". */
const NO_DEADLINE = 2_147_483_647;

/** Deployment of group apps. */
export function deploymentReadiness(object: KubeObject): Readiness {
  const progressing = conditionOf(object, "Progressing");
  if (progressing?.reason === "ProgressDeadlineExceeded") return failed(conditionText(progressing));
  const wanted = wantedReplicas(object);
  const replicas = statusNumber(object, "replicas");
  const updated = statusNumber(object, "updatedReplicas");
  const available = statusNumber(object, "availableReplicas");
  const ready = statusNumber(object, "readyReplicas");
  if (replicas < wanted) return inProgress(partOf(replicas, wanted, "replicas exist"));
  if (updated < wanted) return inProgress(partOf(updated, wanted, "replicas are updated"));
  if (replicas > wanted) return inProgress(oldReplicas(replicas - wanted));
  if (available < updated) return inProgress(partOf(available, updated, "replicas are available"));
  if (ready < wanted) return inProgress(partOf(ready, wanted, "replicas are ready"));
  const deadline = asNumber(at(object["spec"], "progressDeadlineSeconds")) ?? NO_DEADLINE;
  const rolledOut = progressing?.status === "True" && progressing.reason === "NewReplicaSetAvailable";
  if (!rolledOut && deadline !== NO_DEADLINE) return inProgress("the new ReplicaSet is not reported as available");
  if (conditionOf(object, "Available")?.status !== "True") return inProgress("the Deployment is not available");
  return current(`${String(wanted)} replicas are available`);
}

/** ReplicaSet of group apps. */
export function replicaSetReadiness(object: KubeObject): Readiness {
  const failure = conditionOf(object, "ReplicaFailure");
  if (failure?.status === "True") return inProgress(conditionText(failure));
  const wanted = wantedReplicas(object);
  const labelled = statusNumber(object, "fullyLabeledReplicas");
  const available = statusNumber(object, "availableReplicas");
  const ready = statusNumber(object, "readyReplicas");
  const replicas = statusNumber(object, "replicas");
  if (wanted > labelled) return inProgress(partOf(labelled, wanted, "replicas are labelled"));
  if (wanted > available) return inProgress(partOf(available, wanted, "replicas are available"));
  if (wanted > ready) return inProgress(partOf(ready, wanted, "replicas are ready"));
  if (replicas > wanted) return inProgress(oldReplicas(replicas - wanted));
  return current(`${String(wanted)} replicas are available`);
}

/** StatefulSet of group apps. */
export function statefulSetReadiness(object: KubeObject): Readiness {
  if (at(object["spec"], "updateStrategy", "type") === "OnDelete") return current("pods are updated when deleted");
  const wanted = wantedReplicas(object);
  const replicas = statusNumber(object, "replicas");
  const ready = statusNumber(object, "readyReplicas");
  if (replicas < wanted) return inProgress(partOf(replicas, wanted, "replicas exist"));
  if (ready < wanted) return inProgress(partOf(ready, wanted, "replicas are ready"));
  if (replicas > wanted) return inProgress(oldReplicas(replicas - wanted));
  const partition = asNumber(at(object["spec"], "updateStrategy", "rollingUpdate", "partition"));
  if (partition !== undefined) {
    const updated = statusNumber(object, "updatedReplicas");
    const toUpdate = wanted - partition;
    return updated < toUpdate
      ? inProgress(partOf(updated, toUpdate, "replicas above the partition are updated"))
      : current(`${String(updated)} replicas above the partition are updated`);
  }
  const currentReplicas = statusNumber(object, "currentReplicas");
  if (currentReplicas < wanted) return inProgress(partOf(currentReplicas, wanted, "replicas are current"));
  if (at(object["status"], "currentRevision") !== at(object["status"], "updateRevision")) {
    return inProgress("the new revision is not rolled out to every replica");
  }
  return current(`${String(wanted)} replicas are ready`);
}

/** DaemonSet of group apps. */
export function daemonSetReadiness(object: KubeObject): Readiness {
  const desired = asNumber(at(object["status"], "desiredNumberScheduled"));
  const observed = asNumber(at(object["status"], "observedGeneration"));
  if (object.metadata.generation === undefined || observed === undefined || desired === undefined) {
    return inProgress("the controller has not reported on it yet");
  }
  const scheduled = statusNumber(object, "currentNumberScheduled");
  const updated = statusNumber(object, "updatedNumberScheduled");
  const available = statusNumber(object, "numberAvailable");
  const ready = statusNumber(object, "numberReady");
  const onDelete = at(object["spec"], "updateStrategy", "type") === "OnDelete";
  if (desired > scheduled) return inProgress(partOf(scheduled, desired, "pods are scheduled"));
  if (desired > updated && !onDelete) return inProgress(partOf(updated, desired, "pods are updated"));
  if (desired > available) return inProgress(partOf(available, desired, "pods are available"));
  if (desired > ready) return inProgress(partOf(ready, desired, "pods are ready"));
  return current(`${String(desired)} pods are ready`);
}

function oldReplicas(count: number): string {
  return `${String(count)} old replicas are still there`;
}
