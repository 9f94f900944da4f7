import { currentRender, stageIdentity, stageSetIdentity, type Plan } from "./plan.ts";
import type { DeleteError, Identity, PassState, RecordedEntry, RecordedStage } from "./state.ts";
import type { PassEvent, RecordKey, Step } from "./step.ts";

/** A stage's deletes start when those of the stage before are gone, or after this time (spec 20 §8.3). */
const pruneOrderWaitMs = 2 * 60_000;

/** Every delete that could be made was made. */
export interface Pruned {
  readonly kind: "pruned";
  readonly errors: readonly (DeleteError & { readonly stage: string })[];
  /** Some objects still have finalizers; they stay recorded. */
  readonly pending: boolean;
  /** When the deletes of each stage with pending objects started, monotonic ms. */
  readonly started: ReadonlyMap<string, number>;
  readonly events: readonly PassEvent[];
}

/**
 * One plan over all stages: what is recorded and rendered by no stage is deleted, last stage first. What moved to
 * another stage leaves the old record and is not touched.
 */
export function pruneStep(state: PassState, plan: Plan): Step | Pruned {
  const rebuilt = [...state.facts.values()].find((fact) => fact.kind === "recovery");
  const events: PassEvent[] = [];
  const errors: (DeleteError & { stage: string })[] = [];
  const started = new Map<string, number>();
  if (rebuilt?.kind === "recovery") {
    const unlisted = rebuilt.unlisted.length === 0 ? "" : `; could not list ${rebuilt.unlisted.join(", ")}`;
    const stages = [...rebuilt.found.keys()].join(", ");
    events.push({
      type: "Warning",
      reason: "InventoryReconstructed",
      note: `Rebuilt the inventory of ${stages}; nothing is pruned in this pass${unlisted}`,
      once: undefined,
    });
    return { kind: "pruned", errors, pending: true, started, events };
  }
  const rendered = renderedIds(state, plan);
  // What nobody can tell to be dropped stays.
  if (rendered === undefined) return { kind: "pruned", errors, pending: false, started, events };
  for (const recorded of lastFirst(state)) {
    const leaving = recorded.entries.filter((entry) => !rendered.has(entry.id));
    const moved = recorded.entries.filter((entry) => movedAway(rendered, entry, recorded.stage));
    const step = pruneStage(state, plan, { recorded, leaving, moved });
    if (step.kind !== "done") return step;
    errors.push(...step.errors.map((error) => ({ ...error, stage: recorded.stage })));
    if (step.pending === 0) continue;
    const since = state.memory.deletesStarted.get(recorded.stage) ?? state.elapsed;
    started.set(recorded.stage, since);
    if (state.elapsed - since < pruneOrderWaitMs) return { kind: "pruned", errors, pending: true, started, events };
  }
  return { kind: "pruned", errors, pending: started.size > 0, started, events };
}

interface StagePruning {
  readonly recorded: RecordedStage;
  readonly leaving: readonly RecordedEntry[];
  readonly moved: readonly RecordedEntry[];
}

type StagePruned = {
  readonly kind: "done";
  readonly errors: readonly DeleteError[];
  readonly pending: number;
};

function pruneStage(state: PassState, plan: Plan, { recorded, leaving, moved }: StagePruning): Step | StagePruned {
  const index = plan.spec.stages.findIndex((stage) => stage.name === recorded.stage);
  const stage = plan.spec.stages[index];
  const result = state.results.deletes.get(recorded.stage);
  const keepsObjects = stage?.prune === false;
  if (leaving.length > 0 && !keepsObjects && result === undefined)
    return {
      kind: "do",
      effect: {
        kind: "delete",
        stage: recorded.stage,
        as: deletingIdentities(state, plan, recorded),
        entries: leaving,
        purpose: "prune",
      },
      requires: [{ kind: "finalizer" } satisfies RecordKey],
    };
  const gone = new Set(keepsObjects ? leaving.map((entry) => entry.id) : (result?.gone ?? []));
  for (const entry of moved) gone.add(entry.id);
  const remaining = recorded.entries.filter((entry) => !gone.has(entry.id));
  if (stage === undefined && remaining.length === 0)
    return { kind: "record", write: { kind: "inventoryRemoval", stage: recorded.stage } };
  if (remaining.length !== recorded.entries.length)
    return {
      kind: "record",
      write: {
        kind: "inventory",
        stage: recorded.stage,
        position: index < 0 ? recorded.position : index,
        entries: remaining,
        serviceAccount: accountLeft(state, plan, { recorded, leaving, gone }),
      },
    };
  return { kind: "done", errors: result?.errors ?? [], pending: result?.pending.length ?? 0 };
}

/** The stage's ServiceAccount once nothing is left of what an earlier one applied. */
function accountLeft(
  state: PassState,
  plan: Plan,
  pruned: {
    readonly recorded: RecordedStage;
    readonly leaving: readonly RecordedEntry[];
    readonly gone: ReadonlySet<string>;
  },
): string | undefined {
  const stage = plan.spec.stages.find((candidate) => candidate.name === pruned.recorded.stage);
  if (stage === undefined || pruned.leaving.some((entry) => !pruned.gone.has(entry.id)))
    return pruned.recorded.serviceAccount;
  const own = stageIdentity(plan.spec, stage, state.options.defaultServiceAccount);
  return own.kind === "serviceAccount" ? own.name : undefined;
}

/** The stage's own identity, then the recorded one; for a stage that left the spec the recorded one, else S. */
function deletingIdentities(state: PassState, plan: Plan, recorded: RecordedStage): readonly Identity[] {
  const { defaultServiceAccount } = state.options;
  const stage = plan.spec.stages.find((candidate) => candidate.name === recorded.stage);
  const own =
    stage === undefined
      ? stageSetIdentity(plan.spec, defaultServiceAccount)
      : stageIdentity(plan.spec, stage, defaultServiceAccount);
  if (recorded.serviceAccount === undefined) return [own];
  const before: Identity = { kind: "serviceAccount", name: recorded.serviceAccount };
  if (own.kind === "serviceAccount" && own.name === before.name) return [own];
  return stage === undefined ? [before] : [own, before];
}

/** Every rendered id with the stages that render it; undefined while some stage's render is not known. */
function renderedIds(state: PassState, plan: Plan): ReadonlyMap<string, ReadonlySet<string>> | undefined {
  const ids = new Map<string, Set<string>>();
  for (const goal of plan.goals.stages) {
    const render = currentRender(state, plan, goal);
    if (render?.kind !== "rendered") return undefined;
    for (const object of render.objects) ids.set(object.id, (ids.get(object.id) ?? new Set()).add(goal.stage));
  }
  return ids;
}

function movedAway(rendered: ReadonlyMap<string, ReadonlySet<string>>, entry: RecordedEntry, stage: string): boolean {
  const owners = rendered.get(entry.id);
  return owners !== undefined && !owners.has(stage);
}

/** Recorded stages by position, last first; equal positions by name, so that the order is always the same. */
export function lastFirst(state: PassState): readonly RecordedStage[] {
  const positions = new Map(state.snapshot.spec?.stages.map((stage, index) => [stage.name, index]));
  const positionOf = (recorded: RecordedStage): number => positions.get(recorded.stage) ?? recorded.position;
  return [...state.stored.inventory.values()].sort(
    (a, b) => positionOf(b) - positionOf(a) || (a.stage < b.stage ? 1 : a.stage > b.stage ? -1 : 0),
  );
}
