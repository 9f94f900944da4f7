import type { Action } from "../api/stage-set.ts";
import { applyWave, type ApplyOptions, type Recreating } from "../apply/apply-wave.ts";
import { readinessOf } from "../domain/readiness/readiness.ts";
import { describeObject } from "../domain/object-id.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import { planWaves } from "../domain/waves.ts";
import { isKubeError } from "../kube/error.ts";
import { getRequest } from "../kube/request.ts";
import { deadline, DeadlineExceeded, linkSignals } from "../lib/abort.ts";
import { sleep } from "../lib/clock.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { ActionError } from "./action-error.ts";
import type { Attempt } from "./context.ts";
import { refused, resourceOf } from "./target.ts";

/** How long objects may take to disappear, or to become ready, while the action has no timeout (spec 30 §2.2). */
const goneWithinMs = 5 * 60_000;
const readyWithinMs = 5 * 60_000;
const lookMs = 2_000;
/** How soon an object that is created anew is looked at again. */
const recreateLookMs = 200;
/** Requests at once. */
const inFlight = 8;
/** Objects a message names. */
const mostNamed = 10;

/**
 * Applies the objects of an artifact, in the order a stage does, with the StageSet's labels but no stage's: they are in no
 * inventory, and nothing prunes them or puts them right.
 *
 * @throws {ActionError}
 */
export async function applyArtifact(apply: NonNullable<Action["apply"]>, attempt: Attempt): Promise<void> {
  const { context } = attempt;
  const { name, namespace } = context.owner;
  const { objects } = await context.build(
    { sourceRef: apply.sourceRef, path: apply.path, labels: { stage: undefined, name, namespace } },
    attempt,
  );
  if (objects.length === 0) throw new ActionError("the artifact holds no object", { retry: "final" });
  for (const wave of planWaves(objects)) await writeWave(wave, attempt);
  if (apply.wait === true) await untilReady(objects, attempt);
}

async function writeWave(wave: readonly (readonly RenderedObject[])[], attempt: Attempt): Promise<void> {
  const { context, access, signal } = attempt;
  const options: ApplyOptions = {
    access,
    policy: { conflictPolicy: undefined, force: false },
    owner: context.owner,
    mode: "changed",
    signal,
    clock: context.clock,
    random: context.random,
    inFlight,
  };
  const ranks = wave.map((rank) => rank.map((object) => ({ object, known: undefined })));
  let since: number | undefined;
  for (;;) {
    const { failures, recreating } = await applied(ranks, options);
    const [first] = failures;
    if (first !== undefined) {
      const permanent = failures.every((each) => each.class === "authorization" || each.class === "notServed");
      throw new ActionError(failures.map(({ message }) => message).join("; "), {
        class: permanent ? "permanent" : "ordinary",
      });
    }
    if (recreating.length === 0) return;
    since ??= context.clock.monotonic();
    const waiting = `waiting until ${recreating.slice(0, mostNamed).map(describeRecreating).join(", ")} is gone, to be created anew`;
    attempt.waitsFor(waiting);
    if (!attempt.bounded && context.clock.monotonic() - since >= goneWithinMs)
      throw new ActionError(`timed out after 5 minutes: ${waiting}`);
    await sleep(context.clock, recreateLookMs, signal);
  }
}

function describeRecreating({ id, finalizers }: Recreating): string {
  const held = finalizers.length === 0 ? "" : ` (held by finalizers ${[...finalizers].sort().join(", ")})`;
  return `${id}${held}`;
}

async function applied(...wave: Parameters<typeof applyWave>): ReturnType<typeof applyWave> {
  try {
    return await applyWave(...wave);
  } catch (error) {
    throw refused("Cannot apply", error);
  }
}

async function untilReady(objects: readonly RenderedObject[], attempt: Attempt): Promise<void> {
  const { clock } = attempt.context;
  using bound = attempt.bounded
    ? linkSignals(attempt.signal)
    : deadline(clock, { timeoutMs: readyWithinMs, what: "becoming ready", parent: attempt.signal });
  let waiting = "";
  try {
    let left = objects;
    for (;;) {
      const lacking: (readonly [RenderedObject, string])[] = [];
      for (const object of left) {
        const lack = await lacks(object, { ...attempt, signal: bound.signal });
        if (lack !== undefined) lacking.push([object, lack]);
      }
      if (lacking.length === 0) return;
      left = lacking.map(([object]) => object);
      waiting = `not ready: ${lacking
        .slice(0, mostNamed)
        .map(([, lack]) => lack)
        .join("; ")}`;
      attempt.waitsFor(waiting);
      await sleep(clock, lookMs, bound.signal);
    }
  } catch (error) {
    if (!attempt.signal.aborted && bound.signal.aborted && bound.signal.reason instanceof DeadlineExceeded)
      throw new ActionError(`${waiting} after 5 minutes`, { cause: error });
    throw error;
  }
}

/** What the object lacks to be ready; one that has failed for good fails the attempt. */
async function lacks(object: RenderedObject, attempt: Attempt): Promise<string | undefined> {
  const what = describeObject(object);
  const { group, version, kind, name } = object;
  const resource = await resourceOf({ apiVersion: group === "" ? version : `${group}/${version}`, kind }, attempt);
  try {
    const namespace = resource.namespaced ? object.namespace : undefined;
    const live = await attempt.access.client.send(getRequest(resource, { namespace, name }), {
      signal: attempt.signal,
    });
    // The API server guarantees apiVersion, kind and metadata.name of every object it answers with.
    const { status, message } = readinessOf(live as KubeObject);
    if (status === "Current") return undefined;
    if (status === "Failed") throw new ActionError(`${what} has failed: ${message}`);
    return `${what} (${status}${message === "" ? "" : `, ${message}`})`;
  } catch (error) {
    if (isKubeError(error, "NotFound")) return `${what} (NotFound)`;
    throw refused(`Cannot read ${what}`, error);
  }
}
