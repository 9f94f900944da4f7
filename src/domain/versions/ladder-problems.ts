import { actionGroupFindings } from "../validation/actions.ts";
import { actionExpressionFindings } from "../validation/expressions.ts";
import { type Finding, type Place, type ValidationContext } from "../validation/finding.ts";
import { actionsOfGroups, migrationGroups, type PlacedMigration } from "../validation/places.ts";
import { actionReferenceFindings } from "../validation/references.ts";
import { negativeDurations } from "../validation/times.ts";
import { ladderFindings } from "../validation/versions.ts";

export interface LadderContext extends Pick<
  ValidationContext,
  "namespace" | "crossNamespace" | "allowLoopback" | "isAllowedHost"
> {
  /** Names and anchors a migration may run before; undefined: any. */
  readonly stages: ReadonlySet<string> | undefined;
  /** Why an expression cannot be used; undefined: it can. */
  readonly expressionProblem: (expression: string) => string | undefined;
}

/** Where what is wrong with all of a ladder is told. */
const whole: Place = { path: "the ladder", subject: "" };

/**
 * What the rules V2, V5 to V8 and V10 to V16 of spec 10 §12 find in the migrations of a sourced ladder: the same rules
 * that an inline one has, by the same code.
 */
export function* ladderProblems(migrations: readonly PlacedMigration[], context: LadderContext): Generator<Finding> {
  const groups = [...migrationGroups(migrations)];
  const actions = [...actionsOfGroups(groups)];
  yield* ladderFindings(migrations, { place: whole, stages: context.stages });
  yield* actionGroupFindings(groups, { ...context, versioned: true });
  yield* actionReferenceFindings(actions, context);
  yield* actionExpressionFindings(actions, context.expressionProblem);
  for (const { place, migration } of migrations) yield* negativeDurations(place, migration);
}

/** Whether a step would send a request: refused of a sourced ladder without `--allowed-action-hosts` (spec 30 §7). */
export function sendsRequests(migrations: readonly PlacedMigration[]): PlacedMigration | undefined {
  return migrations.find(({ migration: { actions = [], down = [] } }) =>
    [...actions, ...down].some(({ http }) => http !== undefined),
  );
}
