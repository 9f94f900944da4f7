import { completedUnder } from "../actions/ledger.ts";
import { sameIdentity } from "../pins.ts";
import { newGate } from "../promotion/soak.ts";
import { enteredIdentity, type withStage } from "../status.ts";
import { connectFailure } from "./failures.ts";
import { endFailed } from "./finish.ts";
import { factOf } from "./plan.ts";
import { isKey } from "./release-version.ts";
import type { Identity, PassEvent } from "./state.ts";
import type { Step } from "./step.ts";
import { record, withoutKey, type StageTurn } from "./turn.ts";

/** Undefined: the target is there. `as`: default as the stage. */
export function connect({ state, plan, goal, ...turn }: StageTurn, as: Identity = turn.as): Step | undefined {
  const key = { kind: "connection", identity: as, turn: plan.spec.kubeConfig && goal.stage } as const;
  const connection = factOf(state, key);
  if (connection === undefined) return { kind: "need", facts: [key] };
  return connection.kind === "failed" ? endFailed(state, connectFailure(goal.stage, connection.failure)) : undefined;
}

/** `enteredRevision` and `enteredDigest`, acknowledged before the stage's first write at this identity. */
export function begin(turn: StageTurn, content: "rendered anew" | "as rendered before"): Step | undefined {
  const { entry, identity, goal, state } = turn;
  const rerendered = content === "rendered anew";
  const entered = enteredIdentity(entry);
  const onRecord =
    entry?.enteredRevision === identity.revision &&
    entry.enteredDigest === identity.digest &&
    sameIdentity(entered, identity);
  const phase = entry?.phase;
  const inProgress = phase === "Applying" || phase === "Verifying" || phase === "Failed";
  const changing = rerendered && goal.mode === "keep" && phase === "Ready" && !state.results.stages.has(goal.stage);
  const ledger = ledgerOf(turn);
  if (onRecord && inProgress && !changing && ledger === undefined) return undefined;
  const begun = record(
    turn,
    {
      enteredRevision: identity.revision,
      enteredDigest: identity.digest,
      phase: "Applying",
      message: undefined,
      waitingFor: undefined,
      ...ledger,
      ...(sameIdentity(entered, identity)
        ? {}
        : { promotionState: newGate(turn.stage.promotion, entry?.promotionState, state.now) }),
    },
    {
      verifyStarted: withoutKey(state.memory.verifyStarted, goal.stage),
      standstills: withoutKey(state.memory.standstills, goal.stage),
      waveStarted: withoutKey(state.memory.waveStarted, goal.stage),
    },
  );
  return { ...begun, events: skippedActions(turn) };
}

/** Version actions that another revision of the same version does not run again, told once for each revision. */
function skippedActions({ stage, entry, identity, plan, goal, state }: StageTurn): readonly PassEvent[] {
  const { revision } = identity;
  if (!goal.acts || entry?.appliedRevision === revision) return [];
  const done = completedUnder(entry, plan.version?.key);
  const { pre = [], post = [] } = stage.actions ?? {};
  return [...pre, ...post]
    .filter(({ name, scope }) => scope === "Version" && done.includes(name))
    .map(({ name }) => ({
      type: "Normal",
      reason: "ActionSkipped",
      note: `stage "${stage.name}" at revision "${revision}": action "${name}" is done for version ${plan.version?.key ?? ""} already`,
      once: `skipped ${state.snapshot.uid} ${stage.name} ${name} ${revision}`,
    }));
}

/**
 * The version the stage is begun for, with or before the first entry of its migrations: what has begun is told by it, and
 * goes on without an approval (spec 30 §6.1). Undefined when it is on record.
 */
function ledgerOf({ plan: { version }, goal, entry }: StageTurn): Parameters<typeof withStage>[2] | undefined {
  if (version === undefined || !goal.acts || isKey(entry?.ledgerVersion, version)) return undefined;
  return { ledgerVersion: version.key, executedVersionActions: undefined };
}
