import { preflightAnnotation } from "../../api/keys.ts";
import { stageFailure, type Failure } from "../failure.ts";
import { sameIdentity } from "../pins.ts";
import { enteredIdentity, stageEntry } from "../status.ts";
import { endFailed } from "./finish.ts";
import type { StageGoal } from "./goals.ts";
import { factOf, stageIdentity, type Plan } from "./plan.ts";
import type { FactKey, PassState } from "./state.ts";
import type { Step } from "./step.ts";

/**
 * The whole-release preflight (spec 20 §16.6): before a run of several stages writes anything, each of them is dry-run, so
 * that what can never be applied is told while nothing has changed yet. Undefined: the run may begin.
 */
export function refusedAhead(state: PassState, plan: Plan): Step | undefined {
  const releasing = plan.goals.stages.filter(isReleasing);
  if (state.snapshot.annotations[preflightAnnotation]?.toLowerCase() === "disabled") return undefined;
  if (releasing.length < 2 || plan.run !== undefined || isUnderWay(state, releasing)) return undefined;
  const refusals: Failure[] = [];
  for (const [index, goal] of releasing.entries()) {
    const key = preflightKey(state, plan, goal);
    if (key === undefined) continue;
    const fact = factOf(state, key);
    // One stage after the other: each is a step, between which the pass can be stopped. What comes before is named only
    // here: with 1,000 stages, naming it for each in each step would take seconds.
    if (fact === undefined)
      return { kind: "need", facts: [{ ...key, after: releasing.slice(0, index).map(({ stage }) => stage) }] };
    if (fact.kind === "preflight" && fact.refusal !== undefined) refusals.push(fact.refusal);
  }
  const [first, ...others] = refusals;
  if (first?.stage === undefined) return undefined;
  const causes = [first.stage.cause, ...others.map((other) => other.message)].join("; ");
  const cause = `${causes} (found before anything was applied; ${preflightAnnotation}: disabled skips this look ahead)`;
  return endFailed(state, stageFailure({ ...first.stage, cause }));
}

/** Its pin is still to be applied. */
function isReleasing({ content, mode }: StageGoal): boolean {
  return content === "pin" && (mode === "enter" || mode === "continue");
}

/** Some stage has begun this very release, which goes on as it began. */
function isUnderWay(state: PassState, releasing: readonly StageGoal[]): boolean {
  const { status } = state.stored;
  if (status.observedGeneration !== state.snapshot.generation) return false;
  return releasing.some((goal) => {
    const entry = stageEntry(status, goal.stage);
    const begun = entry?.phase === "Applying" || entry?.phase === "Verifying";
    return begun && sameIdentity(enteredIdentity(entry), goal.identity);
  });
}

/** As far as it names the fact. */
function preflightKey(
  state: PassState,
  plan: Plan,
  goal: StageGoal,
): Extract<FactKey, { kind: "preflight" }> | undefined {
  const stage = plan.spec.stages[goal.index];
  const render = plan.renders.get(goal.stage);
  // A stage that waits for an earlier one to be rendered can only be looked at in its turn.
  if (stage === undefined || render?.kind !== "rendered") return undefined;
  return {
    kind: "preflight",
    stage: goal.stage,
    as: stageIdentity(plan.spec, stage, state.options.defaultServiceAccount),
    renderHash: render.hash,
    after: [],
  };
}
