import { fieldManager } from "../api/keys.ts";
import { actionAfterAnnotation, actionRunAnnotation } from "../api/keys.ts";
import type { Action } from "../api/stage-set.ts";
import { describeObject } from "../domain/object-id.ts";
import { isKubeError } from "../kube/error.ts";
import { createRequest, deleteRequest, getRequest, type ApiResource, type KubeRequest } from "../kube/request.ts";
import { sendWithRetry } from "../kube/retry.ts";
import { DeadlineExceeded, deadline, linkSignals, Shutdown } from "../lib/abort.ts";
import { sleep } from "../lib/clock.ts";
import { asArray, asText, at } from "../lib/json.ts";
import { ActionError } from "./action-error.ts";
import type { Attempt, CreatedJob } from "./context.ts";
import { jobFailure } from "./job-failure.ts";
import { planJob, type PlannedJob } from "./job-manifest.ts";
import { refused } from "./target.ts";

export const jobs: ApiResource = {
  group: "batch",
  version: "v1",
  kind: "Job",
  plural: "jobs",
  namespaced: true,
  verbs: [],
};

/** Jobs of one action, and how long they may run while the action has no timeout (spec 30 §2.2, §3.4). */
const mostJobs = 50;
const endWithinMs = 10 * 60_000;
const firstLookMs = 200;
const longestLookMs = 2_000;
/** At a Job whose creation was cut off: the server may still be at it. */
const lateLooks = 5;

/**
 * Runs the Jobs of an artifact and waits until all are complete. One that this very run created before is adopted; one
 * that failed is replaced, once it is gone.
 *
 * @returns the Jobs, to be deleted when the completion is on record
 * @throws {ActionError}
 */
export async function runJobs(job: NonNullable<Action["job"]>, attempt: Attempt): Promise<readonly CreatedJob[]> {
  const planned = await planJobs(job, attempt);
  using bound = attempt.bounded
    ? linkSignals(attempt.signal)
    : deadline(attempt.context.clock, { timeoutMs: endWithinMs, what: "the Jobs", parent: attempt.signal });
  const bounded: Attempt = { ...attempt, signal: bound.signal };
  const created: CreatedJob[] = [];
  // Before it is asked for: a request that is cut off may still have created its Job.
  const begun: PlannedJob[] = [];
  try {
    for (const each of planned) {
      begun.push(each);
      created.push(await createOrAdopt(each, bounded));
    }
    await untilComplete(created, bounded);
    return created;
  } catch (error) {
    await letGo({ begun, created }, attempt, { why: error, outOfTime: isOutOfTime(bound.signal) });
    if (!attempt.signal.aborted && isOutOfTime(bound.signal))
      throw new ActionError(`${begun.map(describe).join(", ")}: not complete after 10 minutes`, { cause: error });
    throw error;
  }
}

function isOutOfTime({ aborted, reason }: AbortSignal): boolean {
  return aborted && reason instanceof DeadlineExceeded;
}

async function planJobs(job: NonNullable<Action["job"]>, attempt: Attempt): Promise<readonly PlannedJob[]> {
  const { context } = attempt;
  const labels = { stage: undefined, name: undefined, namespace: undefined };
  const built = await context.build({ sourceRef: job.sourceRef, path: job.path, labels }, attempt);
  const stranger = built.objects.find(({ group, kind }) => group !== "batch" || kind !== "Job");
  if (stranger !== undefined)
    throw new ActionError(`${describeObject(stranger)} of the artifact is no Job: want Jobs alone`, { retry: "final" });
  if (built.objects.length === 0) throw new ActionError("the artifact holds no Job", { retry: "final" });
  if (built.objects.length > mostJobs)
    throw new ActionError(`the artifact holds ${built.objects.length} Jobs, want at most ${mostJobs}`, {
      retry: "final",
    });
  const key = { ...context.run, owner: context.owner, artifactDigest: built.digest, path: job.path ?? "./" };
  return built.objects.map((object) => planJob(object, key, context.isRemote));
}

/** Spec 30 §3.4 step 6. */
async function createOrAdopt(planned: PlannedJob, attempt: Attempt): Promise<CreatedJob> {
  const { namespace, name, body } = planned;
  const what = `Job ${namespace}/${name}`;
  for (;;) {
    try {
      const { client } = attempt.access;
      const live = await client.send(createRequest(jobs, { namespace, fieldManager, object: body }), {
        signal: attempt.signal,
      });
      return createdJob(live);
    } catch (error) {
      if (!isKubeError(error, "AlreadyExists")) throw refused(`Cannot create ${what}`, error);
    }
    const live = await readJob(planned, attempt);
    if (live === undefined) continue;
    if (!isOwn(live, planned))
      throw new ActionError(`${what} exists and is not of this run: its name is taken`, { retry: "final" });
    const going = at(live, "metadata", "deletionTimestamp") !== undefined;
    // A list that runs again at the same key counts no Job of an earlier time as its own: not what it deployed before it was
    // unwound, and not what was asked to run anew.
    const counts = isGated(attempt) && wasMadeAfter(live) === planned.after;
    const spent = counts ? undefined : conditionOf(live, "Complete");
    const failed = (conditionOf(live, "Failed") ?? spent) !== undefined;
    if (!going && !failed) return createdJob(live);
    if (!going) await deleteJob(createdJob(live), attempt);
    await untilGone(createdJob(live), attempt);
  }
}

/** A Job without the annotation was made when nothing was on record, or by a controller that does not write it. */
function wasMadeAfter(live: unknown): string {
  return asText(at(live, "metadata", "annotations", actionAfterAnnotation)) ?? "";
}

function isGated({ context }: Attempt): boolean {
  return !context.run.list.startsWith("onFailure:");
}

async function untilGone(job: CreatedJob, attempt: Attempt): Promise<void> {
  for (let delayMs = firstLookMs; ; delayMs = Math.min(delayMs * 2, longestLookMs)) {
    const live = await readJob(job, attempt);
    if (live === undefined || asText(at(live, "metadata", "uid")) !== job.uid) return;
    attempt.waitsFor(`waiting until ${describe(job)}, of an attempt before, is gone`);
    await sleep(attempt.context.clock, delayMs, attempt.signal);
  }
}

/** A server that cannot tell how a Job is doing ends no Job: only the time that is out does. */
async function untilComplete(created: readonly CreatedJob[], attempt: Attempt): Promise<void> {
  let left = created;
  for (let delayMs = firstLookMs; ; delayMs = Math.min(delayMs * 2, longestLookMs)) {
    const running: CreatedJob[] = [];
    let unread: ActionError | undefined;
    for (const job of left) {
      const live = await readJob(job, attempt).catch(unlessPermanent);
      if (live instanceof ActionError) {
        running.push(job);
        unread = live;
        continue;
      }
      if (live === undefined || asText(at(live, "metadata", "uid")) !== job.uid)
        throw new ActionError(`${describe(job)} vanished before it ended`);
      const failed = conditionOf(live, "Failed");
      if (failed !== undefined) throw await jobFailure(job, failed, attempt);
      if (conditionOf(live, "Complete") === undefined) running.push(job);
    }
    if (running.length === 0) return;
    left = running;
    attempt.waitsFor(unread?.message ?? `${running.map(describe).join(", ")} is still running`);
    await sleep(attempt.context.clock, delayMs, attempt.signal);
  }
}

function unlessPermanent(error: unknown): ActionError {
  if (error instanceof ActionError && error.class === "ordinary") return error;
  throw error;
}

/**
 * After a failure: what failed stays to be looked at, what still runs goes. When the time is out, or the StageSet is
 * deleted, all of it goes; a process that stops leaves everything to its successor. A Job that goes is there until its pods
 * are gone, so that another attempt waits for them.
 */
async function letGo(
  { begun, created }: { readonly begun: readonly PlannedJob[]; readonly created: readonly CreatedJob[] },
  attempt: Attempt,
  { why, outOfTime }: { readonly why: unknown; readonly outOfTime: boolean },
): Promise<void> {
  const { signal } = attempt.context;
  if (signal.aborted && signal.reason instanceof Shutdown) return;
  // Whatever ended the attempt ends no cleaning up.
  const cleaning: Attempt = { ...attempt, signal: AbortSignal.timeout(30_000) };
  const all = signal.aborted || outOfTime || attempt.signal.aborted;
  for (const [index, planned] of begun.entries()) {
    try {
      const known = created[index];
      if (all && known !== undefined) {
        await deleteJob(known, cleaning);
        continue;
      }
      const live = await readOwn(planned, cleaning, { looks: known === undefined && all ? lateLooks : 1 });
      if (live === undefined) continue;
      const ended = (conditionOf(live, "Failed") ?? conditionOf(live, "Complete")) !== undefined;
      if (all || !ended) await deleteJob(createdJob(live), cleaning);
    } catch (error) {
      // The cause of the failure is told; its Jobs remove themselves in time.
      if (!(error instanceof ActionError) && !cleaning.signal.aborted) throw why;
    }
  }
}

/** The Job of this name if it is of this very run; looked for again while it is not there. */
async function readOwn(planned: PlannedJob, attempt: Attempt, { looks }: { readonly looks: number }): Promise<unknown> {
  for (let left = looks - 1; ; left--) {
    const live = await readJob(planned, attempt);
    if (live !== undefined) return isOwn(live, planned) ? live : undefined;
    if (left <= 0) return undefined;
    await sleep(attempt.context.clock, firstLookMs, attempt.signal);
  }
}

function isOwn(live: unknown, { runKey }: PlannedJob): boolean {
  return asText(at(live, "metadata", "annotations", actionRunAnnotation)) === runKey;
}

/** Deletes the Job, its pods first, unless another one has its name by now; one that is gone is fine. */
async function deleteJob(job: CreatedJob, attempt: Attempt): Promise<void> {
  try {
    await sendAgain(deleteRequest(jobs, { ...job, propagation: "Foreground" }), attempt);
  } catch (error) {
    if (!isKubeError(error, "NotFound", "Conflict")) throw refused(`Cannot delete ${describe(job)}`, error);
  }
}

async function readJob(
  { namespace, name }: Pick<CreatedJob, "namespace" | "name">,
  attempt: Attempt,
): Promise<unknown> {
  try {
    return await sendAgain(getRequest(jobs, { namespace, name }), attempt);
  } catch (error) {
    if (isKubeError(error, "NotFound")) return undefined;
    throw refused(`Cannot read Job ${namespace}/${name}`, error);
  }
}

function sendAgain(request: KubeRequest, { access, context, signal }: Attempt): Promise<unknown> {
  const { clock, random } = context;
  return sendWithRetry(access.client, request, { signal, clock, random });
}

/** The condition of this type that is true. */
function conditionOf(job: unknown, type: string): unknown {
  return asArray(at(job, "status", "conditions")).find(
    (condition) => at(condition, "type") === type && at(condition, "status") === "True",
  );
}

function createdJob(live: unknown): CreatedJob {
  const text = (member: string): string => asText(at(live, "metadata", member)) ?? "";
  return { namespace: text("namespace"), name: text("name"), uid: text("uid") };
}

function describe({ namespace, name }: Pick<CreatedJob, "namespace" | "name">): string {
  return `Job ${namespace}/${name}`;
}
