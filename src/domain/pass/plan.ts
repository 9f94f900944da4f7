import type { StageSetSpec } from "../../api/stage-set.ts";
import type { GoalInput } from "../holds/hold.ts";
import { requestedAtAnnotation } from "../../api/keys.ts";
import { tokenOf } from "../ignored-annotations.ts";
import { revisionKeys, type Pin } from "../pins.ts";
import type { ReadyState, StatusContext } from "../status.ts";
import { intervalMs, retryMs } from "../timing.ts";
import type { WindowState } from "../windows/update-windows.ts";
import type { Goals, StageGoal } from "./goals.ts";
import type { ReleaseVersion } from "./release-version.ts";
import {
  factName,
  type EngineOptions,
  type Fact,
  type FactKey,
  type Identity,
  type PassState,
  type RenderFact,
  type RunMemory,
} from "./state.ts";

/** What every part of a pass over a valid spec needs. */
export interface Plan {
  readonly spec: StageSetSpec;
  readonly pins: readonly Pin[];
  readonly goals: Goals;
  /** Undefined: the spec has none, or it is not gone to in this pass. */
  readonly version: ReleaseVersion | undefined;
  /** Effective revisions as `lastAttemptedRevisions` spells them. */
  readonly revisions: Readonly<Record<string, string>>;
  /** The run of this target that is under way in this process: stages that had their turn pass without requests. */
  readonly run: RunMemory | undefined;
  readonly renders: ReadonlyMap<string, RenderFact>;
}

/** The StageSet identity S (spec 50 §1). */
export function stageSetIdentity(spec: StageSetSpec, defaultServiceAccount: string | undefined): Identity {
  const name = spec.serviceAccountName || defaultServiceAccount;
  return name === undefined || name === "" ? { kind: "controller" } : { kind: "serviceAccount", name };
}

/** The stage identity T: the stage's ServiceAccount, else S. */
export function stageIdentity(
  spec: StageSetSpec,
  stage: { readonly serviceAccountName?: string },
  defaultServiceAccount: string | undefined,
): Identity {
  return stage.serviceAccountName === undefined || stage.serviceAccountName === ""
    ? stageSetIdentity(spec, defaultServiceAccount)
    : { kind: "serviceAccount", name: stage.serviceAccountName };
}

/**
 * As whom a Secret is read that a spec names for the whole StageSet, or for one stage: S, but where S would be the
 * controller and may not be, T of that stage, or of the first (spec 50 §1.1 rule 2).
 */
export function credentialIdentity(
  spec: StageSetSpec,
  stage: { readonly serviceAccountName?: string } | undefined,
  options: Pick<EngineOptions, "defaultServiceAccount" | "requireServiceAccount">,
): Identity {
  const identity = stageSetIdentity(spec, options.defaultServiceAccount);
  if (identity.kind !== "controller" || !options.requireServiceAccount) return identity;
  return stageIdentity(spec, stage ?? spec.stages[0] ?? {}, options.defaultServiceAccount);
}

/** What goals are decided from; `windows` undefined: nobody asked. */
export function goalInput(
  state: PassState,
  of: { readonly spec: StageSetSpec; readonly pins: readonly Pin[]; readonly windows: WindowState | undefined },
): GoalInput {
  const { snapshot, stored, now, options } = state;
  const { namespace, name, generation } = snapshot;
  const retry = retryMs(of.spec, options.defaultIntervalMs);
  return {
    ...of,
    budgets: undefined,
    versionHold: undefined,
    version: undefined,
    key: { namespace, name },
    status: stored.status,
    generation,
    now,
    retryMs: retry,
    intervalMs: intervalMs(of.spec, options.defaultIntervalMs),
    ledger: stored.ledger,
  };
}

export function statusContext(state: PassState): StatusContext {
  return { generation: state.snapshot.generation, now: state.now, runbookLink: state.options.runbookLink };
}

/** Ready while a run is under way. */
export function releasing({ goals }: Pick<Plan, "goals">): ReadyState {
  return {
    status: "Unknown",
    reason: "Progressing",
    message: `Releasing ${goals.stages.length} stage(s)`,
    stalled: false,
  };
}

/** The render a goal needs; none for stages left untouched. */
export function renderKey(goal: StageGoal): Extract<FactKey, { kind: "render" }> | undefined {
  if (goal.identity === undefined || goal.mode === "untouched") return undefined;
  return {
    kind: "render",
    stage: goal.stage,
    identity: goal.identity,
    pin: goal.content === "pin" ? goal.pin : undefined,
    at: "preflight",
  };
}

/** The render a stage's turn worked on: what was read then, else what the preflight read. */
export function currentRender(state: PassState, plan: Plan, goal: StageGoal): RenderFact | undefined {
  const key = renderKey(goal);
  if (key === undefined) return undefined;
  const late = factOf(state, { ...key, at: "stage" });
  return late?.kind === "render" ? late.render : plan.renders.get(goal.stage);
}

/**
 * The phase of a stage that is applied and verified at its goal. One that is held while an earlier stage already took
 * what their common source offers now is not Ready: `lastAttemptedRevisions` names another revision (E4).
 */
export function settledPhase(
  { pins, revisions }: Pick<Plan, "pins" | "revisions">,
  goal: StageGoal,
): "Ready" | "Pending" {
  if (goal.content === "pin") return "Ready";
  const attempted = revisions[revisionKeys(pins)[goal.index] ?? ""];
  return attempted === goal.identity?.revision ? "Ready" : "Pending";
}

/** The keys among `keys` whose fact has not been read in this pass. */
export function unread(state: PassState, keys: readonly FactKey[]): readonly FactKey[] {
  return keys.filter((key) => !state.facts.has(factName(key)));
}

export function factOf(state: PassState, key: FactKey): Fact | undefined {
  return state.facts.get(factName(key));
}

/** The token of the annotation that asks for a reconcile now. */
export function requestToken(state: PassState): string | undefined {
  return tokenOf(state.snapshot.annotations[requestedAtAnnotation]);
}

/** True when every stage is done with its pin and nothing is on the way: nothing this pass does is a release. */
export function isSteady(plan: Plan): boolean {
  return plan.goals.stages.every((goal) => goal.mode === "keep" || goal.mode === "untouched");
}
