import type { Migration, Stage, StageSetSpec } from "../../api/stage-set.ts";
import { parseConstraint } from "../formats/constraint.ts";
import { parseJsonPath } from "../formats/json-path.ts";
import { parseVersion } from "../formats/version.ts";
import { deny, exactlyOneProblem, type Finding, inside, nameFindings, type Place, quote, root } from "./finding.ts";
import { migrationsOf, type PlacedMigration } from "./places.ts";

const mostMigrations = 200;
const mostActions = 100;
const mostRetries = 10;
const versionWanted = 'want a version such as "1.2.0"';

/** V16 and V17: the version and the migrations between versions. */
export function* versionFindings(spec: StageSetSpec): Generator<Finding> {
  yield* migrationListFindings(spec);
  if (spec.version === undefined) return;
  const place = inside(root, "version");
  const problem = exactlyOneProblem(spec.version, ["value", "fromObject", "fromArtifact"]);
  if (problem !== undefined) yield deny("V17", place, problem);
  const { value, fromObject, fromArtifact } = spec.version;
  if (value !== undefined && parseVersion(value) === undefined)
    yield deny("V17", inside(place, "value"), `is ${quote(value)}, ${versionWanted}`);
  const stages = new Set(spec.stages.map(({ name }) => name));
  if (fromObject !== undefined) {
    const object = inside(place, "fromObject");
    if (fromObject.stage !== undefined) yield* stageFindings(object, fromObject.stage, stages);
    for (const member of ["kind", "name"] as const)
      if (fromObject[member] === "") yield deny("V17", inside(object, member), "is empty, want it set");
    const parsed = fromObject.fieldPath === undefined ? undefined : parseJsonPath(fromObject.fieldPath);
    if (parsed?.kind === "malformed")
      yield deny(
        "V17",
        inside(object, "fieldPath"),
        `is ${quote(fromObject.fieldPath ?? "")}, want a JSONPath: ${parsed.problem}`,
      );
  }
  if (fromArtifact !== undefined) {
    const artifact = inside(place, "fromArtifact");
    yield* stageFindings(artifact, fromArtifact.stage, stages);
    if (fromArtifact.path === "") yield deny("V17", inside(artifact, "path"), "is empty, want the path of a file");
  }
}

function* stageFindings(place: Place, stage: string, stages: ReadonlySet<string>): Generator<Finding> {
  if (!stages.has(stage)) yield deny("V17", inside(place, "stage"), `is ${quote(stage)}, want the name of a stage`);
}

function* migrationListFindings(spec: StageSetSpec): Generator<Finding> {
  const { migrations = [], migrationsSourceRef, version } = spec;
  const place = inside(root, "migrations");
  if (version === undefined && migrations.length > 0)
    yield deny("V16", place, `has ${migrations.length} migrations while spec.version is not set, want both`);
  if (version === undefined && migrationsSourceRef !== undefined)
    yield deny("V16", inside(root, "migrationsSourceRef"), "is set while spec.version is not, want both");
  if (migrations.length > 0 && migrationsSourceRef !== undefined)
    yield deny("V16", place, "is set together with spec.migrationsSourceRef, want one of them");
  yield* ladderFindings(migrationsOf(spec), { place, stages: migrationStages(spec.stages) });
}

/** What a migration can name as its stage. */
export function migrationStages(stages: readonly Pick<Stage, "name" | "migrationAnchor">[]): ReadonlySet<string> {
  return new Set(
    stages.flatMap(({ name, migrationAnchor }) => (migrationAnchor === undefined ? [name] : [name, migrationAnchor])),
  );
}

/** V16 of the migrations of a ladder, wherever it comes from; without `stages` any stage may be named. */
export function* ladderFindings(
  items: readonly PlacedMigration[],
  { place, stages }: { readonly place: Place; readonly stages: ReadonlySet<string> | undefined },
): Generator<Finding> {
  if (items.length > mostMigrations)
    yield deny("V16", place, `has ${items.length} migrations, want at most ${mostMigrations}`);
  yield* nameFindings(
    "V16",
    items.map((item) => [inside(item.place, "name"), item.migration.name] as const),
  );
  for (const item of items) yield* migrationFindings(item.place, item.migration, stages);
}

function* migrationFindings(
  place: Place,
  migration: Migration,
  stages: ReadonlySet<string> | undefined,
): Generator<Finding> {
  const { to, from, stage } = migration;
  if (parseVersion(to) === undefined) yield deny("V16", inside(place, "to"), `is ${quote(to)}, ${versionWanted}`);
  const constraint = from === undefined ? undefined : parseConstraint(from);
  if (constraint?.kind === "bare") {
    const wanted = `want ">=${constraint.version}" or "=${constraint.version}"`;
    yield deny("V16", inside(place, "from"), `is ${quote(from ?? "")}, a version without operator, ${wanted}`);
  } else if (constraint?.kind === "malformed") {
    const wanted = `want a constraint such as ">=1.0.0 <2.0.0": ${constraint.problem}`;
    yield deny("V16", inside(place, "from"), `is ${quote(from ?? "")}, ${wanted}`);
  }
  if (stage !== undefined && stages?.has(stage) === false)
    yield deny("V16", inside(place, "stage"), `is ${quote(stage)}, want the name or migrationAnchor of a stage`);
  for (const direction of ["actions", "down"] as const) {
    const actions = migration[direction] ?? [];
    const list = inside(place, direction);
    if (actions.length > mostActions)
      yield deny("V16", list, `has ${actions.length} actions, want at most ${mostActions}`);
    for (const [index, action] of actions.entries()) {
      const item = inside(list, `[${index}]`, `action ${quote(action.name)}`);
      if ((action.retries ?? 0) > mostRetries)
        yield deny("V16", inside(item, "retries"), `is ${action.retries ?? 0}, want at most ${mostRetries}`);
      if (direction === "actions" && action.name.startsWith("down/"))
        yield deny(
          "V16",
          inside(item, "name"),
          `is ${quote(action.name)}, want a name that does not begin with "down/"`,
        );
    }
  }
}
