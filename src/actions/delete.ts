import type { Action } from "../api/stage-set.ts";
import { isKubeError } from "../kube/error.ts";
import { deleteRequest, getRequest, type ApiResource, type ObjectName } from "../kube/request.ts";
import { sendWithRetry } from "../kube/retry.ts";
import { deadline, DeadlineExceeded, linkSignals } from "../lib/abort.ts";
import { sleep } from "../lib/clock.ts";
import { asArray, asText, at } from "../lib/json.ts";
import { ActionError } from "./action-error.ts";
import type { Attempt } from "./context.ts";
import { describeTarget, nameOf, refused, resourceOf } from "./target.ts";

/** How long an object may take to disappear while the action has no timeout (spec 30 §2.2). */
const goneWithinMs = 5 * 60_000;
/** Most objects are gone at once; the looks at one that is not become rarer. */
const firstLookMs = 100;
const longestLookMs = 2_000;

/**
 * Deletes the object that is there now, and waits until it is gone or another one has its name: what is applied later must
 * not land on one that is still terminating. One that does not exist is fine, and so is one that came after an earlier
 * attempt of the same run had found another.
 *
 * @throws {ActionError}
 */
export async function deleteTarget(
  { target, cascade }: NonNullable<Action["delete"]>,
  attempt: Attempt,
): Promise<void> {
  const resource = await resourceOf(target, attempt);
  const name = nameOf(resource, target, attempt);
  const what = describeTarget(resource, name);
  using bound = attempt.bounded
    ? linkSignals(attempt.signal)
    : deadline(attempt.context.clock, { timeoutMs: goneWithinMs, what: "deleting", parent: attempt.signal });
  const bounded: Attempt = { ...attempt, signal: bound.signal };
  let finalizers: readonly string[] = [];
  try {
    const found = await look(resource, name, bounded);
    if (found === undefined) return;
    attempt.deleting.uid ??= found.uid;
    if (attempt.deleting.uid !== found.uid) return;
    await send(resource, { name, uid: found.uid, cascade: cascade ?? "Background" }, bounded);
    for (let delayMs = firstLookMs; ; delayMs = Math.min(delayMs * 2, longestLookMs)) {
      const left = await look(resource, name, bounded);
      if (left === undefined || left.uid !== found.uid) return;
      finalizers = left.finalizers;
      attempt.waitsFor(notGone(what, finalizers));
      await sleep(attempt.context.clock, delayMs, bounded.signal);
    }
  } catch (error) {
    if (!attempt.signal.aborted && bound.signal.aborted && bound.signal.reason instanceof DeadlineExceeded)
      throw new ActionError(`${notGone(what, finalizers)} after 5 minutes`, { cause: error });
    throw error;
  }
}

function notGone(what: string, finalizers: readonly string[]): string {
  const held = finalizers.length === 0 ? "" : `, held by finalizers ${[...finalizers].sort().join(", ")}`;
  return `${what} is not gone yet${held}`;
}

async function look(
  resource: ApiResource,
  name: ObjectName,
  { access, context, signal }: Attempt,
): Promise<{ readonly uid: string; readonly finalizers: readonly string[] } | undefined> {
  try {
    const request = getRequest(resource, { ...name, metadataOnly: true });
    const { clock, random } = context;
    const found = await sendWithRetry(access.client, request, { signal, clock, random });
    return {
      uid: asText(at(found, "metadata", "uid")) ?? "",
      finalizers: asArray(at(found, "metadata", "finalizers")).flatMap((each) => asText(each) ?? []),
    };
  } catch (error) {
    if (isKubeError(error, "NotFound")) return undefined;
    throw refused(`Cannot read ${describeTarget(resource, name)}`, error);
  }
}

async function send(
  resource: ApiResource,
  o: {
    readonly name: ObjectName;
    readonly uid: string;
    readonly cascade: NonNullable<NonNullable<Action["delete"]>["cascade"]>;
  },
  { access, signal }: Attempt,
): Promise<void> {
  try {
    await access.client.send(deleteRequest(resource, { ...o.name, uid: o.uid, propagation: o.cascade }), { signal });
  } catch (error) {
    // Gone, or another object by now: the looks that follow tell.
    if (isKubeError(error, "NotFound", "Conflict")) return;
    throw refused(`Cannot delete ${describeTarget(resource, o.name)}`, error);
  }
}
