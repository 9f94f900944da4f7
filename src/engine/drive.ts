import { outlivesStageSet } from "../domain/actions/action-run.ts";
import { nextStep } from "../domain/pass/next-step.ts";
import { missingRecord } from "../domain/pass/records.ts";
import {
  factName,
  type Cause,
  type Fact,
  type FactKey,
  type Memory,
  type PassState,
  type Snapshot,
} from "../domain/pass/state.ts";
import type { Effect, Outcome, Step } from "../domain/pass/step.ts";
import { readyCondition } from "../domain/status.ts";
import type { KubeObject } from "../lib/kube-object.ts";
import { KubeError } from "../kube/error.ts";
import { askedNothing } from "../kms/share-opener.ts";
import type { Logger, Span } from "../lib/telemetry.ts";
import { concludeAction } from "./effects/action.ts";
import { runEffect } from "./effects/effect.ts";
import type { Engine } from "./engine.ts";
import { readFact } from "./facts/fact.ts";
import { followWakes, resumeWatches } from "./follow.ts";
import { statusOf, type StageSetKey } from "./journal.ts";
import { StartOver, type Pass } from "./pass.ts";
import { describeRecordFailure } from "./record-failure.ts";
import { mayAskRegistry } from "./image-gate.ts";
import { checkLadderAhead } from "./ladder-check.ts";
import { renderAhead } from "./render-ahead.ts";
import { announceDeferral, announceDryRuns, announceReady, createPassReport, sayIgnoredAnnotations } from "./report.ts";
import type { Session } from "./session.ts";

/** How a pass left the worker. */
export type PassEnd =
  /** Nothing more is known of the key. */
  | { readonly kind: "gone" }
  | { readonly kind: "parked"; /** Monotonic ms of the next look at the latest. */ readonly wakeAt: number | undefined }
  | { readonly kind: "ended"; readonly outcome: Outcome; readonly wakeAt: number | undefined };

/** A pass that asks more often than this is a bug: it stops instead of spinning. */
const mostSteps = 20_000;
/** A status write refused with 409 is derived anew at most this often (spec 20 §11). */
const mostConflicts = 5;

export interface PassRequest {
  readonly key: StageSetKey;
  readonly causes: ReadonlySet<Cause>;
  readonly snapshotOf: (object: KubeObject) => Snapshot;
  readonly signal: AbortSignal;
  /** `record`: nothing is done but to put on record what an action has come to. */
  readonly only?: "record";
  readonly logger: Logger;
  readonly span: Span;
  /** Between two steps: lets others have the place. */
  readonly breathe: () => Promise<void>;
  /** Waits for the answer to a record without the place. */
  readonly away: <Result>(work: () => Promise<Result>) => Promise<Result>;
  /** Does what may be held up by somebody else's server without the place. */
  readonly elsewhere: <Result>(work: () => Promise<Result>, signal: AbortSignal) => Promise<Result>;
}

/**
 * Runs one pass: ask the pure core for the next step, do that one thing, ask again. Never waits: `parked` gives the
 * worker back, and the wakes bring the key here again.
 *
 * @throws the signal's reason at a safe point, when the process stops or the lease is lost
 * @throws {KubeError} when a record cannot be written: the caller backs off
 */
export async function runPass(engine: Engine, request: PassRequest): Promise<PassEnd> {
  const { key } = request;
  engine.observer.pause(key);
  for (let restarts = 0; ; restarts++) {
    const object = engine.journal.object(key);
    if (object === undefined) return { kind: "gone" };
    const session = engine.session(key, object.metadata.uid ?? "");
    if (object.metadata.deletionTimestamp !== undefined) endAction(engine, { key, session });
    const pass: Pass = {
      key,
      session,
      snapshot: request.snapshotOf(object),
      causes: request.causes,
      facts: new Map(),
      results: { stages: new Map(), deletes: new Map(), recordFailure: undefined },
      report: createPassReport(),
      logger: request.logger,
      span: request.span,
      connections: new Map(),
      looked: new Map(),
      kmsCalls: askedNothing(),
      looksAhead: new Map(),
      judged: new Set(),
    };
    sayIgnoredAnnotations(pass.snapshot, pass.report);
    try {
      const run = (): Promise<PassEnd> => drive(engine, pass, request);
      // Somebody else's API server may take its time with every answer.
      const isRemote = pass.snapshot.spec?.kubeConfig !== undefined;
      const end = await (isRemote ? request.elsewhere(run, request.signal) : run());
      if (end.kind === "parked") lookAhead(engine, pass);
      return end;
    } catch (error) {
      // What was done is told, however the pass ends.
      pass.report.flush(engine, pass);
      if (!(error instanceof StartOver) || restarts >= mostConflicts) throw error;
    }
  }
}

/** Deletion ends a running action at once (spec 30 §1); what is done and outlives the StageSet is recorded first. */
function endAction(engine: Engine, { key, session }: { readonly key: StageSetKey; readonly session: Session }): void {
  const { action } = session.memory;
  if (action === undefined || outlivesStageSet(action)) return;
  engine.actions.abandon(key);
  remember(session, { action: undefined });
}

async function drive(
  engine: Engine,
  pass: Pass,
  request: Pick<PassRequest, "signal" | "only" | "breathe" | "away" | "elsewhere">,
): Promise<PassEnd> {
  const { signal, breathe, away, elsewhere } = request;
  let conflicts = 0;
  for (let steps = 0; steps < mostSteps; steps++) {
    signal.throwIfAborted();
    const object = engine.journal.object(pass.key);
    if (object === undefined) return { kind: "gone" };
    if (hasMoved(object, pass.snapshot)) throw new StartOver();
    await breathe();
    const unrecorded = pass.session.memory.action?.outcome?.kind === "completed";
    if (request.only === "record" && !unrecorded) return { kind: "parked", wakeAt: undefined };
    const step = nextStep(stateOf(engine, pass, object));
    if (request.only === "record" && step.kind !== "record") return { kind: "parked", wakeAt: undefined };
    switch (step.kind) {
      case "need":
        await (asksServices(engine, pass, step.facts)
          ? elsewhere(() => readFacts(engine, pass, step.facts, signal), signal)
          : readFacts(engine, pass, step.facts, signal));
        break;
      case "record": {
        const result = await away(() => writeRecord(engine, pass, { object, step }, signal));
        if (result === "gone") return { kind: "gone" };
        if (result === "acknowledged") {
          remember(pass.session, step.remember);
          for (const event of step.events ?? []) pass.report.event(event);
          if (step.completes !== undefined) concludeAction(engine, pass, step.completes);
        } else if (result === "conflict" && ++conflicts > mostConflicts) throw new KubeError(conflictError(pass.key));
        break;
      }
      case "do":
        await act(engine, pass, { object, step }, signal);
        break;
      case "park":
        remember(pass.session, step.remember);
        pass.report.flush(engine, pass);
        return {
          kind: "parked",
          wakeAt:
            step.watches === "kept"
              ? resumeWatches(engine, pass, step.wakes)
              : await followWakes(engine, pass, { wakes: step.wakes, outcome: undefined }, signal),
        };
      case "end":
        remember(pass.session, step.outcome.remember);
        pass.report.end(engine, pass, step.outcome);
        checkLadderAhead(engine, pass, signal);
        return {
          kind: "ended",
          outcome: step.outcome,
          wakeAt: await followWakes(engine, pass, { wakes: step.outcome.wakes, outcome: step.outcome }, signal),
        };
    }
  }
  throw new Error(`the pass over "${pass.key.namespace}/${pass.key.name}" does not end`);
}

function stateOf(engine: Engine, pass: Pass, object: KubeObject): PassState {
  return {
    snapshot: pass.snapshot,
    stored: engine.journal.stored(object),
    facts: pass.facts,
    results: pass.results,
    memory: pass.session.memory,
    causes: pass.causes,
    options: engine.options,
    now: engine.clock.now(),
    elapsed: engine.clock.monotonic(),
  };
}

/** E8: deletion and a new generation (a change of suspension is one) take effect between two steps. */
function hasMoved(object: KubeObject, snapshot: Snapshot): boolean {
  return (
    object.metadata.uid !== snapshot.uid ||
    (object.metadata.generation ?? 0) !== snapshot.generation ||
    (object.metadata.deletionTimestamp !== undefined) !== (snapshot.deletedAt !== undefined)
  );
}

/** A source has something new to offer while the run waits. */
function lookAhead(engine: Engine, pass: Pass): void {
  const { run } = pass.session.memory;
  if (run !== undefined && pass.causes.has("source")) renderAhead(engine, pass, run.pins);
}

/** Renders that decrypt may ask services that files name, and images are asked for at registries: both take their time. */
function asksServices({ images }: Engine, { snapshot }: Pass, facts: readonly FactKey[]): boolean {
  if (facts.some(({ kind }) => kind === "images") && mayAskRegistry(images)) return true;
  return snapshot.spec?.decryption !== undefined && facts.some(({ kind }) => kind === "render");
}

async function readFacts(engine: Engine, pass: Pass, keys: readonly FactKey[], signal: AbortSignal): Promise<void> {
  const read = await Promise.all(
    keys.map(async (key) => ({ name: factName(key), fact: await readFact(engine, pass, key, signal) })),
  );
  for (const { name, fact } of read) pass.facts.set(name, fact);
}

async function writeRecord(
  engine: Engine,
  pass: Pass,
  { object, step }: { readonly object: KubeObject; readonly step: Extract<Step, { kind: "record" }> },
  signal: AbortSignal,
): Promise<"acknowledged" | "conflict" | "failed" | "gone"> {
  const { write } = step;
  try {
    const result = await engine.journal.write(object, write, signal);
    if (result !== "acknowledged") return result;
    if (write.kind === "status") {
      announceDeferral(engine, pass, { before: statusOf(object), now: write.status });
      announceDryRuns(engine, pass, { before: statusOf(object), now: write.status });
      announceReady(engine, pass, readyCondition(write.status));
      engine.reports.recorded(pass.key, write.status, pass.snapshot.spec);
    }
    if (write.kind === "finalizer" && write.change === "remove" && write.forced !== undefined)
      engine.reports.teardownForced(pass.key, write.forced);
    return result;
  } catch (error) {
    const failure = describeRecordFailure(step, error);
    if (failure === undefined) throw error;
    pass.results = { ...pass.results, recordFailure: failure };
    return "failed";
  }
}

/** Runs an effect, unless something it rests on is not on record: that would be a bug in the core. */
async function act(
  engine: Engine,
  pass: Pass,
  { object, step }: { readonly object: KubeObject; readonly step: Extract<Step, { kind: "do" }> },
  signal: AbortSignal,
): Promise<void> {
  const missing = missingRecord(engine.journal.stored(object), step.requires);
  if (missing !== undefined) throw new Error(`refused to ${step.effect.kind} stage "${step.effect.stage}": ${missing}`);
  remember(pass.session, step.remember);
  for (const event of step.events ?? []) pass.report.event(event);
  pass.results = await runEffect(engine, pass, step.effect, signal);
  for (const name of invalidated(pass.facts, step.effect)) pass.facts.delete(name);
}

/** Facts an effect makes old: what its stage waits for. */
function invalidated(facts: ReadonlyMap<string, Fact>, effect: Effect): readonly string[] {
  return [...facts.keys()].filter((name) => name.startsWith(`readiness ${effect.stage} `));
}

function remember(session: Session, change: Partial<Memory> | undefined): void {
  if (change === undefined) return;
  session.memory = { ...session.memory, ...change };
  if (session.memory.run !== undefined) return;
  session.renders.clear();
  session.pinned.clear();
}

function conflictError(key: StageSetKey): ConstructorParameters<typeof KubeError>[0] {
  return {
    reason: "Conflict",
    message: `Cannot write the status of "${key.namespace}/${key.name}": others keep changing it`,
  };
}
