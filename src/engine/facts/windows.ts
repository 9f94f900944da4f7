import type { Fact } from "../../domain/pass/state.ts";
import { stateOfWindows } from "../../domain/windows/update-windows.ts";
import type { Pass } from "../pass.ts";
import { inPhase } from "../phase.ts";
import type { Engine } from "../engine.ts";

/** The state of the update windows now; asked for only when it decides about something. */
export function readWindows(engine: Engine, pass: Pass): Promise<Fact> {
  return inPhase(engine, pass, { span: "stageset.gateWindows", attributes: {} }, (span) => {
    const state = stateOfWindows(pass.snapshot.spec?.updateWindows ?? [], engine.clock.now());
    span.set({ "stageset.deferred": !state.open });
    return Promise.resolve({ kind: "windows", state } as const);
  });
}
