import type { Action } from "../api/stage-set.ts";
import type { Witness } from "../domain/actions/stage-ledger.ts";
import { isDenied } from "../identity/identity-error.ts";
import { isKubeError } from "../kube/error.ts";
import { getRequest } from "../kube/request.ts";
import { deadline, DeadlineExceeded } from "../lib/abort.ts";
import { sleep } from "../lib/clock.ts";
import { asText, at } from "../lib/json.ts";
import { ActionError } from "./action-error.ts";
import type { Attempt } from "./context.ts";
import { describeTarget, nameOf, refused, resourceOf } from "./target.ts";

/** How long the witness of a completed action may take to be there, and how often it is asked for (spec 30 §4.4). */
const patienceMs = 30_000;
const lookMs = 2_000;

/**
 * Reads the object that is going to show that the action's effect is there; undefined without a completionAnchor.
 *
 * @throws {ActionError} it is absent, or cannot be read, to the end
 */
export async function awaitWitness(
  anchor: Action["completionAnchor"],
  attempt: Pick<Attempt, "context" | "access" | "signal" | "waitsFor">,
): Promise<Witness | undefined> {
  if (anchor === undefined) return undefined;
  const { clock } = attempt.context;
  using bound = deadline(clock, { timeoutMs: patienceMs, what: "the witness", parent: attempt.signal });
  let last: unknown;
  try {
    for (;;) {
      const read = await readWitness(anchor, { ...attempt, signal: bound.signal });
      if ("uid" in read) return { ...anchor, uid: read.uid };
      last = read.why;
      attempt.waitsFor(read.why.message);
      await sleep(clock, lookMs, bound.signal);
    }
  } catch (error) {
    const isOut = !attempt.signal.aborted && bound.signal.aborted && bound.signal.reason instanceof DeadlineExceeded;
    throw isOut && last !== undefined ? last : error;
  }
}

async function readWitness(
  anchor: NonNullable<Action["completionAnchor"]>,
  attempt: Pick<Attempt, "context" | "access" | "signal">,
): Promise<{ readonly uid: string } | { readonly why: ActionError }> {
  const resource = await resourceOf(anchor, attempt);
  const name = nameOf(resource, { name: anchor.name }, attempt);
  const what = describeTarget(resource, name);
  try {
    const request = getRequest(resource, { ...name, metadataOnly: true });
    const uid = asText(at(await attempt.access.client.send(request, { signal: attempt.signal }), "metadata", "uid"));
    return uid === undefined ? { why: new ActionError(`Cannot read its witness ${what}: it has no uid`) } : { uid };
  } catch (error) {
    if (isKubeError(error, "NotFound")) return { why: new ActionError(absent(what)) };
    const why = refused(`Cannot read its witness ${what}`, error);
    if (attempt.signal.aborted || isDenied(error) || !(why instanceof ActionError)) throw why;
    return { why };
  }
}

function absent(what: string): string {
  return `its witness ${what} does not exist: what completionAnchor names must be there once the action is done; where the stage applies it, make the action a post action`;
}
