import type { StageSetSpec, StageSetStatus } from "../../api/stage-set.ts";
import { reasonInfo, type ReadyReason } from "../../api/reasons.ts";
import { stageFailure, type Failure, type NextLook } from "../failure.ts";
import type { Hold } from "../holds/hold.ts";
import { sameIdentity } from "../pins.ts";
import { deepEqual } from "../../lib/equal.ts";
import { withoutSoak } from "../promotion/soak.ts";
import { orderedStages, stageEntry, withReady, withStage, type ReadyState } from "../status.ts";
import { backoffMs, intervalMs, minuteMs, positiveMs, retryMs, soonMs, steadyMs, verifyTimeoutMs } from "../timing.ts";
import { auditedMemory, auditEveryMs } from "./audit.ts";
import { failedMemory, failuresNow } from "./failures.ts";
import { counted, withoutFailureCounts } from "./failure-count.ts";
import { withForcedToken } from "./force-record.ts";
import { currentRender, factOf, requestToken, stageIdentity, statusContext, type Plan } from "./plan.ts";
import { pruneStep } from "./prune.ts";
import { isOnTheWay, withVersion } from "./release-version.ts";
import type { PassState } from "./state.ts";
import type { Outcome, PassEvent, Step, Wake } from "./step.ts";

/** How often unfinished deletes are looked at. */
const pendingDeleteLookMs = 1_000;

/** `spec.suspend`: phases and tokens stay as they are (spec 20 step 4). */
export function endSuspended(state: PassState): Step {
  const ready: ReadyState = {
    status: "False",
    reason: "Suspended",
    message: "Suspended by spec.suspend",
    stalled: false,
  };
  const status = withReady(withoutWaits(state.stored.status), ready, statusContext(state));
  if (!deepEqual(status, state.stored.status)) return { kind: "record", write: { kind: "status", status } };
  return end({ ready, next: undefined, remember: { run: undefined } });
}

/** Nothing is waited for any more. */
function withoutWaits(status: StageSetStatus): StageSetStatus {
  if (status.stages?.some((entry) => entry.waitingFor !== undefined) !== true) return status;
  return { ...status, stages: status.stages.map(({ waitingFor: _waitingFor, ...entry }) => entry) };
}

/** A pass that ends without success: the failing stage and Ready say why, all else is carried over. */
export function endFailed(state: PassState, failed: Failure, wakes: readonly Wake[] = []): Step {
  const { why, change, isNew } = counted(state, failed);
  const ready: ReadyState = {
    status: "False",
    reason: why.reason,
    message: why.message,
    stalled: why.terminal || isStalledReason(why.reason),
  };
  const status = { ...endStatus(state, ready, why), ...change };
  if (!deepEqual(status, state.stored.status))
    // A request that was not handled before starts the count anew.
    return {
      kind: "record",
      write: { kind: "status", status },
      remember: {
        ...(status.lastHandledReconcileAt === state.stored.status.lastHandledReconcileAt ? {} : { failures: 0 }),
        ...(isNew ? { failureCounted: true } : {}),
      },
    };
  const next = nextLook(state, why.next, failuresNow(state));
  return end({
    ready,
    next,
    wakes,
    failure: why,
    remember: failedMemory(state, why.next === "backoff" ? next?.afterMs : undefined),
  });
}

/** Verify ran out of time while still progressing: the wait goes on, and a newer revision replaces it at once. */
export function endProgressing(
  state: PassState,
  waiting: {
    readonly stage: string;
    readonly message: string;
    readonly wakes: readonly Wake[];
    readonly remember: Outcome["remember"];
  },
): Step {
  const ready: ReadyState = { status: "False", reason: "StageProgressing", message: waiting.message, stalled: false };
  const ended = endStatus(state, ready, undefined);
  const status = withStage(ended, waiting.stage, {
    promotionState: withoutSoak(stageEntry(ended, waiting.stage)?.promotionState, state.now),
  });
  if (!deepEqual(status, state.stored.status)) return { kind: "record", write: { kind: "status", status } };
  return end({
    ready,
    next: nextLook(state, "retry", 1),
    wakes: waiting.wakes,
    remember: { ...waiting.remember, backoffUntil: undefined, run: undefined },
  });
}

/** Every stage is where it is driven to: prune, then commit in one status write (spec 20 steps 25–26). */
export function finishPass(state: PassState, plan: Plan): Step {
  if (plan.goals.hold !== undefined) return endHeld(state, plan, plan.goals.hold);
  const unready = notReadyStages(state, plan);
  if (unready.since.size > 0 && isReleasing(state, plan))
    return { kind: "park", wakes: unready.wakes, remember: { notReadySince: unready.since, run: undefined } };
  const pruning = pruneStep(state, plan);
  if (pruning.kind !== "pruned") return pruning;
  if (pruning.errors.length > 0) {
    const first = pruning.errors[0];
    const cause = pruning.errors.map((error) => error.message).join("; ");
    const authorization = pruning.errors.every((error) => error.kind === "authorization");
    const { stage: _stage, ...why } = stageFailure(
      { name: first?.stage ?? "", operation: "prune", cause },
      authorization ? "authorization" : "ordinary",
    );
    return endFailed(state, why);
  }
  const notes = plan.pins.flatMap((pin) => (pin.notReady === undefined ? [] : [pin.notReady]));
  const message = [`Applied and verified ${plan.spec.stages.length} stage(s)`, ...new Set(notes)].join("; ");
  const ready: ReadyState = { status: "True", reason: "Succeeded", message, stalled: false };
  // What was let through once is through.
  const { updateOverrideFor: _update, budgetOverrideFor: _budget, ...kept } = state.stored.status;
  const stored = withoutFailureCounts(kept);
  const committed = withVersion({ ...stored, ...commitFields(state, plan) }, plan.version);
  const status = withToken(state, withReady(committed, ready, statusContext(state)));
  if (!deepEqual(status, state.stored.status))
    return { kind: "record", write: { kind: "status", status }, events: baselined(state, plan) };
  const nextDelete = pruning.pending ? { afterMs: pendingDeleteLookMs, jitter: 0 } : undefined;
  return end({
    ready,
    next: nextDelete ?? nextSteadyLook(state, plan.spec),
    wakes: unready.wakes,
    verified: plan.goals.stages.filter((goal) => goal.mode !== "untouched").map((goal) => goal.stage),
    events: pruning.events,
    remember: {
      ...auditedMemory(state),
      run: undefined,
      failures: 0,
      backoffUntil: undefined,
      verifyStarted: new Map(),
      standstills: new Map(),
      waveStarted: new Map(),
      notReadySince: unready.since,
      deletesStarted: pruning.started,
    },
  });
}

/** The first version is taken over without migrations (spec 30 §9). */
function baselined({ stored: { status } }: PassState, { version }: Plan): readonly PassEvent[] {
  if (version?.adopted !== true || (status.version ?? "").trim() !== "") return [];
  const note = `version ${version.text} is recorded as deployed; no migration was run`;
  return [{ type: "Normal", reason: "MigrationsBaselined", note, once: undefined }];
}

/** Success at these pins is not on record yet: every stage must be verified first, a later one that is kept too. */
function isReleasing(state: PassState, plan: Plan): boolean {
  const { lastAppliedRevisions, lastAppliedSnapshot } = state.stored.status;
  if (!deepEqual(lastAppliedRevisions, plan.revisions)) return true;
  const digests = new Map(lastAppliedSnapshot?.map(({ stage, digest }) => [stage, digest]));
  return plan.goals.stages.some(({ stage, pin }) => (digests.get(stage) ?? pin.digest) !== pin.digest);
}

/** The interval, unless a window that stops everything closes before. */
function nextSteadyLook(state: PassState, spec: StageSetSpec): NonNullable<Outcome["next"]> {
  const afterMs = nextSteadyMs(state, spec);
  const fact = factOf(state, { kind: "windows" });
  const closesAt = fact?.kind === "windows" ? fact.state.changesAt : undefined;
  if (spec.windowScope !== "All" || typeof closesAt !== "number") return { afterMs, jitter: 0.05 };
  const untilClosedMs = Math.max(1_000, closesAt - state.now);
  return untilClosedMs < afterMs ? { afterMs: untilClosedMs, jitter: 0 } : { afterMs, jitter: 0.05 };
}

/** The interval, unless the next audit comes before. */
function nextSteadyMs(state: PassState, spec: StageSetSpec): number {
  const { auditedAt = state.elapsed } = auditedMemory(state);
  const untilAuditMs = auditedAt + auditEveryMs - state.elapsed;
  return Math.min(steadyMs(spec, state.options.defaultIntervalMs), Math.max(0, untilAuditMs));
}

/** What only a run in which every stage finished may write. */
function commitFields(state: PassState, plan: Plan): Partial<StageSetStatus> {
  const lastAppliedSnapshot = plan.goals.stages.map((goal) => {
    const render = currentRender(state, plan, goal);
    return {
      stage: goal.stage,
      url: goal.pin.url,
      digest: goal.pin.digest,
      revision: goal.pin.revision,
      ...(render?.kind === "rendered" && render.substitutionDigest !== ""
        ? { substitutionDigest: render.substitutionDigest }
        : {}),
    };
  });
  return {
    lastAppliedRevisions: plan.revisions,
    lastAppliedSnapshot,
    stages: orderedStages(plan.spec, state.stored.status).map((entry) => {
      const recorded = state.stored.inventory.get(entry.name);
      return recorded === undefined || entry.entriesCount === undefined
        ? entry
        : { ...entry, entriesCount: recorded.entries.length, shards: recorded.shards };
    }),
  };
}

/** Deployed stages that are not ready right now, and since when (spec 20 §2, steady pass). */
function notReadyStages(
  state: PassState,
  plan: Plan,
): { readonly since: ReadonlyMap<string, number>; readonly wakes: readonly Wake[] } {
  const since = new Map<string, number>();
  const wakes: Wake[] = [];
  for (const goal of plan.goals.stages) {
    if (goal.identity === undefined) continue;
    const fact = factOf(state, { kind: "readiness", stage: goal.stage, identity: goal.identity });
    if (fact?.kind !== "readiness" || fact.readiness.kind !== "waiting") continue;
    const stage = plan.spec.stages[goal.index];
    if (stage === undefined) continue;
    const notReadySince = state.memory.notReadySince.get(goal.stage) ?? state.elapsed;
    since.set(goal.stage, notReadySince);
    const as = stageIdentity(plan.spec, stage, state.options.defaultServiceAccount);
    wakes.push({ kind: "readiness", stage: goal.stage, identity: goal.identity, as });
    const look = state.elapsed + Math.min(minuteMs, retryMs(plan.spec, state.options.defaultIntervalMs));
    wakes.push({ kind: "at", elapsed: Math.min(look, notReadySince + verifyTimeoutMs(plan.spec, stage)) });
  }
  return { since, wakes };
}

/** A hold: Ready stays True only for what is fully deployed (spec 40 §1). */
function endHeld(state: PassState, plan: Plan, hold: Hold): Step {
  const { status: stored } = state.stored;
  const { gate, standstill } = plan.goals;
  const deployed =
    hold.kind === "wait" &&
    gate === undefined &&
    stored.lastAppliedRevisions !== undefined &&
    !isInFlight(stored, plan);
  const ready: ReadyState = deployed
    ? { status: "True", reason: "Succeeded", message: `Deployed; ${hold.message}`, stalled: false }
    : { status: "False", reason: hold.reason, message: hold.message, stalled: isStalledReason(hold.reason) };
  const status = endStatus(state, ready, undefined);
  if (!deepEqual(status, stored)) return { kind: "record", write: { kind: "status", status } };
  const retry = retryMs(plan.spec, state.options.defaultIntervalMs);
  const lookMs = (until: number | undefined): number =>
    until === undefined ? retry : Math.max(1_000, until - state.now);
  // A hold never stops drift correction, but for one that stops everything: full passes go on at the steady cadence.
  const steady = standstill ? lookMs(hold.until) : nextSteadyMs(state, plan.spec);
  const fullMs = hold === gate?.hold ? steady : Math.min(steady, lookMs(hold.until));
  const tickMs = gate === undefined || standstill ? Infinity : lookMs(gate.hold.until);
  const unready = notReadyStages(state, plan);
  const corrected = plan.goals.stages.filter(({ stage }) => plan.renders.get(stage)?.kind === "rendered");
  return end({
    ready,
    next: { afterMs: Math.min(fullMs, tickMs), jitter: 0 },
    wakes: unready.wakes,
    verified: corrected.map(({ stage }) => stage),
    events: pausedCorrections(plan),
    held: hold.reason,
    remember: {
      ...(standstill ? {} : auditedMemory(state)),
      tick: gate === undefined || standstill ? undefined : tickMemory(state, plan, { fullMs, wakes: unready.wakes }),
      run: undefined,
      failures: 0,
      backoffUntil: undefined,
      notReadySince: unready.since,
    },
  });
}

/** Ticks until the next full pass, or until a stage that is not ready is to be looked at again. */
function tickMemory(
  state: PassState,
  { pins }: Plan,
  { fullMs, wakes }: { readonly fullMs: number; readonly wakes: readonly Wake[] },
): NonNullable<PassState["memory"]["tick"]> {
  const looks = wakes.flatMap((wake) => (wake.kind === "at" ? [wake.elapsed] : []));
  return { generation: state.snapshot.generation, pins, fullAt: Math.min(state.elapsed + fullMs, ...looks) };
}

/** Some stage began something else than what is committed, or the way to another version. */
function isInFlight(status: StageSetStatus, { goals, version, spec }: Plan): boolean {
  const { lastAppliedSnapshot } = status;
  if (spec.version !== undefined && isOnTheWay(status, version)) return true;
  return goals.stages.some(({ stage, identity }) => {
    const committed = lastAppliedSnapshot?.find((entry) => entry.stage === stage);
    if (identity === undefined || committed === undefined) return identity !== committed;
    const { revision = identity.revision, digest } = committed;
    return !sameIdentity(identity, { revision, digest });
  });
}

/** Held stages whose content cannot be had, or must not be written because they began it and did not finish (spec 40 §1). */
function pausedCorrections({ goals, renders }: Plan): readonly PassEvent[] {
  if (goals.standstill) return [];
  return goals.stages.flatMap(({ stage, mode, identity }): readonly PassEvent[] => {
    if (identity === undefined) return [];
    const render = renders.get(stage);
    const why =
      render?.kind === "unobtainable"
        ? render.why
        : mode === "untouched"
          ? `stage "${stage}" began revision "${identity.revision}" without finishing it, and may not go on`
          : undefined;
    if (why === undefined) return [];
    const once = `paused ${stage} ${identity.revision} ${identity.digest ?? ""}`;
    return [{ type: "Warning", reason: "DriftCorrectionPaused", note: `Drift is not corrected: ${why}`, once }];
  });
}

/** The status a pass without success ends with. */
function endStatus(state: PassState, ready: ReadyState, why: Failure | undefined): StageSetStatus {
  const { spec, invalid } = state.snapshot;
  const stored = state.stored.status;
  // Entries carry ledgers: those of stages that an invalid spec does not show, or shows twice, stay as they are.
  let status: StageSetStatus =
    spec === undefined || invalid !== undefined ? stored : { ...stored, stages: orderedStages(spec, stored) };
  // A write that raises observedGeneration must not leave a stage Ready that was not verified under it (spec 40 §8.1).
  if (stored.observedGeneration !== state.snapshot.generation)
    status = { ...status, stages: (status.stages ?? []).map((entry) => ({ ...entry, phase: "Pending" as const })) };
  if (why?.stage !== undefined)
    status = withStage(status, why.stage.name, {
      phase: "Failed",
      message: `${why.stage.operation}: ${why.stage.cause}`,
      waitingFor: undefined,
      promotionState: withoutSoak(stageEntry(status, why.stage.name)?.promotionState, state.now),
    });
  return withToken(state, withReady(status, ready, statusContext(state)));
}

/** Tokens are handled by the write that ends the pass (spec 20 step 5). */
function withToken(state: PassState, status: StageSetStatus): StageSetStatus {
  const token = requestToken(state);
  const fresh = token !== undefined && token !== state.stored.status.lastHandledReconcileAt;
  const lifted = fresh && token !== state.memory.unhalted ? withoutFailureCounts(status) : status;
  const handled = token === undefined ? lifted : { ...lifted, lastHandledReconcileAt: token };
  return withForcedToken(state, handled);
}

/** Whether nothing but an edit of somebody's helps, whatever the cause (spec 10 §6). */
export function isStalledReason(reason: ReadyReason): boolean {
  return reasonInfo(reason).stalled === "always";
}

/** The delay of a next look and its jitter (spec 20 §1). */
function nextLook(state: PassState, look: NextLook, failures: number): Outcome["next"] {
  const spec: StageSetSpec = state.snapshot.spec ?? { stages: [] };
  const { defaultIntervalMs } = state.options;
  switch (look) {
    case "never":
      return undefined;
    case "soon":
      return { afterMs: soonMs(failures), jitter: 0 };
    case "minute":
      return { afterMs: minuteMs, jitter: 0 };
    case "interval":
      return { afterMs: intervalMs(spec, defaultIntervalMs), jitter: 0.05 };
    case "retry":
      return { afterMs: positiveMs(spec.retryInterval) ?? intervalMs(spec, defaultIntervalMs), jitter: 0.05 };
    case "backoff":
      return { afterMs: backoffMs(retryMs(spec, defaultIntervalMs), failures), jitter: 0.1 };
  }
}

/** An `end` step; whatever is not given is empty. */
export function end(outcome: {
  readonly ready: ReadyState | undefined;
  readonly next: Outcome["next"];
  readonly wakes?: readonly Wake[];
  readonly remember?: Outcome["remember"];
  readonly failure?: Failure;
  readonly events?: readonly PassEvent[];
  readonly verified?: readonly string[];
  readonly held?: ReadyReason;
}): Step {
  return {
    kind: "end",
    outcome: {
      ready: outcome.ready,
      next: outcome.next,
      wakes: outcome.wakes ?? [],
      remember: outcome.remember ?? {},
      failure: outcome.failure,
      events: outcome.events ?? [],
      verified: outcome.verified ?? [],
      held: outcome.held,
    },
  };
}
