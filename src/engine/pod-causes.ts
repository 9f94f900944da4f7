import { renderObjectId, type ObjectId } from "../domain/object-id.ts";
import type { PodCause } from "../domain/readiness/pod-cause.ts";
import { causeAmong, type WorkloadPods } from "../domain/readiness/workload-pods.ts";
import type { Access } from "../identity/access.ts";
import { IdentityError } from "../identity/identity-error.ts";
import { KubeError } from "../kube/error.ts";
import { isAuthorizationRefusal } from "../kube/refusal.ts";
import { listRequest } from "../kube/request.ts";
import { deadline, linkSignals, Shutdown } from "../lib/abort.ts";
import { abortable } from "../lib/abortable.ts";
import { sleep, type Clock } from "../lib/clock.ts";
import { asArray, asObject, at } from "../lib/json.ts";
import { createSemaphore } from "../lib/semaphore.ts";
import { type StageSetKey } from "./journal.ts";
import { asKubeObject } from "./kube-answer.ts";
import { pods as podKind } from "./resources.ts";

/** A workload that is not ready, and the identity under which its pods may be looked at. */
export interface Explained {
  readonly access: Access;
  readonly id: ObjectId;
  readonly pods: WorkloadPods;
}

/**
 * Why workloads that stages wait for are not ready, as their pods tell it (spec 20 §9.3): read under the stage's identity,
 * and shown to no other. What cannot be read says nothing. While a stage waits its workloads' pods are read now and then,
 * first when it has waited for longer than most do, and a cause that changed wakes the key. Causes explain; they never
 * decide whether something is ready.
 */
export interface PodCauses extends AsyncDisposable {
  /** What is known, at no cost. */
  get(key: StageSetKey, of: Pick<Explained, "access" | "id">): PodCause | undefined;
  /**
   * Reads what was not read within the last {@link freshMs}, and waits for it for {@link longestLookMs} at most.
   *
   * @throws the signal's reason, when aborted
   */
  look(key: StageSetKey, of: readonly Explained[], signal: AbortSignal): Promise<void>;
  /** What the key waits for from now on; replaces what it was before, and none forgets the key. */
  follow(key: StageSetKey, of: readonly Explained[]): void;
}

/** No workload's pods are read more often, ms (spec 20 §9.6). */
const freshMs = 2_000;
/** An explanation that takes longer comes too late for whoever asks, ms. */
const longestLookMs = 2_000;
/** Most workloads are ready before they have to be explained. */
const firstLookMs = 10_000;
/** Then after as long as it has waited so far, within these bounds: one that takes a minute costs three looks. */
const soonestMs = 5_000;
const latestMs = 60_000;
/** Pods of one workload that are looked at: they seldom fail for different causes. */
const mostPods = 50;
/** A list that takes longer says nothing. */
const longestReadMs = 15_000;
/** Lists of the process in flight. */
const mostAtOnce = 4;
/** An identity that may not list the pods of a namespace is not tried again for so long, ms. */
const refusedMs = 5 * 60_000;
const mostRefusals = 1_000;

interface Known {
  of: Explained;
  cause: PodCause | undefined;
  /** Monotonic ms. */
  readonly since: number;
  readAt: number | undefined;
  reading: Promise<void> | undefined;
}

interface KeyState {
  readonly key: StageSetKey;
  readonly known: Map<string, Known>;
  timer: Disposable | undefined;
}

export function createPodCauses(options: {
  readonly clock: Clock;
  readonly wake: (key: StageSetKey, cause: "readiness") => void;
}): PodCauses {
  const { clock } = options;
  const keys = new Map<string, KeyState>();
  const places = createSemaphore(mostAtOnce);
  const refused = new Map<string, number>();
  const abort = new AbortController();
  const reads = new Set<Promise<void>>();

  const isRefused = (name: string): boolean => {
    const until = refused.get(name);
    if (until !== undefined && until > clock.monotonic()) return true;
    refused.delete(name);
    return false;
  };
  const refuse = (name: string): void => {
    refused.set(name, clock.monotonic() + refusedMs);
    const oldest = refused.keys().next().value;
    if (refused.size > mostRefusals && oldest !== undefined) refused.delete(oldest);
  };
  const causeOf = async ({ access, pods }: Explained): Promise<PodCause | undefined> => {
    const { namespace, labelSelector } = pods;
    const allowance = `${access.key} ${namespace}`;
    if (isRefused(allowance)) return undefined;
    using limit = deadline(clock, { timeoutMs: longestReadMs, what: "to list pods", parent: abort.signal });
    const { signal } = limit;
    using _place = await places.acquire(signal);
    try {
      const request = listRequest(podKind, { namespace, labelSelector, limit: mostPods });
      const page = await access.client.send(request, { signal });
      const listed = asArray(at(page, "items")).map((item) =>
        asKubeObject({ apiVersion: "v1", kind: podKind.kind, ...asObject(item) }),
      );
      return causeAmong(listed, pods);
    } catch (error) {
      if (isAuthorizationRefusal(error)) refuse(allowance);
      else if (!(error instanceof KubeError) && !(error instanceof IdentityError)) throw error;
      return undefined;
    }
  };
  /** Never fails: what cannot be read says nothing. Calls for the same workload share the read. */
  const read = (known: Known): Promise<void> => {
    known.reading ??= causeOf(known.of)
      .catch(() => undefined)
      .then((cause) => {
        known.cause = cause;
        known.readAt = clock.monotonic();
        known.reading = undefined;
      });
    const { reading } = known;
    reads.add(reading);
    void reading.finally(() => reads.delete(reading));
    return reading;
  };
  const dueAt = ({ readAt, since }: Known): number =>
    readAt === undefined ? since + firstLookMs : readAt + Math.min(latestMs, Math.max(soonestMs, readAt - since));

  const schedule = (state: KeyState): void => {
    state.timer?.[Symbol.dispose]();
    state.timer = undefined;
    const due = Math.min(...[...state.known.values()].map(dueAt));
    if (!Number.isFinite(due) || abort.signal.aborted) return;
    state.timer = clock.timer(Math.max(0, due - clock.monotonic()), () => {
      state.timer = undefined;
      void lookAgain(state);
    });
  };
  const lookAgain = async (state: KeyState): Promise<void> => {
    const now = clock.monotonic();
    const due = [...state.known.values()].filter((known) => dueAt(known) <= now);
    const before = due.map(({ cause }) => cause?.text);
    await Promise.all(due.map(read));
    if (keys.get(nameOf(state.key)) !== state) return;
    if (due.some(({ cause }, index) => cause?.text !== before[index])) options.wake(state.key, "readiness");
    schedule(state);
  };
  const replace = (key: StageSetKey, of: readonly Explained[], others: "kept" | "dropped"): KeyState => {
    const name = nameOf(key);
    const state: KeyState = keys.get(name) ?? { key, known: new Map(), timer: undefined };
    keys.set(name, state);
    const slots = new Set<string>();
    for (const each of of) {
      const slot = slotOf(each);
      slots.add(slot);
      const known = state.known.get(slot);
      // Another object, or other pods: what was known is not of these.
      if (known?.of.pods.owner.uid === each.pods.owner.uid && known.of.pods.labelSelector === each.pods.labelSelector)
        known.of = each;
      else
        state.known.set(slot, {
          of: each,
          cause: undefined,
          since: clock.monotonic(),
          readAt: undefined,
          reading: undefined,
        });
    }
    if (others === "dropped") for (const slot of state.known.keys()) if (!slots.has(slot)) state.known.delete(slot);
    return state;
  };
  const release = (key: StageSetKey): void => {
    const name = nameOf(key);
    keys.get(name)?.timer?.[Symbol.dispose]();
    keys.delete(name);
  };
  return {
    get: (key, of) => keys.get(nameOf(key))?.known.get(slotOf(of))?.cause,
    async look(key, of, signal) {
      if (of.length === 0) return;
      const { known } = replace(key, of, "kept");
      const fresh = clock.monotonic() - freshMs;
      const stale = of
        .flatMap((each) => known.get(slotOf(each)) ?? [])
        .filter(({ readAt = -Infinity }) => readAt < fresh);
      using late = linkSignals(signal);
      const tooLate = sleep(clock, longestLookMs, late.signal).catch(() => undefined);
      await abortable(Promise.race([Promise.all(stale.map(read)), tooLate]), signal);
      late.abort(new Shutdown("it is known"));
    },
    follow(key, of) {
      if (of.length === 0) release(key);
      else schedule(replace(key, of, "dropped"));
    },
    async [Symbol.asyncDispose]() {
      abort.abort(new Shutdown("the controller stops"));
      for (const { key } of keys.values()) release(key);
      await Promise.all(reads);
    },
  };
}

function nameOf(key: StageSetKey): string {
  return `${key.namespace}/${key.name}`;
}

/** What one identity read is never shown to another. */
function slotOf({ access, id }: Pick<Explained, "access" | "id">): string {
  return `${access.key} ${renderObjectId(id)}`;
}
