import type { Results } from "../../domain/pass/state.ts";
import type { Effect } from "../../domain/pass/step.ts";
import type { Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";
import { runApply } from "./apply.ts";
import { runDelete } from "./delete.ts";

/** Runs one bounded effect and adds what it did to the pass' results; a refusal is a result, not an error. */
export function runEffect(engine: Engine, pass: Pass, effect: Effect, signal: AbortSignal): Promise<Results> {
  switch (effect.kind) {
    case "apply":
      return runApply(engine, pass, effect, signal);
    case "delete":
      return runDelete(engine, pass, effect, signal);
  }
}
