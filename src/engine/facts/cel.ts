import { ComputeError } from "../../compute/compute-error.ts";
import type { ComputePool } from "../../compute/pool.ts";
import { asText, at } from "../../lib/json.ts";
import type { KubeObject } from "../../lib/kube-object.ts";

/** Evaluation of ready-check expressions, off the event loop and within a budget (spec 10 §2). */
export interface Cel {
  /** Compiles without evaluating. */
  check(
    expression: string,
    o: { readonly signal: AbortSignal },
  ): Promise<{ readonly kind: "valid" } | { readonly kind: "invalid"; readonly message: string }>;
  evaluate(
    expression: string,
    object: KubeObject,
    o: { readonly queue: string; readonly signal: AbortSignal },
  ): Promise<CelResult>;
}

/** `error`: not evaluable on this object, which counts as not true yet. */
export type CelResult =
  | { readonly kind: "value"; readonly value: boolean }
  | { readonly kind: "error" | "overBudget"; readonly message: string };

export interface CelOptions {
  readonly compute: ComputePool;
  /** Path of the evaluator; asked for when the first expression is met. */
  readonly module: () => Promise<string>;
}

/** Of one evaluation; the first one in a worker also loads the evaluator. */
const evaluationMs = 1_000;
const loadMs = 4_000;
/** Checked expressions are remembered, the oldest forgotten first. */
const mostRemembered = 1_000;

export function createCel({ compute, module }: CelOptions): Cel {
  const checked = new Map<string, Awaited<ReturnType<Cel["check"]>>>();
  let loaded = false;
  const run = async (
    input: { readonly expression: string; readonly object?: string },
    o: { readonly queue: string; readonly signal: AbortSignal },
  ): Promise<unknown> => {
    const timeoutMs = loaded ? evaluationMs : evaluationMs + loadMs;
    try {
      const reply = await compute.run("cel", { ...input, module: await module() }, { ...o, timeoutMs });
      loaded = true;
      return reply;
    } catch (error) {
      if (!(error instanceof ComputeError)) throw error;
      // A killed worker took its evaluator along.
      loaded = false;
      if (error.reason === "TimedOut" || error.reason === "OutOfMemory")
        return { kind: "overBudget", message: error.message };
      return { kind: "error", message: error.message };
    }
  };
  return {
    async check(expression, { signal }) {
      const known = checked.get(expression);
      if (known !== undefined) return known;
      const reply = await run({ expression }, { queue: "", signal });
      const kind = at(reply, "kind");
      const message = asText(at(reply, "message")) ?? "";
      const result = kind === "ok" ? ({ kind: "valid" } as const) : ({ kind: "invalid", message } as const);
      checked.set(expression, result);
      const oldest = checked.keys().next().value;
      if (checked.size > mostRemembered && oldest !== undefined) checked.delete(oldest);
      return result;
    },
    async evaluate(expression, object, o) {
      const { managedFields: _managedFields, ...metadata } = object.metadata;
      const reply = await run({ expression, object: JSON.stringify({ ...object, metadata }) }, o);
      const kind = at(reply, "kind");
      if (kind === "value") return { kind, value: at(reply, "value") === true };
      const message = asText(at(reply, "message")) ?? "";
      return { kind: kind === "overBudget" ? kind : "error", message };
    },
  };
}
