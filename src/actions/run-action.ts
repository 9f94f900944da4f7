import type { Action } from "../api/stage-set.ts";
import type { ActionOutcome } from "../domain/actions/action-run.ts";
import type { Witness } from "../domain/actions/stage-ledger.ts";
import { positiveMs } from "../domain/timing.ts";
import { deadline, DeadlineExceeded, linkSignals } from "../lib/abort.ts";
import { sleep } from "../lib/clock.ts";
import { formatDuration } from "../lib/duration.ts";
import { ActionError } from "./action-error.ts";
import { applyArtifact } from "./apply.ts";
import type { ActionContext, Attempt, CreatedJob } from "./context.ts";
import { deleteTarget } from "./delete.ts";
import { sendHttp } from "./http.ts";
import { runJobs } from "./job.ts";
import { patchTarget } from "./patch.ts";
import { refused } from "./target.ts";
import { waitFor } from "./wait.ts";
import { awaitWitness } from "./witness.ts";

/** Before attempt n+1: n times this, at most {@link longestBackoffMs} (spec 30 §2.2). */
const backoffMs = 500;
const longestBackoffMs = 5_000;

/**
 * Runs one action with its retries, within its `timeout`. A failure is an outcome.
 *
 * @throws the reason of the context's signal, when that ends it
 */
export async function runAction(action: Action, context: ActionContext): Promise<ActionOutcome> {
  const timeoutMs = positiveMs(action.timeout);
  using bound =
    timeoutMs === undefined
      ? linkSignals(context.signal)
      : deadline(context.clock, { timeoutMs, what: "the action", parent: context.signal });
  let waits: string | undefined;
  let last: ActionError | undefined;
  let attempts = (action.retries ?? 0) + 1;
  const deleting = { uid: undefined };
  for (let attempt = 1; ; attempt++) {
    try {
      if (attempt > 1) await sleep(context.clock, delayMs(attempt - 1, last), bound.signal);
      const attempted = {
        ...{ context, signal: bound.signal, deleting },
        bounded: timeoutMs !== undefined,
        waitsFor: (cause: string) => {
          waits = cause;
        },
      };
      const jobs = await tryOnce(action, attempted);
      // Its effect is there: what fails from here on is no reason for another attempt.
      attempts = attempt;
      const witness = await witnessOf(action, attempted);
      return { kind: "completed", jobs, ...(witness === undefined ? {} : { witness }) };
    } catch (error) {
      context.signal.throwIfAborted();
      if (bound.signal.aborted) return timedOut(timeoutMs ?? 0, waits ?? last?.message);
      const failed = asActionError(error);
      if (failed.retry === "final" || attempt >= attempts)
        return { kind: "failed", cause: failed.message, class: failed.class };
      last = failed;
    }
  }
}

async function witnessOf({ completionAnchor }: Action, o: Omit<Attempt, "access">): Promise<Witness | undefined> {
  if (completionAnchor === undefined) return undefined;
  return awaitWitness(completionAnchor, { ...o, access: await accessOf(o) });
}

/** Gives the Jobs it leaves to be deleted. */
async function tryOnce(action: Action, o: Omit<Attempt, "access">): Promise<readonly CreatedJob[]> {
  const attempt: Attempt = { ...o, access: await accessOf(o) };
  if (action.job !== undefined) return runJobs(action.job, attempt);
  await tryOther(action, attempt);
  return [];
}

async function tryOther(action: Action, attempt: Attempt): Promise<void> {
  if (action.patch !== undefined) return patchTarget(action.patch, attempt);
  if (action.delete !== undefined) return deleteTarget(action.delete, attempt);
  if (action.wait !== undefined) return waitFor(action.wait, attempt);
  if (action.apply !== undefined) return applyArtifact(action.apply, attempt);
  if (action.http !== undefined) return sendHttp(action.http, attempt);
  throw new ActionError("it does nothing", { retry: "final" });
}

async function accessOf({ context, signal }: Omit<Attempt, "access">): Promise<Attempt["access"]> {
  try {
    return await context.access(signal);
  } catch (error) {
    throw refused("Cannot act", error);
  }
}

/** What the server asked for counts while it is short. */
function delayMs(attempt: number, last: ActionError | undefined): number {
  const asked = last?.retryAfterMs;
  if (asked !== undefined && asked > 0 && asked <= longestBackoffMs) return asked;
  return Math.min(backoffMs * attempt, longestBackoffMs);
}

function timedOut(timeoutMs: number, cause: string | undefined): ActionOutcome {
  const after = `timed out after ${formatDuration(timeoutMs)}`;
  return { kind: "failed", cause: cause === undefined ? after : `${after}: ${cause}`, class: "ordinary" };
}

/** What is neither a refusal nor a lost deadline is a bug, and not for a retry to hide. */
function asActionError(error: unknown): ActionError {
  const known = refused("Cannot act", error);
  if (known instanceof ActionError) return known;
  if (known instanceof DeadlineExceeded) return new ActionError(known.message);
  throw known;
}
