import { stageFailure } from "../failure.ts";
import { objectClaimedTwice } from "../claims.ts";
import { parseObjectId } from "../object-id.ts";
import { sameIdentity } from "../pins.ts";
import { withoutSoak } from "../promotion/soak.ts";
import { planWaves } from "../waves.ts";
import { appliedIdentity, stageEntry, type withStage } from "../status.ts";
import { verifyTimeoutMs } from "../timing.ts";
import { actionStep, hasAction } from "./action-step.ts";
import { begin, connect } from "./begin.ts";
import { isAuditDue } from "./audit.ts";
import { endFailed } from "./finish.ts";
import { failStage } from "./failing-step.ts";
import type { StageGoal } from "./goals.ts";
import { imageRecords, recordPins, turnImages } from "./image-step.ts";
import { migrationStep } from "./migration-step.ts";
import { factOf, settledPhase, stageIdentity, type Plan } from "./plan.ts";
import type {
  PassState,
  ReadinessFact,
  RecordedEntry,
  RecordedStage,
  RenderFact,
  StageResult,
  Waiting,
} from "./state.ts";
import type { Effect, InventoryRecord, RecordKey, Step } from "./step.ts";
import { describeWaiting, isGivenUp, listedNow, readinessWake, waitForReadiness, waitingField } from "./stage-wait.ts";
import { earlierStages, record, runMemory, withKey, withoutKey, type StageTurn, type Turn } from "./turn.ts";

/** The stage asks for nothing more in this pass. */
export interface Passed {
  readonly kind: "passed";
}
const passed: Passed = { kind: "passed" };

/** Waves that others build on must be Current within this time (spec 20 §6.1). */
const waveTimeoutMs = 60_000;
/** How soon a wave, or an object being recreated, is looked at again; most are there within a few. */
const waveLookMs = 100;

type ApplyEffect = Extract<Effect, { kind: "apply" }>;

/** Drives one stage to its goal; `passed` lets the next stage have its turn. */
export function stageStep(state: PassState, plan: Plan, goal: StageGoal): Step | Passed {
  const stage = plan.spec.stages[goal.index];
  if (stage === undefined || goal.identity === undefined || goal.mode === "untouched") return passed;
  const as = stageIdentity(plan.spec, stage, state.options.defaultServiceAccount);
  const entry = stageEntry(state.stored.status, goal.stage);
  const early: StageTurn = { state, plan, goal, stage, as, identity: goal.identity, entry };
  const migrates = migrationStep(early);
  if (migrates !== undefined) return migrates;
  const before = goal.mode === "keep" ? undefined : beforeObjects(early);
  if (before !== undefined) return before;
  const render = turnRender(state, plan, goal);
  if ("step" in render) return render.step;
  if (render.render === undefined) return passed;
  const judged = turnImages(early, render.render);
  if ("step" in judged) return judged.step;
  const remembered = state.memory.renderHashes.get(goal.stage);
  const rerendered = remembered !== undefined && remembered !== render.render.hash;
  const turn: Turn = { ...early, render: render.render, images: judged.images, rerendered };
  const settled = goal.mode === "keep" || (entry?.phase === "Pending" && settledPhase(plan, goal) === "Pending");
  if (goal.halted === true || (settled && !rerendered))
    return goal.index < (plan.run?.turn ?? 0) ? passed : keepStage(turn);
  return releaseStage(turn);
}

/** Pre actions: the stage has begun, on record, before the first of them (spec 20 step 18). */
function beforeObjects(turn: StageTurn): Step | undefined {
  if (!hasAction(turn, "pre")) return undefined;
  return (
    connect(turn) ?? begin(turn, "as rendered before") ?? actionStep(turn, "pre", (why) => endFailed(turn.state, why))
  );
}

/** The render for this turn: one that waited for an earlier stage is read again (spec 20 step 19). */
function turnRender(
  state: PassState,
  plan: Plan,
  goal: StageGoal,
): { readonly render: Turn["render"] | undefined } | { readonly step: Step } {
  const first = plan.renders.get(goal.stage);
  if (first === undefined || first.kind === "unobtainable" || goal.identity === undefined) return { render: undefined };
  const key = { kind: "render", stage: goal.stage, identity: goal.identity, pin: goal.pin, at: "stage" } as const;
  const fact = factOf(state, key);
  if (first.kind === "rendered" && fact === undefined && !isReadAgain(plan, goal, first)) return { render: first };
  if (first.kind === "failed") return { step: endFailed(state, first.failure) };
  if (fact === undefined) return { step: { kind: "need", facts: [key] } };
  if (fact.kind === "failed") return { step: endFailed(state, fact.failure) };
  if (fact.kind !== "render") throw new TypeError("the render fact is of another kind");
  switch (fact.render.kind) {
    case "postponed":
    case "failed":
      return { step: endFailed(state, fact.render.failure) };
    case "unobtainable":
      return { render: undefined };
    case "rendered": {
      const others = [...plan.renders].flatMap(([stage, render]) =>
        render.kind === "rendered" && stage !== goal.stage ? [{ stage, objects: render.objects }] : [],
      );
      const claimed = objectClaimedTwice([...others, { stage: goal.stage, objects: fact.render.objects }]);
      return claimed === undefined
        ? { render: fact.render }
        : { step: endFailed(state, { ...claimed, terminal: true }) };
    }
  }
}

/** Step 19: variables are read again, and kinds that were not served may be by now. */
function isReadAgain(plan: Plan, goal: StageGoal, first: Extract<RenderFact, { kind: "rendered" }>): boolean {
  if (first.provisional) return true;
  if (goal.mode === "keep") return false;
  const { turn = 0, begun = false } = plan.run ?? {};
  const stage = plan.spec.stages[goal.index];
  // Nothing was done since the first stage was rendered, unless it has pre actions, or migrations before them.
  const untouched = (stage?.actions?.pre ?? []).length === 0 && plan.spec.version === undefined ? 1 : 0;
  const firstToCome = Math.max(begun ? turn + 1 : turn, untouched);
  return goal.index >= firstToCome && (stage?.postBuild?.substituteFrom ?? []).length > 0;
}

/** Re-asserts a stage that is done: reads, repairs drift, looks at readiness, waits for nothing. */
function keepStage(turn: Turn): Step | Passed {
  const prepared = prepare(turn);
  if (prepared !== undefined) return prepared;
  const applied = applyStep(turn, isAuditDue(turn.state) ? "audit" : "steady");
  if (applied !== undefined) return applied;
  const readiness = readinessOf(turn);
  if (readiness.kind === "need") return readiness;
  switch (readiness.kind) {
    case "ready":
      return passed;
    case "failed":
      return failStage(turn, verifyFailure(turn, readiness));
    case "waiting":
      return keptNotReady(turn);
  }
}

/** A deployed stage stays Ready until it has not been ready for as long as verifying may take. */
function keptNotReady(turn: Turn): Step | Passed {
  const { state, plan, goal } = turn;
  const since = state.memory.notReadySince.get(goal.stage) ?? state.elapsed;
  const timeoutMs = verifyTimeoutMs(plan.spec, turn.stage);
  if (state.elapsed - since >= timeoutMs && goal.halted !== true)
    return record(
      turn,
      { phase: "Verifying", promotionState: withoutSoak(turn.entry?.promotionState, state.now) },
      { verifyStarted: withKey(state.memory.verifyStarted, goal.stage, since) },
    );
  const releasing = plan.goals.stages.some(
    (other) => other.index > goal.index && other.mode !== "keep" && other.mode !== "untouched",
  );
  if (!releasing) return passed;
  return {
    kind: "park",
    wakes: [readinessWake(turn), { kind: "at", elapsed: since + timeoutMs }],
    // The run makes no progress of its own: what may mend the stage replaces it at once.
    remember: { notReadySince: withKey(state.memory.notReadySince, goal.stage, since), run: undefined },
  };
}

/** Brings a stage to an identity, or back to it: record, apply, verify, record (spec 20 steps 18–24). */
function releaseStage(turn: Turn): Step | Passed {
  const prepared = prepare(turn);
  if (prepared !== undefined) return prepared;
  const begun = begin(turn, turn.rerendered ? "rendered anew" : "as rendered before");
  if (begun !== undefined) return begun;
  const applied = appliedBefore(turn)
    ? restoreLost(turn)
    : applyStep(turn, turn.entry?.phase === "Verifying" ? "steady" : "changed");
  if (applied !== undefined) return applied;
  const readiness = readinessOf(turn);
  if (readiness.kind === "need") return readiness;
  const acts = readiness.kind === "ready" && hasAction(turn, "post");
  if (readiness.kind === "ready" && !acts) return becomeReady(turn);
  const acceptedOnRecord =
    sameIdentity(appliedIdentity(turn.entry), turn.identity) && turn.entry?.appliedDigest === turn.identity.digest;
  const waits = readiness.kind === "waiting" && !isGivenUp(turn, readiness);
  if (!acceptedOnRecord || (waits && turn.entry?.phase !== "Verifying"))
    return record(
      turn,
      { ...acceptedFields(turn), phase: "Verifying", message: undefined, ...waitingField(turn, readiness) },
      { ...rememberRender(turn), ...listedNow(turn) },
    );
  switch (readiness.kind) {
    case "ready":
      return actionStep(turn, "post", (why) => failStage(turn, why)) ?? becomeReady(turn);
    case "failed":
      return failStage(turn, verifyFailure(turn, readiness));
    case "waiting":
      return waitForReadiness(turn, readiness);
  }
}

/** Connection and inventory, before any write to the target. */
function prepare(turn: Turn): Step | undefined {
  const { state } = turn;
  const connection = connect(turn);
  if (connection !== undefined) return connection;
  if (state.results.recordFailure !== undefined) return endFailed(state, state.results.recordFailure);
  return recordPins(turn) ?? recordInventory(turn);
}

/**
 * E1: the inventory grows to everything that may be written, before it is written. What later stages are going to
 * write is recorded along with it, as far as it is known: a superset is safe, and their turns need not wait for it.
 */
function recordInventory(turn: Turn): Step | undefined {
  const own = missingInventory(turn);
  if (own === undefined) return undefined;
  const ahead = turn.plan.goals.stages.slice(turn.goal.index + 1).flatMap((goal) => laterInventory(turn, goal) ?? []);
  return { kind: "record", write: { kind: "inventory", ...own, ...(ahead.length === 0 ? {} : { ahead }) } };
}

/** What a later stage lacks on record to be applied; undefined also while its turn alone can tell. */
function laterInventory({ state, plan }: Turn, goal: StageGoal): InventoryRecord | undefined {
  const stage = plan.spec.stages[goal.index];
  const render = plan.renders.get(goal.stage);
  if (stage === undefined || goal.content !== "pin" || goal.mode === "keep") return undefined;
  if (render?.kind !== "rendered" || isReadAgain(plan, goal, render)) return undefined;
  const as = stageIdentity(plan.spec, stage, state.options.defaultServiceAccount);
  const missing = missingInventory({ state, goal, render, as });
  const recorded = state.stored.inventory.get(goal.stage);
  // Whoever applied what is there stays on record until another one is about to.
  return recorded === undefined || recorded.serviceAccount === missing?.serviceAccount ? missing : undefined;
}

/** What the stage has to record before its objects are written; undefined when it is on record. */
function missingInventory(turn: Pick<Turn, "state" | "goal" | "render" | "as">): InventoryRecord | undefined {
  const { state, goal, render } = turn;
  const recorded = state.stored.inventory.get(goal.stage);
  const known = new Map((recorded?.entries ?? []).map((entry) => [entry.id, entry]));
  const grown = new Map(known);
  const recovery = recoveredEntries(state, goal.stage);
  for (const entry of recovery) if (!grown.has(entry.id)) grown.set(entry.id, entry);
  for (const object of render.objects) {
    // A kept object nobody created for us is never ours to delete, yet counts once we may have created it.
    grown.set(object.id, { id: object.id, version: object.version });
  }
  const serviceAccount = recordedAccount(turn, recorded);
  const same =
    recorded !== undefined &&
    recorded.position === goal.index &&
    recorded.serviceAccount === serviceAccount &&
    grown.size === known.size &&
    [...grown].every(([id, entry]) => shortVersion(known.get(id)?.version) === shortVersion(entry.version));
  if (same) return undefined;
  const entries: readonly RecordedEntry[] = [...grown.values()];
  return { stage: goal.stage, position: goal.index, entries, serviceAccount };
}

/** The ServiceAccount before this one stays on record until what it alone may be able to delete is pruned (spec 50 §1.6). */
function recordedAccount(
  { as, render }: Pick<Turn, "as" | "render">,
  recorded: RecordedStage | undefined,
): string | undefined {
  const rendered = new Set(render.objects.map((object) => object.id));
  const leaves = recorded?.entries.some((entry) => !rendered.has(entry.id)) ?? false;
  if (leaves && recorded?.serviceAccount !== undefined) return recorded.serviceAccount;
  return as.kind === "serviceAccount" ? as.name : undefined;
}

function recoveredEntries(state: PassState, stage: string): readonly RecordedEntry[] {
  for (const fact of state.facts.values()) if (fact.kind === "recovery") return fact.found.get(stage) ?? [];
  return [];
}

/** Older inventories spell a version `apps/v1`; it means the same (spec 10 §7). */
function shortVersion(version: string | undefined): string | undefined {
  return version === undefined ? undefined : version.slice(version.lastIndexOf("/") + 1);
}

/** This process applied exactly this render and only waits for it to become ready. */
function appliedBefore(turn: Turn): boolean {
  const { state, plan, goal, entry, identity, render } = turn;
  return (
    plan.run !== undefined &&
    entry?.phase === "Verifying" &&
    sameIdentity(appliedIdentity(entry), identity) &&
    state.memory.renderHashes.get(goal.stage) === render.hash
  );
}

/** Somebody deleted what the stage waits for, or took our labels off it: waiting alone would not bring it back. */
function restoreLost(turn: Turn): Step | undefined {
  if (currentResult(turn) === undefined) {
    const readiness = readinessOf(turn);
    if (readiness.kind === "need") return readiness;
    if (readiness.kind !== "waiting" || !readiness.objects.some((object) => isLost(turn, object))) return undefined;
  }
  return applyStep(turn, "steady");
}

function isLost({ render }: Turn, { kind, namespace, name, status }: Waiting): boolean {
  if (status !== "NotFound") return false;
  return render.objects.some((each) => each.kind === kind && each.namespace === namespace && each.name === name);
}

/** The next wave to apply, or what stands in its way; undefined when every wave is accepted. */
function applyStep(turn: Turn, mode: ApplyEffect["mode"]): Step | undefined {
  const { goal, identity, as, render } = turn;
  const waves = planWaves(render.objects);
  const result = currentResult(turn);
  if (result?.failure !== undefined) return failStage(turn, result.failure);
  if (result !== undefined && result.recreating.length > 0) return waitForWave(turn, recreatingWait(result));
  if (result !== undefined && result.unsettled.length > 0 && mode === "changed")
    return waitForWave(turn, result.unsettled);
  const next = result?.wavesDone ?? 0;
  const wave = waves[next];
  if (wave === undefined) return undefined;
  const objects = wave.flat();
  const effect: Effect = {
    kind: "apply",
    stage: goal.stage,
    identity,
    as,
    objects,
    renderHash: render.hash,
    wave: next,
    mode,
  };
  return {
    kind: "do",
    effect,
    requires: requirements(
      turn,
      objects.map((object) => object.id),
      mode,
    ),
  };
}

/** E1, E3 and E5 as records the driver checks before the effect. */
function requirements(turn: Turn, ids: readonly string[], mode: ApplyEffect["mode"]): readonly RecordKey[] {
  const { goal, identity } = turn;
  const keys: RecordKey[] = [
    { kind: "finalizer" },
    { kind: "inventory", stage: goal.stage, ids },
    ...imageRecords(turn),
  ];
  if (mode !== "changed") return keys;
  return [
    ...keys,
    { kind: "entered", stage: goal.stage, identity },
    { kind: "earlierStagesReady", stages: earlierStages(turn) },
  ];
}

function currentResult(turn: Turn): StageResult | undefined {
  const result = turn.state.results.stages.get(turn.goal.stage);
  return result !== undefined && result.renderHash === turn.render.hash && sameIdentity(result.identity, turn.identity)
    ? result
    : undefined;
}

function recreatingWait(result: StageResult): readonly Waiting[] {
  return result.recreating.map(({ id, finalizers }) => {
    const { kind, namespace, name } = parseObjectId(id) ?? { kind: "", namespace: "", name: id };
    const held = finalizers.length === 0 ? "" : `, held by finalizers ${[...finalizers].sort().join(", ")}`;
    return { kind, namespace, name, status: "Terminating", message: `is deleted to be created anew${held}` };
  });
}

/** A wave others build on is not there yet: look again soon, for at most a minute. */
function waitForWave(turn: Turn, waiting: readonly Waiting[]): Step {
  const { state, goal } = turn;
  const started = state.memory.waveStarted.get(goal.stage) ?? state.elapsed;
  const limitMs = waiting.some((object) => object.status === "Terminating")
    ? verifyTimeoutMs(turn.plan.spec, turn.stage)
    : waveTimeoutMs;
  if (state.elapsed - started >= limitMs)
    return failStage(
      turn,
      stageFailure({ name: goal.stage, operation: "apply", cause: `not ready in time: ${describeWaiting(waiting)}` }),
    );
  const spent = state.elapsed - started;
  return {
    kind: "park",
    wakes: [{ kind: "at", elapsed: state.elapsed + Math.min(2_000, Math.max(waveLookMs, spent / 4)) }],
    remember: { waveStarted: withKey(state.memory.waveStarted, goal.stage, started), run: runMemory(turn) },
  };
}

function readinessOf(turn: Turn): ReadinessFact | Extract<Step, { kind: "need" }> {
  const key = { kind: "readiness", stage: turn.goal.stage, identity: turn.identity } as const;
  const fact = factOf(turn.state, key);
  if (fact === undefined) return { kind: "need", facts: [key] };
  if (fact.kind === "failed")
    return { kind: "failed", cause: fact.failure.message, authorization: fact.failure.reason === "RBACDenied" };
  if (fact.kind !== "readiness") throw new TypeError("the readiness fact is of another kind");
  return fact.readiness;
}

function verifyFailure(
  turn: Turn,
  readiness: Extract<ReadinessFact, { kind: "failed" }>,
): ReturnType<typeof stageFailure> {
  return stageFailure(
    { name: turn.goal.stage, operation: "verify", cause: readiness.cause },
    readiness.authorization ? "authorization" : "ordinary",
  );
}

/**
 * Phase `Ready`, with everything that became true since the stage was begun. The beginning of the next stage, or the
 * commit, may share its write: both then are on record before anything else is done.
 */
function becomeReady(turn: Turn): Step | Passed {
  if (turn.entry?.phase === "Ready" && !turn.rerendered) return passed;
  const ready = record(
    turn,
    {
      ...acceptedFields(turn),
      ...withoutEpisode(turn),
      phase: settledPhase(turn.plan, turn.goal),
      message: undefined,
      waitingFor: undefined,
    },
    {
      ...rememberRender(turn),
      verifyStarted: withoutKey(turn.state.memory.verifyStarted, turn.goal.stage),
      notReadySince: withoutKey(turn.state.memory.notReadySince, turn.goal.stage),
      run: runMemory(turn, "is over"),
    },
  );
  return { ...ready, joinsNext: "at once" };
}

/** Ready ends a failure episode: its onFailure actions may run again (spec 30 §4.3). */
function withoutEpisode({ stage, entry }: Turn): Parameters<typeof withStage>[2] {
  const names = new Set((stage.actions?.onFailure ?? []).map(({ name }) => name));
  const executed = entry?.executedActions ?? [];
  return executed.some((name) => names.has(name))
    ? { executedActions: executed.filter((name) => !names.has(name)) }
    : {};
}

/** Set once every object of the stage was accepted, and by nothing else. */
function acceptedFields(turn: Turn): Parameters<typeof withStage>[2] {
  const recorded = turn.state.stored.inventory.get(turn.goal.stage);
  return {
    appliedRevision: turn.identity.revision,
    appliedDigest: turn.identity.digest,
    entriesCount: recorded?.entries.length ?? 0,
    shards: recorded?.shards ?? 0,
  };
}

function rememberRender(turn: Turn): { readonly renderHashes: ReadonlyMap<string, string> } {
  return { renderHashes: withKey(turn.state.memory.renderHashes, turn.goal.stage, turn.render.hash) };
}
