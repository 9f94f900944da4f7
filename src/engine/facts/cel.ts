import { ComputeError } from "../../compute/compute-error.ts";
import type { ComputePool } from "../../compute/pool.ts";
import { asText, at } from "../../lib/json.ts";
import type { KubeObject } from "../../lib/kube-object.ts";

/** Evaluation of ready-check expressions, off the event loop and within a budget (spec 10 §2). */
export interface Cel {
  /** Compiles without evaluating. */
  check(expression: string, o: { readonly signal: AbortSignal }): Promise<CelCheck>;
  evaluate(
    expression: string,
    object: KubeObject,
    o: { readonly queue: string; readonly signal: AbortSignal },
  ): Promise<CelResult>;
}

/** `unknown`: the evaluator gave no answer, because of load for one. */
export type CelCheck = { readonly kind: "valid" } | { readonly kind: "invalid" | "unknown"; readonly message: string };

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
const checkedAtOnce = 64;

export function createCel({ compute, module }: CelOptions): Cel {
  const checked = new Map<string, CelCheck>();
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
      return { kind: "lost", message: error.message };
    }
  };
  return {
    async check(expression, { signal }) {
      const known = checked.get(expression);
      if (known !== undefined) return known;
      const reply = await run({ expression }, { queue: "", signal });
      const kind = at(reply, "kind");
      const message = asText(at(reply, "message")) ?? "";
      // Checking is quick and evaluates nothing: a worker that did not answer says nothing about the expression.
      if (kind === "overBudget" || kind === "lost") return { kind: "unknown", message };
      const result: CelCheck = kind === "ok" ? { kind: "valid" } : { kind: "invalid", message };
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

/** What the compiler says to several expressions. */
export interface CompiledAll {
  /** What is wrong, by expression; those that compile are left out. */
  readonly problems: ReadonlyMap<string, string>;
  /** Why the evaluator had no answer to some. */
  readonly unknown: string | undefined;
}

export async function compileAll(cel: Cel, expressions: readonly string[], signal: AbortSignal): Promise<CompiledAll> {
  const problems = new Map<string, string>();
  let unknown: string | undefined;
  const all = [...new Set(expressions)];
  // In batches: the evaluator's queue is bounded, a spec is not.
  for (let start = 0; start < all.length; start += checkedAtOnce)
    await Promise.all(
      all.slice(start, start + checkedAtOnce).map(async (expression) => {
        const result = await cel.check(expression, { signal });
        if (result.kind === "invalid") problems.set(expression, result.message);
        if (result.kind === "unknown") unknown = result.message;
      }),
    );
  return { problems, unknown };
}
