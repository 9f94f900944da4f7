import { asArray, asNumber, asObject, asText, at } from "../../lib/json.ts";
import { splitApiVersion, type KubeObject } from "../../lib/kube-object.ts";
import { causeOfPods, concise, podCause, type PodCause } from "./pod-cause.ts";
import { conditionOf } from "./verdict.ts";

/** Where the pods of a workload's newest state are found, and how they are told from those of others. */
export interface WorkloadPods {
  readonly namespace: string;
  /** Requires at least one label to have a value, so that it never means every pod of the namespace. */
  readonly labelSelector: string;
  readonly owner: { readonly uid: string; readonly name: string };
}

/** What can explain an object that is not ready. */
export interface Explanation {
  /** Told by the object itself. */
  readonly cause: PodCause | undefined;
  /** To be asked; undefined when the object is no workload, or none of its pods can be of its newest state. */
  readonly pods: WorkloadPods | undefined;
}

const nothing: Explanation = { cause: undefined, pods: undefined };

/** Only for objects that are not ready. */
export function explanationOf(object: KubeObject): Explanation {
  const { group } = splitApiVersion(object.apiVersion);
  if (group === "" && object.kind === "Pod") return { cause: podCause(object), pods: undefined };
  // What its status says is about pods that are going.
  const observed = asNumber(at(object["status"], "observedGeneration")) ?? object.metadata.generation;
  if (observed !== object.metadata.generation) return nothing;
  const pods = podsOf(object);
  const refused = conditionOf(object, "ReplicaFailure");
  const cause: PodCause | undefined =
    refused?.status === "True"
      ? { text: concise(`pods cannot be created: ${refused.message}`), isStuck: false }
      : undefined;
  return cause === undefined && pods === undefined ? nothing : { cause, pods };
}

/** The cause among what was listed; pods of other owners that carry the same labels do not count. */
export function causeAmong(listed: readonly KubeObject[], { owner }: WorkloadPods): PodCause | undefined {
  return causeOfPods(listed.filter((pod) => isOwnedBy(pod, owner)));
}

function podsOf(object: KubeObject): WorkloadPods | undefined {
  const { uid, name, namespace } = object.metadata;
  // Custom workloads, such as rollouts, have both fields too.
  const selector = asObject(at(object["spec"], "selector"));
  const isWorkload = at(object["spec"], "template", "spec", "containers") !== undefined;
  if (uid === undefined || namespace === undefined || selector === undefined || !isWorkload) return undefined;
  const required = requiredLabels(selector);
  const newest = newestLabel(object);
  if (required === undefined || newest === "none yet") return undefined;
  const labelSelector = [...required, ...(newest === undefined ? [] : [newest])].join(",");
  return { namespace, labelSelector, owner: { uid, name } };
}

/** The selector as a query spells it; undefined when it requires no value of any label, or has a form nobody knows. */
function requiredLabels(selector: Readonly<Record<string, unknown>>): readonly string[] | undefined {
  const exact = Object.entries(asObject(selector["matchLabels"]) ?? {}).map(
    ([key, value]) => `${key}=${String(value)}`,
  );
  const terms: string[] = [...exact];
  let positive = exact.length > 0;
  for (const expression of asArray(selector["matchExpressions"])) {
    const key = asText(at(expression, "key"));
    const values = asArray(at(expression, "values")).map(String).join(",");
    if (key === undefined) return undefined;
    switch (at(expression, "operator")) {
      case "In":
        terms.push(`${key} in (${values})`);
        positive = true;
        break;
      case "NotIn":
        terms.push(`${key} notin (${values})`);
        break;
      case "Exists":
        terms.push(key);
        break;
      case "DoesNotExist":
        terms.push(`!${key}`);
        break;
      default:
        return undefined;
    }
  }
  return positive ? terms : undefined;
}

/**
 * The label that tells pods of the newest template from older ones, where the workload says what it is: those that are
 * about to be replaced explain nothing. `none yet`: no pod of it exists.
 */
function newestLabel(object: KubeObject): string | undefined {
  const { group } = splitApiVersion(object.apiVersion);
  const status = object["status"];
  if (group !== "apps") return undefined;
  switch (object.kind) {
    case "Deployment": {
      if ((asNumber(at(status, "updatedReplicas")) ?? 0) === 0) return "none yet";
      // `ReplicaSet "web-5d4f8c7b9" is progressing.`: the one place where a Deployment names its newest ReplicaSet.
      const named = /"([^"]+)"/.exec(conditionOf(object, "Progressing")?.message ?? "")?.[1] ?? "";
      const prefix = `${object.metadata.name}-`;
      const hash = named.startsWith(prefix) ? named.slice(prefix.length) : "";
      return /^[a-z0-9]+$/.test(hash) ? `pod-template-hash=${hash}` : undefined;
    }
    case "StatefulSet": {
      const revision = asText(at(status, "updateRevision")) ?? "";
      return revision === "" ? "none yet" : `controller-revision-hash=${revision}`;
    }
    case "DaemonSet": {
      const generation = object.metadata.annotations?.["deprecated.daemonset.template.generation"];
      return generation === undefined ? undefined : `pod-template-generation=${generation}`;
    }
    default:
      return undefined;
  }
}

/** By itself, or, as a Deployment's, by a ReplicaSet that is named after it. */
function isOwnedBy(pod: KubeObject, owner: WorkloadPods["owner"]): boolean {
  const controller = pod.metadata.ownerReferences?.find((each) => each.controller === true);
  if (controller?.uid === owner.uid) return true;
  return controller?.kind === "ReplicaSet" && new RegExp(`^${escaped(owner.name)}-[a-z0-9]+$`).test(controller.name);
}

function escaped(text: string): string {
  return text.replaceAll(".", "\\.");
}
