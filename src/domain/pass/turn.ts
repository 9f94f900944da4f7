import type { Stage, StageStatus } from "../../api/stage-set.ts";
import type { PinnedImage } from "../images/pins.ts";
import type { ArtifactIdentity } from "../pins.ts";
import { orderedStages, readyCondition, withReady, withStage } from "../status.ts";
import type { StageGoal } from "./goals.ts";
import { factOf, releasing, statusContext, type Plan } from "./plan.ts";
import type { Identity, PassState, RenderFact } from "./state.ts";
import type { Step } from "./step.ts";

/** One stage in its turn, before what it is rendered from is read for the last time. */
export interface StageTurn {
  readonly state: PassState;
  readonly plan: Plan;
  readonly goal: StageGoal;
  readonly stage: Stage;
  readonly as: Identity;
  readonly identity: ArtifactIdentity;
  readonly entry: StageStatus | undefined;
}

/** What is known of a stage's images in its turn. */
export type TurnImages =
  | { readonly kind: "none" }
  | { readonly kind: "verified"; readonly pins: readonly PinnedImage[] }
  | { readonly kind: "skipped"; readonly token: string };

/** One stage in its turn, with everything its part of the pass needs. */
export interface Turn extends StageTurn {
  readonly render: Extract<RenderFact, { kind: "rendered" }>;
  readonly images: TurnImages;
  /** The render differs from what this process applied last under the same identity. */
  readonly rerendered: boolean;
}

/** How far the run has come: at this stage, or past it. */
export function runMemory(
  { state, plan, goal }: StageTurn,
  over: "goes on" | "is over" = "goes on",
): PassState["memory"]["run"] {
  const begun = over === "goes on";
  const turn = begun ? goal.index : goal.index + 1;
  // What was read in this pass is no news any more.
  const news = factOf(state, { kind: "pins" }) === undefined && hasNews(state, plan.run);
  return { generation: state.snapshot.generation, pins: plan.pins, turn, begun, news };
}

/** Nobody needs to be asked while no source has told of a change: thousands of stages may wait for long. */
export function hasNews(state: PassState, run: PassState["memory"]["run"]): boolean {
  return run !== undefined && (run.news || state.causes.has("source"));
}

/** What must be Ready before this stage is written at what it is pinned to (E3). */
export function earlierStages({
  plan,
  goal,
}: StageTurn): readonly { readonly stage: string; readonly identity: ArtifactIdentity }[] {
  return plan.goals.stages
    .filter((other) => other.index < goal.index && other.content === "pin" && other.identity !== undefined)
    .flatMap((other) => (other.identity === undefined ? [] : [{ stage: other.stage, identity: other.identity }]));
}

/** A status write that changes this stage's entry and no other; Ready is True of no stage that is at work (spec 20 E4). */
export function record(
  turn: StageTurn,
  change: Parameters<typeof withStage>[2],
  remember: NonNullable<Extract<Step, { kind: "record" }>["remember"]>,
): Extract<Step, { kind: "record" }> {
  const { state, plan, goal } = turn;
  const base = { ...state.stored.status, stages: orderedStages(plan.spec, state.stored.status) };
  const status = withStage(base, goal.stage, change);
  const atWork = change.phase !== undefined && change.phase !== "Ready" && change.phase !== "Pending";
  const claimsReady = atWork && readyCondition(status)?.status === "True";
  return {
    kind: "record",
    write: { kind: "status", status: claimsReady ? withReady(status, releasing(plan), statusContext(state)) : status },
    remember,
  };
}

export function withKey<Value>(map: ReadonlyMap<string, Value>, key: string, value: Value): ReadonlyMap<string, Value> {
  return new Map(map).set(key, value);
}

export function withoutKey<Value>(map: ReadonlyMap<string, Value>, key: string): ReadonlyMap<string, Value> {
  if (!map.has(key)) return map;
  const copy = new Map(map);
  copy.delete(key);
  return copy;
}
