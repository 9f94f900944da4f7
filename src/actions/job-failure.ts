import { listRequest, type ApiResource } from "../kube/request.ts";
import { KubeError } from "../kube/error.ts";
import { asArray, asNumber, asText, at } from "../lib/json.ts";
import { ActionError } from "./action-error.ts";
import type { Attempt, CreatedJob } from "./context.ts";

const pods: ApiResource = { group: "", version: "v1", kind: "Pod", plural: "pods", namespaced: true, verbs: [] };
/** Shown of what a container said at its end. */
const mostShown = 1_024;

/** Why a Job failed: its condition, and what its newest pod says if that may be read. */
export async function jobFailure(job: CreatedJob, condition: unknown, attempt: Attempt): Promise<ActionError> {
  const reason = asText(at(condition, "reason")) ?? "";
  const message = asText(at(condition, "message")) ?? "";
  const said = [reason, message].filter((text) => text !== "").join(": ");
  const pod = await podSays(job, attempt);
  return new ActionError(
    `Job ${job.namespace}/${job.name} failed${said === "" ? "" : `: ${said}`}${pod === "" ? "" : ` (${pod})`}`,
  );
}

async function podSays({ namespace, name }: CreatedJob, attempt: Attempt): Promise<string> {
  try {
    const request = listRequest(pods, { namespace, labelSelector: `batch.kubernetes.io/job-name=${name}`, limit: 500 });
    const found = asArray(at(await attempt.access.client.send(request, { signal: attempt.signal }), "items"));
    const created = (pod: unknown): string => asText(at(pod, "metadata", "creationTimestamp")) ?? "";
    const newest = found.toSorted((a, b) => (created(a) < created(b) ? 1 : -1))[0];
    const statuses = [
      ...asArray(at(newest, "status", "initContainerStatuses")),
      ...asArray(at(newest, "status", "containerStatuses")),
    ];
    const ended = statuses.find((status) => (asNumber(at(status, "state", "terminated", "exitCode")) ?? 0) !== 0);
    if (ended === undefined) return "";
    const terminated = at(ended, "state", "terminated");
    const parts = [`exit code ${asNumber(at(terminated, "exitCode")) ?? 0}`, asText(at(terminated, "reason")) ?? ""];
    const last = (asText(at(terminated, "message")) ?? "").trim().slice(-mostShown);
    return [...parts, last].filter((part) => part !== "").join(", ");
  } catch (error) {
    // Whoever may not list pods learns less.
    if (error instanceof KubeError) return "";
    throw error;
  }
}
