import type { ActionCall, CreatedJob } from "../../domain/actions/action-run.ts";
import type { Results } from "../../domain/pass/state.ts";
import type { Effect } from "../../domain/pass/step.ts";
import { judgePatch } from "../action-images.ts";
import { buildActionArtifact } from "../action-artifacts.ts";
import { localAccessOf, openAccess } from "../facts/connection.ts";
import { isGateActive } from "../image-gate.ts";
import type { Engine } from "../engine.ts";
import type { Pass } from "../pass.ts";

/** Starts an action, whose end is remembered and wakes the StageSet; the pass has nothing to wait for. */
export function startAction(engine: Engine, pass: Pass, { call }: Extract<Effect, { kind: "action" }>): Results {
  const { session, key } = pass;
  engine.actions.start(key, {
    call,
    access: (signal) => openAccess(engine, pass, call.as, signal),
    homeAccess: (signal) => localAccessOf(engine, key.namespace, call.as, signal),
    isRemote: pass.snapshot.spec?.kubeConfig !== undefined,
    span: pass.span.start("stage.actions", { stage: call.stage, phase: call.list, "stage.action": call.action.name }),
    build: (build, attempt) => buildActionArtifact(engine, pass, call, { build, attempt }),
    judgesImages: () => call.skipsImages === undefined && isGateActive(engine.images),
    judgePatch: (patched, signal) => judgePatch(engine, pass, { call, patched }, signal),
    ended: (outcome) => {
      // Something else may have taken its place since: the StageSet was deleted.
      if (session.memory.action?.call === call) session.memory = { ...session.memory, action: { call, outcome } };
    },
  });
  return pass.results;
}

/** The completion of an action is on record: its Jobs have served their purpose. */
export function concludeAction(
  engine: Engine,
  pass: Pass,
  { call, jobs }: { readonly call: ActionCall; readonly jobs: readonly CreatedJob[] },
): void {
  if (call.list === "pre" || call.list === "post") engine.reports.actionRan(pass.key, call.action.scope ?? "Revision");
  engine.actions.cleanUp({ jobs, access: (signal) => openAccess(engine, pass, call.as, signal) });
}
