import type { Condition } from "../api/stage-set.ts";
import type { Snapshot } from "../domain/pass/state.ts";
import type { Outcome, PassEvent } from "../domain/pass/step.ts";
import type { Engine } from "./engine.ts";
import type { StageSetKey } from "./journal.ts";
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
        engine.reports.event(pass.key, pass.snapshot.uid, { type: "Warning", reason: "DriftCorrected", note });
      }
      drift.clear();
      for (const event of events.splice(0)) {
        if (event.once !== undefined && !sayOnce(pass.session, event.once)) continue;
        engine.reports.event(pass.key, pass.snapshot.uid, event);
      }
    },
    end(engine, pass, outcome) {
      for (const event of outcome.events) events.push(event);
      for (const stage of outcome.verified) engine.reports.stageApplied(pass.key, stage);
      report.flush(engine, pass);
    },
  };
  return report;
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
  engine.reports.event(pass.key, pass.snapshot.uid, {
    type: ready.status === "True" ? "Normal" : "Warning",
    reason: ready.reason,
    note: ready.message,
  });
}

function storedPair(snapshot: Snapshot): string | undefined {
  const ready = snapshot.stored?.conditions?.find((condition) => condition.type === "Ready");
  return ready === undefined
    ? undefined
    : ready.reason === "Progressing"
      ? "after "
      : `${ready.status} ${ready.reason}`;
}
