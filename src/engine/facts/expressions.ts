import { failure } from "../../domain/failure.ts";
import type { Fact } from "../../domain/pass/state.ts";
import { expressionFindings, expressionsOf } from "../../domain/validation/expressions.ts";
import { renderFinding } from "../../domain/validation/finding.ts";
import { joinViolations } from "../../domain/validation/validate-stored.ts";
import type { Engine } from "../engine.ts";
import type { Pass } from "../pass.ts";
import { compileAll } from "./cel.ts";

/** Compiles every expression; a spec with one that is no boolean is invalid as a whole (V13, V28). */
export async function checkExpressions(engine: Engine, pass: Pass, signal: AbortSignal): Promise<Fact> {
  const { spec } = pass.snapshot;
  if (spec === undefined) return { kind: "expressions", invalid: undefined };
  const { problems, unknown } = await compileAll(
    engine.cel,
    [...expressionsOf(spec)].map(({ text }) => text),
    signal,
  );
  if (unknown !== undefined)
    return { kind: "failed", failure: failure("StageFailed", `Cannot check expressions: ${unknown}`) };
  const findings = [...expressionFindings(spec, (text) => problems.get(text))];
  return { kind: "expressions", invalid: joinViolations(findings.map(renderFinding)) };
}
