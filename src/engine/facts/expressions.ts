import type { Fact } from "../../domain/pass/state.ts";
import { quote, renderFinding } from "../../domain/validation/finding.ts";
import { expressionsOf } from "../../domain/validation/expressions.ts";
import { joinViolations } from "../../domain/validation/validate-stored.ts";
import type { Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";

/** Compiles every expression; a spec with one that is no boolean is invalid as a whole (V13, V28). */
export async function checkExpressions(engine: Engine, pass: Pass, signal: AbortSignal): Promise<Fact> {
  const { spec } = pass.snapshot;
  if (spec === undefined) return { kind: "expressions", invalid: undefined };
  const checked = await Promise.all(
    [...expressionsOf(spec)].map(async ([place, text]) => ({
      place,
      text,
      result: await engine.cel.check(text, { signal }),
    })),
  );
  const problems = checked.flatMap(({ place, text, result }) =>
    result.kind === "invalid"
      ? [renderFinding({ ...place, message: `is ${quote(text)}, which is no boolean expression: ${result.message}` })]
      : [],
  );
  return { kind: "expressions", invalid: joinViolations(problems) };
}
