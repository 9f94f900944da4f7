import type { Results } from "../../domain/pass/state.ts";
import type { Effect } from "../../domain/pass/step.ts";
import type { Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";
import { inPhase } from "../phase.ts";
import { startAction } from "./action.ts";
import { runApply } from "./apply.ts";
import { runDelete } from "./delete.ts";

/** Runs one bounded effect and adds what it did to the pass' results; a refusal is a result, not an error. */
export function runEffect(engine: Engine, pass: Pass, effect: Effect, signal: AbortSignal): Promise<Results> {
  const { stage } = effect;
  switch (effect.kind) {
    case "apply": {
      const attributes = { stage, "stage.objectCount": effect.objects.length };
      return inPhase(engine, pass, { span: "stage.apply", measuredAs: "apply", attributes }, async (span) => {
        const results = await runApply(engine, pass, effect, signal);
        const failure = results.stages.get(stage)?.failure;
        if (failure !== undefined) span.fail(failure.message);
        return results;
      });
    }
    case "action":
      return Promise.resolve(startAction(engine, pass, effect));
    case "delete":
      return inPhase(
        engine,
        pass,
        { span: "stageset.prune", measuredAs: "prune", attributes: { stage } },
        async (span) => {
          const results = await runDelete(engine, pass, effect, signal);
          const error = results.deletes.get(stage)?.errors[0];
          if (error !== undefined) span.fail(error.message);
          return results;
        },
      );
  }
}
