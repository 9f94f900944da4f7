import {
  budgetOverrideAnnotation,
  promoteAnnotation,
  reconcileStageAnnotation,
  requestedAtAnnotation,
  resetScopeAnnotation,
  updateNowAnnotation,
} from "../api/keys.ts";
import { stageTokenOf, tokenOf } from "../domain/ignored-annotations.ts";
import type { Cause, Snapshot } from "../domain/pass/state.ts";
import { readyCondition, stageEntry } from "../domain/status.ts";
import { intervalMs } from "../domain/timing.ts";
import { runPass, type PassEnd } from "../engine/drive.ts";
import type { Engine } from "../engine/engine.ts";
import { statusOf, type StageSetKey } from "../engine/journal.ts";
import { createSession, type Session } from "../engine/session.ts";
import { takeSnapshot } from "../engine/snapshot.ts";
import type { ResourceCache } from "../kube/cache.ts";
import { KubeError } from "../kube/error.ts";
import { Shutdown } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { jitter, type Random } from "../lib/random.ts";
import type { Logger, Span } from "../lib/telemetry.ts";
import { createQueue, type Queue, type QueueMeter, type Turn } from "../runtime/queue.ts";
import { causeOfChange, isNewsForDependents } from "./news.ts";
import { createReferenceIndex } from "./references.ts";
import type { KindName } from "./source-watches.ts";

/** What the controller is told, and what it can be asked. Runs passes between {@link start} and {@link stop}. */
export interface StageSetController {
  /** Begins to run StageSets: those that are not ready first, the steady ones spread over their interval. */
  start(): void;
  /** No new pass starts, waits are abandoned; resolves when passes under way have ended. */
  stop(): Promise<void>;
  session(key: StageSetKey, uid: string): Session;
  wake(key: StageSetKey, cause: Cause): void;
  onSource(source: KubeObject): void;
  onProducer(kind: KindName, object: KubeObject): void;
  onInventory(key: StageSetKey): void;
  readonly queue: Pick<Queue<Cause>, "running" | "depth" | "runningMs" | "reconsider">;
}

/** Counts and gauges of passes. */
export interface PassReports {
  /** What a pass says of itself while it runs, and where it says how it ended. */
  passStarted(key: StageSetKey, object: KubeObject | undefined): PassScope;
  gone(key: StageSetKey, uid: string): void;
  seen(stageSet: KubeObject, before: KubeObject | undefined): void;
}

export interface PassScope {
  readonly logger: Logger;
  readonly span: Span;
  /** `cut`: by the stop of the process; that counts nowhere. */
  ended(pass: {
    readonly end: PassEnd | "cut" | { readonly kind: "error" | "bug"; readonly error: unknown };
    readonly seconds: number;
  }): void;
}

export interface StageSetControllerOptions {
  readonly engine: () => Engine;
  readonly stageSets: ResourceCache<KubeObject>;
  readonly concurrency: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly snapshot: { readonly crossNamespace: "allowed" | "refused"; readonly allowLoopback: boolean };
  readonly defaultIntervalMs: number;
  /** The kinds StageSets refer to as producers have changed. */
  readonly onProducerKinds: (kinds: readonly KindName[]) => void;
  readonly reports: PassReports;
  readonly meter?: QueueMeter | undefined;
  /** There is memory for another pass beside those under way; default: always. */
  readonly mayBegin?: () => boolean;
  /** Every stage is Ready at what its source offers now, as far as the caches tell. */
  readonly isReady: (stageSet: KubeObject) => boolean;
}

/** After a bug or a lost API server: the first wait, doubling to the longest. */
const firstBackoffMs = 1_000;
const longestBackoffMs = 60_000;
/** How long the records of all actions may take when the controller stops. */
const lastRecordMs = 5_000;

export function createStageSetController(options: StageSetControllerOptions): StageSetController {
  const { clock, stageSets, random } = options;
  const sessions = new Map<string, { readonly uid: string; readonly session: Session }>();
  const snapshots = new Map<string, Snapshot>();
  const troubles = new Map<string, number>();
  const references = createReferenceIndex();
  const abort = new AbortController();
  let started = false;

  const queue = createQueue<Cause>({
    clock,
    concurrency: options.concurrency,
    groupOf: (key) => key.slice(0, key.indexOf("/")),
    run: (turn) => run(turn),
    // What it did is not on record, and would be done again.
    isOwed: (causes) => causes.has("action"),
    meter: options.meter,
    ...(options.mayBegin === undefined ? {} : { mayBegin: options.mayBegin }),
  });
  const session = (key: StageSetKey, uid: string): Session => {
    const name = nameOf(key);
    const known = sessions.get(name);
    if (known?.uid === uid) return known.session;
    // What was learnt of a namesake is not true of this one.
    if (known !== undefined) forgetLearnt(name);
    const fresh = createSession();
    sessions.set(name, { uid, session: fresh });
    return fresh;
  };
  /** The spec is parsed and validated once per generation. */
  const snapshotOf = (object: KubeObject): Snapshot => {
    const name = `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
    const { uid, generation, annotations = {}, deletionTimestamp } = object.metadata;
    const known = snapshots.get(name);
    if (known === undefined || known.uid !== uid || known.generation !== generation) {
      const fresh = takeSnapshot(object, options.snapshot);
      snapshots.set(name, fresh);
      return fresh;
    }
    const deletedAt = deletionTimestamp === undefined ? undefined : Date.parse(deletionTimestamp);
    return { ...known, annotations, deletedAt, stored: statusOf(object) };
  };
  const forgetLearnt = (name: string): void => {
    const key = keyOf(name);
    options.engine().observer.release(key);
    options.engine().metrics.release(key);
    options.engine().actions.abandon(key);
    options.engine().podCauses.follow(key, []);
    options.engine().aheads.abandon(key);
    const uid = sessions.get(name)?.uid;
    if (uid !== undefined) options.engine().renders.release(uid);
    options.engine().targets.release(key);
    sessions.delete(name);
    snapshots.delete(name);
    troubles.delete(name);
  };

  const run = async (turn: Turn<Cause>): Promise<void> => {
    const key = keyOf(turn.key);
    const startedAt = clock.monotonic();
    const scope = options.reports.passStarted(key, stageSets.get(key.namespace, key.name));
    const ended = (end: Parameters<PassScope["ended"]>[0]["end"]): void =>
      scope.ended({ end, seconds: (clock.monotonic() - startedAt) / 1_000 });
    try {
      const request = {
        key,
        causes: turn.causes,
        snapshotOf,
        signal: abort.signal,
        breathe: () => turn.breathe(),
        away: <Result>(work: () => Promise<Result>) => turn.away(work),
        elsewhere: <Result>(work: () => Promise<Result>, signal: AbortSignal) => turn.elsewhere(work, signal),
        logger: scope.logger,
        span: scope.span,
      };
      const end = await scope.span.run(() => runPass(options.engine(), request));
      troubles.delete(turn.key);
      ended(end);
      settle(turn.key, end);
    } catch (error) {
      if (abort.signal.aborted) {
        ended("cut");
        return;
      }
      ended({ kind: error instanceof KubeError ? "error" : "bug", error });
      const count = (troubles.get(turn.key) ?? 0) + 1;
      troubles.set(turn.key, count);
      const delay = Math.min(longestBackoffMs, firstBackoffMs * 2 ** (count - 1));
      queue.wakeAt(turn.key, clock.monotonic() + jitter(delay, 0.1, random), "time");
    }
  };
  /** What an action has come to while the controller stops, and no pass runs any more. */
  const recordEnded = async (key: StageSetKey, signal: AbortSignal): Promise<void> => {
    const { logger, span } = options.reports.passStarted(key, stageSets.get(key.namespace, key.name));
    try {
      await runPass(options.engine(), {
        ...{ key, causes: new Set(["action"]), snapshotOf, logger, span, only: "record" },
        signal,
        breathe: () => Promise.resolve(),
        away: (work) => work(),
        elsewhere: (work) => work(),
      });
    } catch (error) {
      logger.error("cannot record an action that was done when the controller stopped", { error });
    }
    span.end();
  };
  const settle = (name: string, end: PassEnd): void => {
    if (end.kind === "gone") {
      forgetLearnt(name);
      queue.forget(name);
      // A namesake that was created meanwhile has told of itself already.
      if (options.engine().journal.object(keyOf(name)) !== undefined) add(name, "spec");
      return;
    }
    const next = end.kind === "ended" ? end.outcome.next : undefined;
    const due = next === undefined ? undefined : clock.monotonic() + jitter(next.afterMs, next.jitter, random);
    const wakeAt = Math.min(due ?? Infinity, end.wakeAt ?? Infinity);
    if (Number.isFinite(wakeAt)) queue.wakeAt(name, wakeAt, "time");
  };
  const add = (name: string, cause: Cause): void => {
    if (started) queue.add(name, cause, { urgent: cause === "readiness" || cause === "action" });
  };

  stageSets.subscribe((change) => {
    const name = `${change.namespace}/${change.name}`;
    if (change.type === "deleted") {
      references.remove(name);
      options.reports.gone(keyOf(name), change.object.metadata.uid ?? "");
      add(name, "spec");
      for (const dependent of references.ofDependency(name)) add(dependent, "dependency");
      options.onProducerKinds(references.producerKinds());
      return;
    }
    const { object, previous } = change;
    options.reports.seen(object, previous);
    if (
      previous?.metadata.generation !== object.metadata.generation ||
      previous?.metadata.uid !== object.metadata.uid
    ) {
      references.set(name, object);
      options.onProducerKinds(references.producerKinds());
    }
    const cause = causeOfChange(object, previous);
    if (cause !== undefined) add(name, cause);
    if (isNewsForDependents(object, previous))
      for (const dependent of references.ofDependency(name)) add(dependent, "dependency");
  });

  return {
    start() {
      started = true;
      for (const stageSet of stageSets.list()) {
        const name = `${stageSet.metadata.namespace ?? ""}/${stageSet.metadata.name}`;
        if (!isSteady(stageSet) || !options.isReady(stageSet)) {
          queue.add(name, "start");
          continue;
        }
        const { spec } = snapshotOf(stageSet);
        const spreadMs = spec === undefined ? 0 : intervalMs(spec, options.defaultIntervalMs);
        queue.wakeAt(name, clock.monotonic() + spreadMs * random(), "start");
      }
    },
    async stop() {
      started = false;
      abort.abort(new Shutdown("the controller stops"));
      // At once, and before the lease is given up: what one of them sent later would be a second time for the successor.
      const drained = options.engine().actions.drain();
      await queue.stop();
      await drained;
      // Also of one that ended before, whose pass had no turn any more or was cut at its record.
      const unrecorded = [...sessions].filter(
        ([, { session }]) => session.memory.action?.outcome?.kind === "completed",
      );
      const bound = AbortSignal.timeout(lastRecordMs);
      await Promise.all(unrecorded.map(([name]) => recordEnded(keyOf(name), bound)));
      options.engine().actions[Symbol.dispose]();
    },
    session,
    wake: (key, cause) => add(nameOf(key), cause),
    onSource(source) {
      for (const name of references.ofSource(source)) add(name, "source");
    },
    onProducer(kind, object) {
      for (const name of references.ofProducer(kind, object.metadata.namespace ?? "", object.metadata.name))
        add(name, "source");
    },
    onInventory: (key) => add(nameOf(key), "inventory"),
    queue,
  };
}

/** Nothing is known to be left to do: Ready at its generation, nothing is held by a window or a budget, and no token waits. */
function isSteady(stageSet: KubeObject): boolean {
  const status = statusOf(stageSet);
  const ready = readyCondition(status);
  const promotion = stageTokenOf(stageSet.metadata.annotations?.[promoteAnnotation]);
  const forced = stageTokenOf(stageSet.metadata.annotations?.[reconcileStageAnnotation]);
  const waits = (key: string, handled: string | undefined): boolean => {
    const token = tokenOf(stageSet.metadata.annotations?.[key]);
    return token !== undefined && token !== handled;
  };
  return (
    stageSet.metadata.deletionTimestamp === undefined &&
    ready?.status === "True" &&
    status.observedGeneration === stageSet.metadata.generation &&
    status.pendingUpdate === undefined &&
    status.budgetFreeze === undefined &&
    status.stages?.some((entry) => entry.budgetFreeze !== undefined) !== true &&
    !waits(requestedAtAnnotation, status.lastHandledReconcileAt) &&
    !waits(updateNowAnnotation, status.lastHandledUpdateOverride) &&
    !waits(budgetOverrideAnnotation, status.lastHandledBudgetOverride) &&
    !waits(resetScopeAnnotation, status.lastHandledResetScope) &&
    (forced === undefined || stageEntry(status, forced.stage)?.lastHandledReconcileAt === forced.token) &&
    (promotion === undefined || stageEntry(status, promotion.stage)?.lastHandledPromotion === promotion.token)
  );
}

function nameOf(key: StageSetKey): string {
  return `${key.namespace}/${key.name}`;
}

function keyOf(name: string): StageSetKey {
  const slash = name.indexOf("/");
  return { namespace: name.slice(0, slash), name: name.slice(slash + 1) };
}
