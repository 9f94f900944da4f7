import type { StageSetSpec } from "../../api/stage-set.ts";
import { failure } from "../failure.ts";
import { deepEqual } from "../../lib/equal.ts";
import { stageEntry, withStage } from "../status.ts";
import { backoffMs, defaultVerifyTimeoutMs, retryMs, verifyTimeoutMs } from "../timing.ts";
import { end } from "./finish.ts";
import { factOf, stageIdentity, stageSetIdentity } from "./plan.ts";
import { lastFirst } from "./prune.ts";
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
  const errors: DeleteError[] = [];
  let waiting = false;
  const started = new Map(state.memory.deletesStarted);
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
    if (remaining.length !== recorded.entries.length)
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
    errors.push(...result.errors);
    if (result.pending.length === 0) continue;
    const since = started.get(recorded.stage) ?? state.elapsed;
    started.set(recorded.stage, since);
    const limit = stage === undefined || spec === undefined ? defaultVerifyTimeoutMs : verifyTimeoutMs(spec, stage);
    waiting = true;
    if (state.elapsed - since < limit) break;
  }
  const remaining = remainingIds(state);
  if (!waiting && errors.length === 0)
    return { kind: "record", write: { kind: "finalizer", change: "remove", forced: undefined } };
  const forced = forcedDrop(state, { deletedAt, errors, waiting, remaining });
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

/** Phase `Pruning` while a stage is torn down (spec 20 §12.4). */
function markPruning(state: PassState, recorded: RecordedStage): Step | undefined {
  const { status } = state.stored;
  const entry = stageEntry(status, recorded.stage);
  if (entry === undefined || entry.phase === "Pruning") return undefined;
  const next = withStage(status, recorded.stage, { phase: "Pruning", message: undefined });
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
    .flatMap((recorded) => recorded.entries.map((entry) => entry.id));
}
