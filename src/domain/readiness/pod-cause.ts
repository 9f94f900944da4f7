import { asArray, asNumber, asObject, asText, at } from "../../lib/json.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { conditionOf } from "./verdict.ts";

/** Why a pod is not ready, as far as an operator can act on it. */
export interface PodCause {
  /** Names the container; depends on nothing that changes while the cause stays (no back-off times, no pod names). */
  readonly text: string;
  /** Time alone does not help: the image cannot be pulled, or the container cannot be started or keeps crashing. */
  readonly isStuck: boolean;
}

/** Both alternate while an image cannot be pulled. */
const pullReasons: ReadonlySet<string> = new Set(["ImagePullBackOff", "ErrImagePull"]);
/** The image reference or the node's policy is wrong: no pull was tried. */
const imageReasons: ReadonlySet<string> = new Set(["InvalidImageName", "ErrImageNeverPull", "ErrImageInspect"]);
const startReasons: ReadonlySet<string> = new Set([
  "CreateContainerConfigError",
  "CreateContainerError",
  "RunContainerError",
  "PreCreateHookError",
  "PostStartHookError",
]);

/** Longest text of a cause, in characters: programs can end with pages. */
const mostText = 300;

/** On one line, cut at {@link mostText}. */
export function concise(text: string): string {
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length > mostText ? `${line.slice(0, mostText - 1).trimEnd()}…` : line;
}

/** The one cause that says most about pods of which some are not ready: a stuck one first; undefined when none has one. */
export function causeOfPods(pods: readonly KubeObject[]): PodCause | undefined {
  const causes = pods.flatMap((pod) => podCause(pod) ?? []);
  // The order of pods is not stable.
  const texts = causes.toSorted((a, b) => Number(b.isStuck) - Number(a.isStuck) || (a.text < b.text ? -1 : 1));
  return texts[0];
}

/** Undefined: the pod is ready, or is on its way. */
export function podCause(pod: KubeObject): PodCause | undefined {
  const cause = wordyCause(pod);
  return cause === undefined ? undefined : { ...cause, text: concise(cause.text) };
}

function wordyCause(pod: KubeObject): PodCause | undefined {
  const { status } = pod;
  if (pod.metadata.deletionTimestamp !== undefined || conditionOf(pod, "Ready")?.status === "True") return undefined;
  const scheduled = conditionOf(pod, "PodScheduled");
  if (scheduled?.status === "False" && scheduled.reason === "Unschedulable")
    return { text: `a pod cannot be scheduled: ${scheduled.message} (Unschedulable)`, isStuck: false };
  const containers = [...asArray(at(status, "initContainerStatuses")), ...asArray(at(status, "containerStatuses"))];
  for (const container of containers) {
    const cause = containerCause(container, specImage(pod, asText(at(container, "name"))));
    if (cause !== undefined) return cause;
  }
  if (at(status, "phase") !== "Failed") return undefined;
  const reason = asText(at(status, "reason"));
  return { text: withReason("a pod has failed", asText(at(status, "message")), reason), isStuck: false };
}

function containerCause(container: unknown, image: string | undefined): PodCause | undefined {
  const name = `container "${asText(at(container, "name")) ?? ""}"`;
  const waiting = asText(at(container, "state", "waiting", "reason")) ?? "";
  const message = asText(at(container, "state", "waiting", "message"));
  const pulled = `${name} cannot pull image "${image ?? asText(at(container, "image")) ?? ""}"`;
  if (pullReasons.has(waiting)) return { text: `${pulled} (ImagePullBackOff)`, isStuck: true };
  if (imageReasons.has(waiting)) return { text: `${pulled} (${waiting})`, isStuck: true };
  if (startReasons.has(waiting))
    return { text: withReason(`${name} cannot be started`, message, waiting), isStuck: true };
  const ended = asObject(at(container, "state", "terminated")) ?? asObject(at(container, "lastState", "terminated"));
  const crashes = waiting === "CrashLoopBackOff" || isCrashingAgain(container, ended);
  if (crashes) return { text: `${name} keeps crashing: ${describeEnd(ended)} (CrashLoopBackOff)`, isStuck: true };
  const exitCode = asNumber(at(container, "state", "terminated", "exitCode")) ?? 0;
  return exitCode === 0 ? undefined : { text: `${name} has failed: ${describeEnd(ended)}`, isStuck: false };
}

/** Between two crashes it runs for a while, or has just ended. */
function isCrashingAgain(container: unknown, ended: Readonly<Record<string, unknown>> | undefined): boolean {
  const restarts = asNumber(at(container, "restartCount")) ?? 0;
  return restarts >= 2 && at(container, "ready") !== true && (asNumber(ended?.["exitCode"]) ?? 0) !== 0;
}

/** `exit code 137, OOMKilled` */
function describeEnd(ended: Readonly<Record<string, unknown>> | undefined): string {
  const exitCode = asNumber(ended?.["exitCode"]);
  const reason = asText(ended?.["reason"]);
  const parts = [
    exitCode === undefined ? [] : [`exit code ${String(exitCode)}`],
    reason === "OOMKilled" ? [reason] : [],
  ];
  return parts.flat().join(", ") || "it does not stay up";
}

function specImage(pod: KubeObject, name: string | undefined): string | undefined {
  const containers = [...asArray(at(pod["spec"], "initContainers")), ...asArray(at(pod["spec"], "containers"))];
  return asText(
    at(
      containers.find((container) => at(container, "name") === name),
      "image",
    ),
  );
}

function withReason(what: string, message: string | undefined, reason: string | undefined): string {
  const detail = message === undefined || message === "" ? "" : `: ${message}`;
  return `${what}${detail}${reason === undefined || reason === "" ? "" : ` (${reason})`}`;
}
