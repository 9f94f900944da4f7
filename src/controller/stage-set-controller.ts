import { requestedAtAnnotation } from "../api/keys.ts";
import type { Cause, Snapshot } from "../domain/pass/state.ts";
import { readyCondition } from "../domain/status.ts";
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
import type { Logger } from "../lib/telemetry.ts";
import { createQueue, type Queue, type Turn } from "../runtime/queue.ts";
import { causeOfChange, isNewsForDependents } from "./news.ts";
import { createReferenceIndex } from "./references.ts";
import type { KindName } from "./source-watches.ts";

/** What the controller is told, and what it can be asked. Runs passes between {@link start} and {@link stop}. */
export interface StageSetController {
  /** Begins to run StageSets: those that are not ready first, the steady ones spread over their interval. */
  start(): void;
  /** No new pass starts, waits are abandoned; resolves when passes under way have ended. */
  stop(): Promise<void>;
  session(key: StageSetKey): Session;
  wake(key: StageSetKey, cause: Cause): void;
  onSource(source: KubeObject): void;
  onProducer(kind: KindName, object: KubeObject): void;
  onInventory(key: StageSetKey): void;
  readonly queue: Pick<Queue<Cause>, "running" | "depth">;
}

/** Counts and gauges of passes. */
export interface PassReports {
  passStarted(): void;
  passEnded(key: StageSetKey, pass: { readonly end: PassEnd | "error" | "bug"; readonly seconds: number }): void;
  gone(key: StageSetKey, uid: string): void;
  seen(stageSet: KubeObject, before: KubeObject | undefined): void;
}

export interface StageSetControllerOptions {
  readonly engine: () => Engine;
  readonly stageSets: ResourceCache<KubeObject>;
  readonly concurrency: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly snapshot: { readonly crossNamespace: "allowed" | "refused"; readonly allowLoopback: boolean };
  readonly defaultIntervalMs: number;
  /** The kinds StageSets refer to as producers have changed. */
  readonly onProducerKinds: (kinds: readonly KindName[]) => void;
  readonly reports: PassReports;
  /** Every stage is Ready at what its source offers now, as far as the caches tell. */
  readonly isReady: (stageSet: KubeObject) => boolean;
}

/** After a bug or a lost API server: the first wait, doubling to the longest. */
const firstBackoffMs = 1_000;
const longestBackoffMs = 60_000;

export function createStageSetController(options: StageSetControllerOptions): StageSetController {
  const { clock, logger, stageSets, random } = options;
  const sessions = new Map<string, Session>();
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
  });
  const session = (key: StageSetKey): Session => {
    const name = nameOf(key);
    const known = sessions.get(name) ?? createSession();
    sessions.set(name, known);
    return known;
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
  const forget = (name: string): void => {
    const key = keyOf(name);
    options.engine().observer.release(key);
    sessions.delete(name);
    snapshots.delete(name);
    troubles.delete(name);
    queue.forget(name);
  };

  const run = async (turn: Turn<Cause>): Promise<void> => {
    const key = keyOf(turn.key);
    const startedAt = clock.monotonic();
    options.reports.passStarted();
    const ended = (end: PassEnd | "error" | "bug"): void =>
      options.reports.passEnded(key, { end, seconds: (clock.monotonic() - startedAt) / 1_000 });
    try {
      const end = await runPass(options.engine(), {
        key,
        causes: turn.causes,
        snapshotOf,
        signal: abort.signal,
        breathe: () => turn.breathe(),
      });
      troubles.delete(turn.key);
      ended(end);
      settle(turn.key, end);
    } catch (error) {
      if (abort.signal.aborted) return;
      const expected = error instanceof KubeError;
      ended(expected ? "error" : "bug");
      logger.error(expected ? "pass failed" : "pass failed for an unexpected reason", {
        namespace: key.namespace,
        name: key.name,
        error,
        ...(expected || !(error instanceof Error) ? {} : { stack: error.stack }),
      });
      const count = (troubles.get(turn.key) ?? 0) + 1;
      troubles.set(turn.key, count);
      const delay = Math.min(longestBackoffMs, firstBackoffMs * 2 ** (count - 1));
      queue.wakeAt(turn.key, clock.monotonic() + jitter(delay, 0.1, random), "time");
    }
  };
  const settle = (name: string, end: PassEnd): void => {
    if (end.kind === "gone") {
      forget(name);
      return;
    }
    const next = end.kind === "ended" ? end.outcome.next : undefined;
    const due = next === undefined ? undefined : clock.monotonic() + jitter(next.afterMs, next.jitter, random);
    const wakeAt = Math.min(due ?? Infinity, end.wakeAt ?? Infinity);
    if (Number.isFinite(wakeAt)) queue.wakeAt(name, wakeAt, "time");
  };
  const add = (name: string, cause: Cause): void => {
    if (started) queue.add(name, cause, { urgent: cause === "readiness" });
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
      await queue.stop();
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

/** Nothing is known to be left to do: Ready at its generation, and no token waits. */
function isSteady(stageSet: KubeObject): boolean {
  const status = statusOf(stageSet);
  const ready = readyCondition(status);
  const token = stageSet.metadata.annotations?.[requestedAtAnnotation];
  return (
    stageSet.metadata.deletionTimestamp === undefined &&
    ready?.status === "True" &&
    status.observedGeneration === stageSet.metadata.generation &&
    (token === undefined || token === status.lastHandledReconcileAt)
  );
}

function nameOf(key: StageSetKey): string {
  return `${key.namespace}/${key.name}`;
}

function keyOf(name: string): StageSetKey {
  const slash = name.indexOf("/");
  return { namespace: name.slice(0, slash), name: name.slice(slash + 1) };
}
