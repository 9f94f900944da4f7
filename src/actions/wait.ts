import type { Action } from "../api/stage-set.ts";
import { positiveMs } from "../domain/timing.ts";
import { isDenied } from "../identity/identity-error.ts";
import { isKubeError } from "../kube/error.ts";
import { getRequest } from "../kube/request.ts";
import { deadline, DeadlineExceeded } from "../lib/abort.ts";
import { sleep } from "../lib/clock.ts";
import { durationMs, formatDuration } from "../lib/duration.ts";
import { asObject, at } from "../lib/json.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { ActionError } from "./action-error.ts";
import type { Attempt } from "./context.ts";
import { describeTarget, nameOf, refused, resourceOf } from "./target.ts";

/** How long an expression may stay false (spec 30 §3.3), and how often it is asked. */
const defaultTimeoutMs = 5 * 60_000;
const lookMs = 2_000;

/**
 * Sleeps, or waits until the expression is true of the target. What is missing or cannot be read is not true yet: only the
 * time that is out fails the wait, and says what was missing last.
 *
 * @throws {ActionError}
 */
export async function waitFor(wait: NonNullable<Action["wait"]>, attempt: Attempt): Promise<void> {
  const { clock } = attempt.context;
  if (wait.duration !== undefined) {
    attempt.waitsFor(`waiting for ${wait.duration}`);
    await sleep(clock, Math.max(0, durationMs(wait.duration) ?? 0), attempt.signal);
    return;
  }
  const { target, expr = "" } = wait;
  if (expr === "" || target === undefined) return;
  const timeoutMs = positiveMs(wait.timeout) ?? defaultTimeoutMs;
  using bound = deadline(clock, { timeoutMs, what: "waiting", parent: attempt.signal });
  let cause = "it was not read yet";
  try {
    for (;;) {
      const missing = await lacks(target, expr, { ...attempt, signal: bound.signal });
      if (missing === undefined) return;
      cause = missing;
      attempt.waitsFor(cause);
      await sleep(clock, lookMs, bound.signal);
    }
  } catch (error) {
    if (!attempt.signal.aborted && bound.signal.aborted && bound.signal.reason instanceof DeadlineExceeded)
      throw new ActionError(`timed out after ${formatDuration(timeoutMs)}: ${cause}`, { cause: error });
    throw error;
  }
}

/** What the target lacks; undefined: the expression is true of it. */
async function lacks(
  target: NonNullable<NonNullable<Action["wait"]>["target"]>,
  expression: string,
  attempt: Attempt,
): Promise<string | undefined> {
  const shown = `expression "${expression}"`;
  const read = await readTarget(target, attempt);
  if ("cause" in read) return read.cause;
  const result = await attempt.context.evaluate(expression, read.object, attempt.signal);
  switch (result.kind) {
    case "value":
      return result.value ? undefined : `${shown} is not true yet of ${read.what}`;
    case "error":
      return `${shown} cannot be evaluated on ${read.what}: ${result.message}`;
    case "overBudget":
      throw new ActionError(`${shown} exceeds its budget`);
  }
}

async function readTarget(
  target: NonNullable<NonNullable<Action["wait"]>["target"]>,
  attempt: Attempt,
): Promise<{ readonly what: string; readonly object: KubeObject } | { readonly cause: string }> {
  let what = target.kind;
  try {
    const resource = await resourceOf(target, attempt);
    const name = nameOf(resource, target, attempt);
    what = describeTarget(resource, name);
    const object = await attempt.access.client.send(getRequest(resource, name), { signal: attempt.signal });
    if (asObject(at(object, "metadata")) === undefined) return { cause: `Cannot read ${what}: it has no metadata` };
    // The API server guarantees apiVersion, kind and metadata.name of every object it answers with.
    return { what, object: object as KubeObject };
  } catch (error) {
    if (attempt.signal.aborted || isDenied(error)) throw refused(`Cannot read ${what}`, error);
    if (isKubeError(error, "NotFound")) return { cause: `${what} does not exist` };
    const failed = error instanceof ActionError ? error : refused(`Cannot read ${what}`, error);
    // A kind may be served later; whatever else refused may let it pass then.
    if (failed instanceof ActionError) return { cause: failed.message };
    throw failed;
  }
}
