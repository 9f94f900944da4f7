import type { Fact } from "../../domain/pass/state.ts";
import type { Pass } from "../pass.ts";
import type { Engine } from "../engine.ts";

/** Compiles every ready-check expression; a spec with one that is no boolean is invalid as a whole (V28). */
export async function checkExpressions(engine: Engine, pass: Pass, signal: AbortSignal): Promise<Fact> {
  const expressions = (pass.snapshot.spec?.stages ?? []).flatMap((stage, index) =>
    (stage.readyChecks?.exprs ?? []).flatMap((rule, rank) =>
      (["current", "inProgress", "failed"] as const).flatMap((member) => {
        const text = rule[member];
        const path = `spec.stages[${index}].readyChecks.exprs[${rank}].${member}`;
        return text === undefined || text === "" ? [] : [{ path, text }];
      }),
    ),
  );
  const checked = await Promise.all(
    expressions.map(async ({ path, text }) => ({ path, text, result: await engine.cel.check(text, { signal }) })),
  );
  const problems = checked.flatMap(({ path, text, result }) =>
    result.kind === "invalid" ? [`${path}: "${text}" does not compile to a boolean: ${result.message}`] : [],
  );
  return { kind: "expressions", invalid: problems.length === 0 ? undefined : problems.join("; ") };
}
