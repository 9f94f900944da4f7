import type { KubeObject } from "../../lib/kube-object.ts";
import { asArray, asNumber, asObject, asText, at } from "../../lib/json.ts";

/**
 * What one object says about itself (spec 20 §9.3). `NotFound` and `Unknown` (unreadable) come from those who read;
 * an object at hand never has them. The message is short and stable: it depends on nothing but the object.
 */
export interface Readiness {
  readonly status: "Current" | "InProgress" | "Failed" | "Terminating" | "NotFound" | "Unknown";
  readonly message: string;
}

/** The object is as wanted. */
export function current(message: string): Readiness {
  return { status: "Current", message };
}

/** The object may become as wanted by itself. */
export function inProgress(message: string): Readiness {
  return { status: "InProgress", message };
}

/** The object has given up. */
export function failed(message: string): Readiness {
  return { status: "Failed", message };
}

/** One entry of `status.conditions`; absent texts are empty. */
export interface ObjectCondition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

/** `status.conditions` in list order; entries that are no condition are left out. */
export function conditionsOf(object: KubeObject): readonly ObjectCondition[] {
  return asArray(at(object["status"], "conditions")).flatMap((entry) => {
    const condition = asObject(entry);
    const type = asText(condition?.["type"]);
    if (condition === undefined || type === undefined) return [];
    return [
      {
        type,
        status: asText(condition["status"]) ?? "",
        reason: asText(condition["reason"]) ?? "",
        message: asText(condition["message"]) ?? "",
      },
    ];
  });
}

/** The first condition of a type. */
export function conditionOf(object: KubeObject, type: string): ObjectCondition | undefined {
  return conditionsOf(object).find((condition) => condition.type === type);
}

/** `Ready is False: NotLinked: no endpoint`, without the parts the condition does not have. */
export function conditionText(condition: ObjectCondition): string {
  return [`${condition.type} is ${condition.status}`, condition.reason, condition.message]
    .filter((part) => part !== "")
    .join(": ");
}

/** A number of `status`; the API leaves zeros out. */
export function statusNumber(object: KubeObject, field: string): number {
  return asNumber(at(object["status"], field)) ?? 0;
}

/** `spec.replicas`; 1 when unset, as the API server defaults it. */
export function wantedReplicas(object: KubeObject): number {
  return asNumber(at(object["spec"], "replicas")) ?? 1;
}

/** `1 of 3 replicas are available` */
export function partOf(have: number, want: number, what: string): string {
  return `${String(have)} of ${String(want)} ${what}`;
}
