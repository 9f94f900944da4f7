import type { StageSetSpec } from "../../api/stage-set.ts";
import { failure, type Failure } from "../failure.ts";
import { deepEqual } from "../../lib/equal.ts";
import { stageEntry, withStage } from "../status.ts";
import { backoffMs, defaultVerifyTimeoutMs, retryMs, verifyTimeoutMs } from "../timing.ts";
import { end } from "./finish.ts";
import { factOf, stageIdentity, stageSetIdentity } from "./plan.ts";
import { lastFirst } from "./prune.ts";
import { leaveTarget } from "./leave-target.ts";
import { localTarget } from "../target.ts";
import type { DeleteError, Identity, PassState, RecordedStage } from "./state.ts";
import type { ForcedDrop, Step } from "./step.ts";

/** A refusal may be a race between the deletion of RBAC objects and of the StageSet: it counts after this time. */
const refusalGraceMs = 60_000;
/** How often objects that are going are looked at, while the stage before them waits. */
const goneLookMs = 1_000;
const longestRemaining = 10;

/**
 * Deletion (spec 20 §12): stages last first, each gone before the next, then the finalizer. Nothing but the inventory
 * is needed, so it works for suspended, invalid and half-deployed StageSets alike.
 */
export function teardownStep(state: PassState, deletedAt: number): Step {
  if (!state.stored.hasFinalizer) return end({ ready: undefined, next: undefined });
  const lost = lostRecords(state);
  return "kind" in lost ? lost : tearDown(lost.state, { deletedAt, errors: lost.errors, rebuilt: lost.rebuilt });
}

function tearDown(
  state: PassState,
  begun: {
    readonly deletedAt: number;
    readonly errors: readonly DeleteError[];
    /** Stages whose record was rebuilt for this pass: it cannot be written. */
    readonly rebuilt: ReadonlySet<string>;
  },
): Step {
  const { deletedAt, rebuilt } = begun;
  const errors = [...begun.errors];
  let waiting = false;
  const started = new Map(state.memory.deletesStarted);
  const moved = leaveTarget(state);
  if (moved !== undefined) {
    const { recordFailure } = state.results;
    if (recordFailure === undefined) return moved;
    return unfinished(state, { deletedAt, errors: [...errors, unrecorded(recordFailure)], waiting, started });
  }
  const unreachable = targetUnknown(state);
  if (unreachable !== undefined)
    return unfinished(state, { deletedAt, errors: [...errors, unreachable], waiting, started });
  for (const recorded of lastFirst(state)) {
    const spec = state.snapshot.spec;
    const stage = spec?.stages.find((candidate) => candidate.name === recorded.stage);
    if (stage?.prune === false || recorded.entries.length === 0) continue;
    const marked = markPruning(state, recorded);
    if (marked !== undefined) return marked;
    const result = state.results.deletes.get(recorded.stage);
    if (result === undefined) return deleteStage(state, recorded);
    const gone = new Set(result.gone);
    const remaining = recorded.entries.filter((entry) => !gone.has(entry.id));
    if (remaining.length !== recorded.entries.length && !rebuilt.has(recorded.stage)) {
      const { recordFailure } = state.results;
      // Asked for again at once, it would fail again.
      if (recordFailure !== undefined)
        return unfinished(state, { deletedAt, errors: [...errors, unrecorded(recordFailure)], waiting, started });
      return {
        kind: "record",
        write: {
          kind: "inventory",
          stage: recorded.stage,
          position: recorded.position,
          entries: remaining,
          serviceAccount: recorded.serviceAccount,
        },
      };
    }
    errors.push(...result.errors);
    if (result.pending.length === 0) continue;
    const since = started.get(recorded.stage) ?? state.elapsed;
    started.set(recorded.stage, since);
    const limit = stage === undefined || spec === undefined ? defaultVerifyTimeoutMs : verifyTimeoutMs(spec, stage);
    waiting = true;
    if (state.elapsed - since < limit) break;
  }
  if (!waiting && errors.length === 0)
    return { kind: "record", write: { kind: "finalizer", change: "remove", forced: undefined } };
  return unfinished(state, { deletedAt, errors, waiting, started });
}

/** Objects of another cluster, which only the spec says how to reach: looked for on this one, they would count as gone. */
function targetUnknown({ snapshot, stored }: PassState): DeleteError | undefined {
  if (snapshot.spec !== undefined) return undefined;
  const [recorded] = [...stored.inventory.values()].filter(
    ({ target, entries }) => target !== undefined && target !== localTarget && entries.length > 0,
  );
  if (recorded === undefined) return undefined;
  const message =
    `objects of stage "${recorded.stage}" are on ${recorded.target ?? ""}, and the spec cannot be read that says how to ` +
    "reach it: restore spec.kubeConfig and spec.stages";
  return { id: "", kind: "other", message };
}

/** What was deleted could not be taken off the record. */
function unrecorded({ message }: Failure): DeleteError {
  return { id: "", kind: "other", message };
}

/** Objects are left: the finalizer is given up where it must be, else the teardown goes on later. */
function unfinished(
  state: PassState,
  teardown: {
    readonly deletedAt: number;
    readonly errors: readonly DeleteError[];
    readonly waiting: boolean;
    readonly started: ReadonlyMap<string, number>;
  },
): Step {
  const { errors, waiting, started } = teardown;
  const forced = forcedDrop(state, { ...teardown, remaining: remainingIds(state) });
  if (forced !== undefined) return forced;
  const failures = errors.length > 0 ? state.memory.failures + 1 : 0;
  const spec: StageSetSpec = state.snapshot.spec ?? { stages: [] };
  const backoff = backoffMs(retryMs(spec, state.options.defaultIntervalMs), failures);
  const firstError = errors[0];
  return end({
    ready: undefined,
    next: { afterMs: waiting ? Math.min(goneLookMs, backoff) : backoff, jitter: 0 },
    ...(firstError === undefined ? {} : { failure: failure("StageFailed", firstError.message, "backoff") }),
    remember: { deletesStarted: started, failures },
  });
}

type LostRecords =
  | Step
  | {
      /** With the records that had to be rebuilt. */
      readonly state: PassState;
      readonly rebuilt: ReadonlySet<string>;
      readonly errors: readonly DeleteError[];
    };

/** Shards that status tells of and that are gone: found again by the labels of what they recorded (spec 20 §12.3). */
function lostRecords(state: PassState): LostRecords {
  const stages = (state.snapshot.spec?.stages ?? []).filter(
    (stage) => stage.prune !== false && isLost(state, stage.name),
  );
  const nothing = { state, rebuilt: new Set<string>(), errors: [] };
  if (stages.length === 0) return nothing;
  const key = { kind: "recovery", stages: stages.map((stage) => stage.name) } as const;
  const fact = factOf(state, key);
  if (fact === undefined) return { kind: "need", facts: [key] };
  if (fact.kind === "failed")
    return { ...nothing, errors: [{ id: "", kind: fact.refusal ?? "other", message: fact.failure.message }] };
  if (fact.kind !== "recovery") throw new TypeError("the recovery fact is of another kind");
  const inventory = new Map(state.stored.inventory);
  for (const [stage, found] of fact.found) {
    const recorded = inventory.get(stage);
    const known = new Set(recorded?.entries.map((entry) => entry.id));
    inventory.set(stage, {
      stage,
      position: recorded?.position ?? 0,
      shards: recorded?.shards ?? 0,
      serviceAccount: recorded?.serviceAccount,
      target: recorded?.target,
      entries: [...(recorded?.entries ?? []), ...found.filter((entry) => !known.has(entry.id))],
    });
  }
  return {
    state: { ...state, stored: { ...state.stored, inventory } },
    rebuilt: new Set(fact.found.keys()),
    errors: [],
  };
}

/** Whether status tells of more shards of the stage than there are. */
export function isLost(state: PassState, stage: string): boolean {
  const entry = stageEntry(state.stored.status, stage);
  if (entry?.appliedRevision === undefined || entry.appliedRevision === "") return false;
  const recorded = state.stored.inventory.get(stage);
  return recorded === undefined || recorded.shards < (entry.shards ?? 1);
}

/** Phase `Pruning` while a stage is torn down (spec 20 §12.4). */
function markPruning(state: PassState, recorded: RecordedStage): Step | undefined {
  const { status } = state.stored;
  const entry = stageEntry(status, recorded.stage);
  if (entry === undefined || entry.phase === "Pruning") return undefined;
  const next = withStage(status, recorded.stage, { phase: "Pruning", message: undefined, waitingFor: undefined });
  return deepEqual(next, status) ? undefined : { kind: "record", write: { kind: "status", status: next } };
}

function deleteStage(state: PassState, recorded: RecordedStage): Step {
  return {
    kind: "do",
    effect: {
      kind: "delete",
      stage: recorded.stage,
      as: identities(state, recorded),
      entries: recorded.entries,
      purpose: "teardown",
    },
    requires: [{ kind: "finalizer" }],
  };
}

/** The identity that can write the stage's objects now, then the one that wrote them (spec 50 §1.1 rule 3, §1.6). */
function identities(state: PassState, recorded: RecordedStage): readonly Identity[] {
  const { spec } = state.snapshot;
  const { defaultServiceAccount } = state.options;
  const before: Identity | undefined =
    recorded.serviceAccount === undefined ? undefined : { kind: "serviceAccount", name: recorded.serviceAccount };
  if (spec === undefined) return [before ?? stageSetIdentity({ stages: [] }, defaultServiceAccount)];
  const stage = spec.stages.find((candidate) => candidate.name === recorded.stage);
  if (stage === undefined) return [before ?? stageSetIdentity(spec, defaultServiceAccount)];
  const own = stageIdentity(spec, stage, defaultServiceAccount);
  if (before === undefined || (own.kind === "serviceAccount" && own.name === recorded.serviceAccount)) return [own];
  return [own, before];
}

/** Whether the finalizer goes although objects remain, and why (spec 20 §12.7). */
function forcedDrop(
  state: PassState,
  teardown: {
    readonly deletedAt: number;
    readonly errors: readonly DeleteError[];
    readonly waiting: boolean;
    readonly remaining: readonly string[];
  },
): Step | undefined {
  const age = state.now - teardown.deletedAt;
  const limit = state.options.maxTeardownWaitMs;
  const lastError = teardown.errors.at(-1)?.message ?? "objects are still terminating";
  const drop = (reason: ForcedDrop["reason"]): Step => ({
    kind: "record",
    write: {
      kind: "finalizer",
      change: "remove",
      forced: { reason, elapsedMs: age, lastError, remaining: teardown.remaining.slice(0, longestRemaining) },
    },
  });
  if (limit > 0 && age >= limit) return drop("timed_out");
  if (teardown.errors.length === 0 || teardown.waiting) return undefined;
  if (teardown.errors.every((error) => error.kind === "authorization"))
    return age >= refusalGraceMs ? drop("permanent") : undefined;
  if (!teardown.errors.every((error) => error.kind !== "other")) return undefined;
  if (age >= refusalGraceMs) return drop("unauthorized");
  const namespace = factOf(state, { kind: "namespace" });
  if (namespace === undefined) return { kind: "need", facts: [{ kind: "namespace" }] };
  return namespace.kind === "namespace" && namespace.terminating ? drop("unauthorized") : undefined;
}

function remainingIds(state: PassState): readonly string[] {
  const kept = new Set(state.snapshot.spec?.stages.filter((stage) => stage.prune === false).map((stage) => stage.name));
  return [...state.stored.inventory.values()]
    .filter((recorded) => !kept.has(recorded.stage))
    .flatMap((recorded) => {
      const gone = new Set(state.results.deletes.get(recorded.stage)?.gone);
      return recorded.entries.map((entry) => entry.id).filter((id) => !gone.has(id));
    });
}
