import type { Condition, StageSetStatus } from "../api/stage-set.ts";
import type { Snapshot } from "../domain/pass/state.ts";
import type { Outcome, PassEvent } from "../domain/pass/step.ts";
import { isReadyReason, type ReadyReason } from "../api/reasons.ts";
import { freezeText, isEnforced, type BudgetFreeze } from "../domain/budgets/budget.ts";
import { readyCondition, stageEntry } from "../domain/status.ts";
import { ignoredAnnotations } from "../domain/ignored-annotations.ts";
import type { Engine } from "./engine.ts";
import { statusOf, type StageSetKey } from "./journal.ts";
import { sayOnce, type Session } from "./session.ts";

/** What a pass found worth telling, told when it leaves the worker. */
export interface PassReport {
  /** Objects of a stage that had to be created or changed although nothing asked for a change. */
  drift(stage: string, objects: readonly string[]): void;
  event(event: PassEvent): void;
  flush(engine: Engine, pass: Reported): void;
  end(engine: Engine, pass: Reported, outcome: Outcome): void;
}

interface Reported {
  readonly key: StageSetKey;
  readonly session: Session;
  readonly snapshot: Snapshot;
}

export function createPassReport(): PassReport {
  const drift = new Map<string, Set<string>>();
  const events: PassEvent[] = [];
  const report: PassReport = {
    drift(stage, objects) {
      const known = drift.get(stage) ?? new Set();
      for (const object of objects) known.add(object);
      drift.set(stage, known);
    },
    event: (event) => void events.push(event),
    flush(engine, pass) {
      for (const [stage, objects] of drift) {
        if (objects.size === 0) continue;
        engine.reports.driftCorrected(pass.key, stage, objects.size);
        const note = `stage "${stage}": corrected ${objects.size} object(s): ${[...objects].join(", ")}`;
        tell(engine, pass, { type: "Warning", reason: "DriftCorrected", note });
      }
      drift.clear();
      for (const event of events.splice(0)) {
        if (event.once !== undefined && !sayOnce(pass.session, event.once)) continue;
        if (event.reason === "LedgerAdopted") engine.reports.ledgerAdopted(pass.key);
        if (event.about === "ledger") tellOfLedger(engine, pass, event);
        else tell(engine, pass, event);
      }
    },
    end(engine, pass, outcome) {
      for (const event of outcome.events) events.push(event);
      announceHeld(engine, pass, outcome);
      for (const stage of outcome.verified) engine.reports.stageApplied(pass.key, stage);
      report.flush(engine, pass);
    },
  };
  return report;
}

/** One `AnnotationIgnored` per annotation of the StageSet and value that means nothing (spec 10 §11). */
export function sayIgnoredAnnotations(snapshot: Snapshot, report: PassReport): void {
  if (snapshot.deletedAt !== undefined || snapshot.spec === undefined) return;
  const stages = new Set(snapshot.spec.stages.map((stage) => stage.name));
  for (const { key, why } of ignoredAnnotations(snapshot.annotations, stages))
    report.event({
      type: "Warning",
      reason: "AnnotationIgnored",
      note: `${key} is ignored: ${why}`,
      // The beginning of the value tells it from another one, and stays short.
      once: `annotation ${key} ${why} ${(snapshot.annotations[key] ?? "").slice(0, 512)}`,
    });
}

/**
 * The Event of a Ready change: when (status, reason) differ from the last pair other than `Progressing`, and
 * `Succeeded` also at the end of every run that changed something (spec 10 §11).
 */
export function announceReady(engine: Engine, pass: Reported, ready: Condition | undefined): void {
  if (ready === undefined) return;
  const pair = `${ready.status} ${ready.reason}`;
  const before = pass.session.announced ?? storedPair(pass.snapshot);
  if (ready.reason === "Progressing") {
    pass.session.announced = `after ${before ?? ""}`;
    return;
  }
  const afterRun = before?.startsWith("after ") ?? false;
  const last = afterRun ? before?.slice("after ".length) : before;
  pass.session.announced = pair;
  if (last === pair && !(afterRun && ready.reason === "Succeeded")) return;
  // Entering the hold is told, whatever Ready is.
  if (ready.reason === "UpdateDeferred") return;
  // A run that ends as the one before it did would count as a repetition of its Event, were it not for the revision.
  const revision = ready.reason === "Succeeded" ? revisionOf(engine, pass) : undefined;
  tell(engine, pass, {
    type: ready.status === "True" ? "Normal" : "Warning",
    reason: ready.reason,
    note: revision === undefined ? ready.message : `${ready.message} at ${revision}`,
  });
}

/** A hold by update windows begins with the record of what it holds: one Event, and one more deferral counted. */
export function announceDeferral(
  engine: Engine,
  pass: Reported,
  { before, now }: { readonly before: StageSetStatus; readonly now: StageSetStatus },
): void {
  if (before.pendingUpdate !== undefined || now.pendingUpdate === undefined) return;
  engine.reports.updateDeferred(pass.key);
  const { revisions = {}, nextWindowOpens } = now.pendingUpdate;
  const opens = nextWindowOpens === undefined ? "" : ` (next window opens ${nextWindowOpens})`;
  const held = Object.entries(revisions).map(([source, revision]) => `${source} at ${revision}`);
  const what = held.length === 0 ? "" : `: ${held.toSorted().join(", ")}`;
  tell(engine, pass, {
    type: "Normal",
    reason: "UpdateDeferred",
    note: `delivery held by update window${opens}${what}`,
  });
}

/**
 * Entering a hold by an error budget under which Ready stays True, or coming to another reason: one Event, in place of the
 * one that a change of Ready brings (spec 40 §1). Where Ready is not True, that one tells it.
 */
function announceHeld(engine: Engine, pass: Reported, { held, ready }: Outcome): void {
  if (ready === undefined) return;
  const before = pass.session.held === "unknown" ? heldOnRecord(pass.snapshot.stored) : pass.session.held;
  pass.session.held = held;
  if (held === before || ready.status !== "True") return;
  if (held !== "BudgetExhausted" && held !== "BudgetSourceUnavailable") return;
  tell(engine, pass, {
    type: held === "BudgetExhausted" ? "Normal" : "Warning",
    reason: held,
    note: ready.message.replace(/^Deployed; /, ""),
  });
}

/** Which hold a status found at the start tells of; a process before this one has announced it. */
function heldOnRecord(status: Snapshot["stored"]): ReadyReason | undefined {
  const ready = readyCondition(status);
  if (ready === undefined || status === undefined) return undefined;
  if (ready.status !== "True") return isReadyReason(ready.reason) ? ready.reason : undefined;
  if (!ready.message.startsWith("Deployed; ")) return undefined;
  if (status.pendingUpdate !== undefined) return "UpdateDeferred";
  const frozen = [status, ...(status.stages ?? [])].some(({ budgetFreeze }) => isEnforced(budgetFreeze));
  return frozen ? "BudgetExhausted" : "BudgetSourceUnavailable";
}

/** A dry run would freeze from now on: one Event for each budget. */
export function announceDryRuns(
  engine: Engine,
  pass: Reported,
  { before, now }: { readonly before: StageSetStatus; readonly now: StageSetStatus },
): void {
  const begins = (stage: string | undefined, was: BudgetFreeze | undefined, is: BudgetFreeze | undefined): void => {
    if (is?.dryRun !== true || was !== undefined) return;
    const note = `${freezeText(is, stage)}; the roll-out goes on, because the budget is a dry run`;
    tell(engine, pass, { type: "Normal", reason: "BudgetExhausted", note });
  };
  begins(undefined, before.budgetFreeze, now.budgetFreeze);
  for (const { name, budgetFreeze } of now.stages ?? [])
    if (budgetFreeze !== undefined) begins(name, stageEntry(before, name)?.budgetFreeze, budgetFreeze);
}

function tell(
  engine: Engine,
  pass: Reported,
  { type, reason, note }: Pick<PassEvent, "type" | "reason" | "note">,
): void {
  engine.reports.event(pass.key, pass.snapshot.uid, { type, reason, note, revision: revisionOf(engine, pass) });
}

function tellOfLedger(engine: Engine, { key }: Reported, { type, reason, note }: PassEvent): void {
  const object = engine.journal.object(key);
  const ledger = object === undefined ? undefined : engine.journal.stored(object).ledger;
  if (ledger !== undefined) engine.reports.ledgerEvent(key, ledger.uid, { type, reason, note });
}

/** What the current or last run is pinned to. */
function revisionOf(engine: Engine, { key }: Reported): string | undefined {
  const object = engine.journal.object(key);
  const revisions = object === undefined ? {} : (statusOf(object).lastAttemptedRevisions ?? {});
  const texts = [
    ...new Set(
      Object.keys(revisions)
        .sort()
        .map((source) => revisions[source] ?? ""),
    ),
  ];
  return texts.length === 0 ? undefined : texts.join(", ");
}

function storedPair(snapshot: Snapshot): string | undefined {
  const ready = snapshot.stored?.conditions?.find((condition) => condition.type === "Ready");
  return ready === undefined
    ? undefined
    : ready.reason === "Progressing"
      ? "after "
      : `${ready.status} ${ready.reason}`;
}
