import type { KubeObject } from "../../lib/kube-object.ts";
import { splitApiVersion } from "../../lib/kube-object.ts";
import { asArray, asNumber, asText, at } from "../../lib/json.ts";
import type { Readiness } from "./verdict.ts";
import { conditionOf, conditionText, current, failed, inProgress } from "./verdict.ts";

/** Pod. A pending one is in progress also when unschedulable: an autoscaler may help. */
export function podReadiness(object: KubeObject): Readiness {
  const phase = asText(at(object["status"], "phase"));
  if (phase === "Succeeded") return current("the Pod has completed");
  if (phase === "Failed") return failed(withDetail("the Pod has failed", asText(at(object["status"], "message"))));
  if (phase !== "Running") return inProgress(`the Pod is ${phase ?? "not scheduled yet"}`);
  const ready = conditionOf(object, "Ready");
  if (ready?.status === "True") return current("the Pod is ready");
  const crashing = crashLoopingContainers(object);
  if (crashing.length > 0) return failed(`in a crash loop: ${crashing.map((name) => `"${name}"`).join(", ")}`);
  return inProgress("the Pod runs but is not ready");
}

/** Job of group batch. It is current only when it has finished. */
export function jobReadiness(object: KubeObject): Readiness {
  if (conditionOf(object, "Complete")?.status === "True") return current("the Job has completed");
  const failure = conditionOf(object, "Failed");
  if (failure?.status === "True") return failed(conditionText(failure));
  return inProgress("the Job has not finished");
}

/** A Job with `ttlSecondsAfterFinished`: Kubernetes removes it some time after it ended. */
export function isExpiringJob(object: KubeObject): boolean {
  const { group } = splitApiVersion(object.apiVersion);
  return (
    group === "batch" && object.kind === "Job" && asNumber(at(object["spec"], "ttlSecondsAfterFinished")) !== undefined
  );
}

/** What an expiring Job is once it was seen and is not there any more. */
export const expired: Readiness = current("the Job has ended and was removed");

function crashLoopingContainers(object: KubeObject): readonly string[] {
  const status = object["status"];
  const containers = [...asArray(at(status, "initContainerStatuses")), ...asArray(at(status, "containerStatuses"))];
  return containers
    .filter((container) => at(container, "state", "waiting", "reason") === "CrashLoopBackOff")
    .map((container) => asText(at(container, "name")) ?? "")
    .toSorted();
}

function withDetail(text: string, detail: string | undefined): string {
  return detail === undefined ? text : `${text}: ${detail}`;
}
