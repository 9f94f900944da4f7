import type { StageSetSpec } from "../../api/stage-set.ts";
import { deepEqual } from "../../lib/equal.ts";
import {
  completionOf,
  lifetimeActions,
  promoteBaseline,
  type StoredLedger,
  type Witness,
  withoutLedgerCompletions,
} from "../actions/stage-ledger.ts";
import { withoutCarriedOver } from "../actions/ledger.ts";
import { orderedStages, stageEntry, withStage } from "../status.ts";
import { runningRun } from "./failures.ts";
import { endFailed } from "./finish.ts";
import { factOf, stageIdentity, unread } from "./plan.ts";
import type { FactKey, PassState, WitnessFound } from "./state.ts";
import type { PassEvent, Step } from "./step.ts";

type Record = Extract<Step, { kind: "record" }>;

/** A StageSet that is new finds what a namesake before it, or its user, left: told once (spec 30 §4.4). */
export function adoptionRecord({ stored }: PassState, spec: StageSetSpec): Record | undefined {
  const { status, ledger } = stored;
  const completions = ledger?.status.completedActions ?? [];
  if ((status.stages ?? []).length > 0 || completions.length === 0) return undefined;
  return {
    kind: "record",
    write: { kind: "status", status: { ...status, stages: orderedStages(spec, status) } },
    events: [
      {
        type: "Normal",
        reason: "LedgerAdopted",
        note: `Its StageLedger was there before it and holds ${completions.length} completed action(s), which do not run again`,
        once: undefined,
      },
    ],
    joinsNext: "once prepared",
  };
}

/**
 * Brings the StageLedger up to date before any stage has its turn (spec 30 §4.4): it is there if an action needs it, its
 * baseline counts, and completions whose witness is gone do not. Undefined: nothing is left to do about it.
 */
export function ledgerStep(state: PassState, spec: StageSetSpec): Step | undefined {
  const { ledger } = state.stored;
  if (ledger === undefined) return lifetimeActions(spec).next().done === true ? undefined : createLedger(state);
  const { status, invalid } = promoteBaseline(ledger, { spec, now: state.now });
  if (!deepEqual(status, ledger.status))
    return {
      kind: "record",
      write: { kind: "ledger", before: ledger, status },
      events:
        invalid === undefined
          ? []
          : [{ type: "Warning", reason: "BaselineInvalid", note: invalid, once: undefined, about: "ledger" }],
    };
  return invalidate(state, spec, ledger) ?? settleMoved(state, spec, ledger);
}

/** Read live before it is created or relied on: a cache may be behind what another client recorded. */
export function createLedger(state: PassState): Step {
  const key: FactKey = { kind: "ledger" };
  const fact = factOf(state, key);
  if (fact === undefined) return { kind: "need", facts: [key] };
  if (fact.kind === "failed") return endFailed(state, fact.failure);
  return { kind: "record", write: { kind: "ledgerCreation" } };
}

/** Completions whose recorded witness is gone, or another object by now, are taken off the ledger before anything runs. */
function invalidate(state: PassState, spec: StageSetSpec, ledger: StoredLedger): Step | undefined {
  const anchored = witnessesToRead(state, spec, ledger);
  const missing = unread(
    state,
    anchored.map(({ key }) => key),
  );
  if (missing.length > 0) return { kind: "need", facts: missing };
  const lost = anchored.flatMap(({ key, anchor }) => {
    const fact = factOf(state, key);
    const why = fact?.kind === "witness" ? whyLost(anchor, fact.found) : undefined;
    return why === undefined ? [] : [{ stage: key.stage, action: key.action, why }];
  });
  if (lost.length === 0) return undefined;
  return {
    kind: "record",
    write: { kind: "ledger", before: ledger, status: withoutLedgerCompletions(ledger.status, lost) },
    events: lost.map(({ stage, action, why }): PassEvent => ({
      type: "Normal",
      reason: "LedgerInvalidated",
      note: `stage "${stage}": action "${action}" runs again: ${why}`,
      once: undefined,
    })),
  };
}

type WitnessKey = Extract<FactKey, { kind: "witness" }>;

/** Recorded witnesses of the spec's Lifetime actions; those of stages that had their turn in this run were read then. */
function witnessesToRead(
  state: PassState,
  spec: StageSetSpec,
  ledger: StoredLedger,
): readonly { readonly key: WitnessKey; readonly anchor: Witness }[] {
  if (ledger.status.completedActions?.some(({ anchor }) => anchor !== undefined) !== true) return [];
  const run = runningRun(state);
  const stages = new Map(spec.stages.map((stage, index) => [stage.name, { stage, index }]));
  return [...lifetimeActions(spec)].flatMap(({ stage: name, action }) => {
    const { anchor } = completionOf(ledger, { stage: name, action }) ?? {};
    const at = stages.get(name);
    if (anchor === undefined || at === undefined) return [];
    if (run !== undefined && (at.index < run.turn || (at.index === run.turn && run.begun))) return [];
    const as = stageIdentity(spec, at.stage, state.options.defaultServiceAccount);
    const { apiVersion, kind, name: object } = anchor;
    return [
      {
        key: { kind: "witness", stage: name, action, as, anchor: { apiVersion, kind, name: object } } as const,
        anchor,
      },
    ];
  });
}

/** Undefined: it is there, or it cannot be told; then the completion is kept. */
function whyLost({ kind, name, uid }: Witness, found: WitnessFound): string | undefined {
  if (found.kind === "absent") return `its witness, ${kind} ${name}, does not exist any more`;
  if (found.kind === "there" && found.uid !== uid) return `its witness, ${kind} ${name}, is another object by now`;
  return undefined;
}

/** An action that became Lifetime is in that ledger alone, so that what takes it off there makes it run. */
function settleMoved(state: PassState, spec: StageSetSpec, ledger: StoredLedger): Record | undefined {
  const { status } = state.stored;
  for (const { stage, action, declared } of lifetimeActions(spec)) {
    const entry = stageEntry(status, stage);
    if (completionOf(ledger, { stage, action }) === undefined) continue;
    const change = withoutCarriedOver(entry, declared);
    if (Object.keys(change).length === 0) continue;
    return {
      kind: "record",
      write: { kind: "status", status: withStage(status, stage, change) },
      joinsNext: "once prepared",
    };
  }
  return undefined;
}
