import { asObject, asText, at } from "../../lib/json.ts";

/**
 * What can keep a StageSet from moving, in the order in which the controller asks (spec 70 §9.2). `controller` comes
 * first: while nobody works, nothing else on record can be trusted.
 */
export const causeKinds = [
  "controller",
  "deleting",
  "suspended",
  "spec",
  "dependency",
  "source",
  "rollback",
  "window",
  "budget",
  "connection",
  "version",
  "migration",
  "approval",
  "preflight",
  "preAction",
  "image",
  "apply",
  "verify",
  "postAction",
  "promotion",
  "prune",
] as const;
export type CauseKind = (typeof causeKinds)[number];

/** `stale`: what is on record may be out of date, because nobody works at it. */
export type WhyState = "ok" | "waiting" | "failing" | "stale";

/** One thing that keeps a StageSet from moving. */
export interface Cause {
  readonly kind: CauseKind;
  readonly stage?: string;
  /** `<Kind>/<name>`, or `<Kind>/<namespace>/<name>` of another namespace. */
  readonly object?: string;
  /** A reason of the Ready condition, a phase of a promotion gate, or what else names the cause in one word. */
  readonly reason: string;
  readonly message: string;
  /** RFC 3339. */
  readonly since?: string;
  /** When it ends by itself, RFC 3339. */
  readonly until?: string;
  /** Who or what ends it. */
  readonly clearedBy?: string;
  /** For a shell: what ends it, or shows more of it. */
  readonly command?: string;
}

/** An object that a stage waits for. */
export interface AwaitedObject {
  readonly stage: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly status: string;
  readonly message: string;
}

/** Why a StageSet does not move: the first thing that blocks it, and what is queued behind (spec 70 §9.2). */
export interface Why {
  readonly namespace: string;
  readonly name: string;
  readonly state: WhyState;
  readonly cause?: Cause;
  readonly others: readonly Cause[];
  readonly objects: readonly AwaitedObject[];
}

/** A cause with what it makes of the StageSet's state. */
export interface JudgedCause {
  readonly state: Exclude<WhyState, "ok">;
  readonly cause: Cause;
}

/** The cause with those of its members that are known. */
export function causeOf(
  members: Pick<Cause, "kind" | "reason" | "message"> & {
    readonly [Member in keyof Cause]?: Cause[Member] | undefined;
  },
): Cause {
  const { kind, reason, message, ...optional } = members;
  const known = Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined && value !== ""));
  return { kind, reason, message, ...known };
}

type Fields = Readonly<Record<string, unknown>>;

/** A condition of a stored status as far as it can be read. */
export interface ConditionView {
  readonly status: string;
  readonly reason: string;
  /** Without the link to a runbook. */
  readonly message: string;
  /** Since when the status is what it is. */
  readonly since: string | undefined;
  /** Since when the reason is what it is: known of `Unknown` alone, the time of a condition moves with its status only. */
  readonly reasonSince: string | undefined;
}

/** Reads the Ready condition, of any version of the status. */
export function readyOf(status: unknown): ConditionView | undefined {
  const conditions = at(status, "conditions");
  const ready = (Array.isArray(conditions) ? conditions : [])
    .map((each): Fields | undefined => asObject(each))
    .find((each) => each?.["type"] === "Ready");
  if (ready === undefined) return undefined;
  const readiness = asText(ready["status"]) ?? "Unknown";
  const since = asText(ready["lastTransitionTime"]);
  return {
    status: readiness,
    reason: asText(ready["reason"]) ?? "",
    message: (asText(ready["message"]) ?? "").replace(/ \(runbook: [^\s()]*\)$/, ""),
    since,
    reasonSince: readiness === "Unknown" ? since : undefined,
  };
}
