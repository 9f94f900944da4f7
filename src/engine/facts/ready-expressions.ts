import type { Stage } from "../../api/stage-set.ts";
import type { Waiting } from "../../domain/pass/state.ts";
import { splitApiVersion, type KubeObject } from "../../lib/kube-object.ts";
import type { Cel } from "./cel.ts";

type Rule = NonNullable<NonNullable<Stage["readyChecks"]>["exprs"]>[number];

export interface ExpressionVerdict {
  /** Why the stage failed at once. */
  readonly failed: string | undefined;
  readonly waiting: readonly Waiting[];
  /** Some object is neither current nor in progress. */
  readonly stuck: boolean;
}

/** Evaluates every rule over the objects of its group and kind (spec 20 §9.4). */
export async function judgeExpressions(
  cel: Cel,
  work: {
    readonly rules: readonly Rule[];
    readonly objects: readonly KubeObject[];
    readonly queue: string;
    readonly signal: AbortSignal;
  },
): Promise<ExpressionVerdict> {
  const judged = await Promise.all(
    work.rules.flatMap((rule) =>
      work.objects
        .filter((object) => object.kind === rule.kind && sameGroup(object.apiVersion, rule.apiVersion))
        .map((object) => judge(cel, { rule, object, queue: work.queue, signal: work.signal })),
    ),
  );
  return {
    failed: judged.find((each) => each.failed !== undefined)?.failed,
    waiting: judged.flatMap((each) => each.waiting ?? []),
    stuck: judged.some((each) => each.stuck),
  };
}

interface Judged {
  readonly failed: string | undefined;
  readonly waiting: Waiting | undefined;
  readonly stuck: boolean;
}

async function judge(
  cel: Cel,
  work: { readonly rule: Rule; readonly object: KubeObject; readonly queue: string; readonly signal: AbortSignal },
): Promise<Judged> {
  const { rule, object } = work;
  const evaluate = (expression: string | undefined): ReturnType<Cel["evaluate"]> | undefined =>
    expression === undefined || expression === ""
      ? undefined
      : cel.evaluate(expression, object, { queue: work.queue, signal: work.signal });
  const { namespace = "", name } = object.metadata;
  const failed = await evaluate(rule.failed);
  if (failed?.kind === "value" && failed.value)
    return {
      failed: `${object.kind} ${namespace}/${name} matches failed expression "${rule.failed ?? ""}"${messageOf(object)}`,
      waiting: undefined,
      stuck: false,
    };
  const waiting = (message: string): Waiting => ({ kind: object.kind, namespace, name, status: "InProgress", message });
  if (failed?.kind === "overBudget")
    return { failed: undefined, waiting: waiting(overBudget(rule.failed)), stuck: true };
  const current = await evaluate(rule.current);
  if (current === undefined || (current.kind === "value" && current.value))
    return { failed: undefined, waiting: undefined, stuck: false };
  if (current.kind === "overBudget")
    return { failed: undefined, waiting: waiting(overBudget(rule.current)), stuck: true };
  const inProgress = await evaluate(rule.inProgress);
  if (inProgress?.kind === "overBudget")
    return { failed: undefined, waiting: waiting(overBudget(rule.inProgress)), stuck: true };
  const progressing = inProgress?.kind === "value" && inProgress.value;
  return {
    failed: undefined,
    waiting: waiting(`expression "${rule.current ?? ""}" is not true yet`),
    stuck: !progressing,
  };
}

/** The object's own word on why it failed: its first condition message, as delivery controllers write it. */
function messageOf(object: KubeObject): string {
  const status = object["status"];
  const message =
    typeof status === "object" && status !== null && "message" in status && typeof status.message === "string"
      ? status.message
      : undefined;
  return message === undefined || message === "" ? "" : `: ${message.slice(0, 1_000)}`;
}

function overBudget(expression: string | undefined): string {
  return `expression "${expression ?? ""}" exceeds its budget`;
}

function sameGroup(a: string, b: string): boolean {
  return splitApiVersion(a).group === splitApiVersion(b).group;
}
