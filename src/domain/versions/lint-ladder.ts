import type { StageSetSpec } from "../../api/stage-set.ts";
import { meansBelow, parseConstraint } from "../formats/constraint.ts";
import { compareVersions, parseVersion, renderVersion, type Version } from "../formats/version.ts";
import { type Finding, quote } from "../validation/finding.ts";
import type { PlacedMigration } from "../validation/places.ts";
import { migrationStages } from "../validation/versions.ts";
import { type LadderContext, ladderProblems } from "./ladder-problems.ts";
import { nothingRecorded, type Rung, rungsOf, stepsOf } from "./migration-ledger.ts";
import { crossedBoundaries, invertedOrder, planTransition, verbOf } from "./plan-transition.ts";
import { type LadderProblem, problemPath, type ReadMigrations } from "./read-migrations.ts";

export interface LintOptions {
  /** Why an expression cannot be used; undefined: it can. */
  readonly expressionProblem: LadderContext["expressionProblem"];
  readonly transition: { readonly from: Version; readonly to: Version } | undefined;
  /** The StageSet the ladder is for. */
  readonly stageSet: { readonly namespace: string; readonly spec: StageSetSpec } | undefined;
}

export interface LintReport {
  readonly valid: boolean;
  /** In the order of the ladder; empty unless it is valid. */
  readonly migrations: readonly LintedMigration[];
  readonly problems: readonly LadderProblem[];
  readonly warnings: readonly LadderProblem[];
  readonly transition?: LintedTransition;
}

export interface LintedMigration {
  readonly name: string;
  readonly to: string;
  readonly from?: string;
  readonly stage?: string;
  readonly digest: string;
  /** Verbs of its steps. */
  readonly actions: readonly string[];
  readonly down: readonly string[];
}

/** What the controller would do on a transition that begins with nothing on record. */
export interface LintedTransition {
  readonly from: string;
  readonly to: string;
  /** Ascending by boundary. */
  readonly migrations: readonly LintedCrossing[];
  /** Set where the StageSet's rules refuse it. */
  readonly refused?: { readonly reason: string; readonly message: string };
}

export interface LintedCrossing {
  readonly name: string;
  readonly to: string;
  readonly outcome: "fires" | "unwinds" | "irreversible" | "excluded";
  /** Verbs of what runs. */
  readonly actions: readonly string[];
  /** Why it is excluded. */
  readonly reason?: string;
}

/** Judges a ladder as the controller does, by the same code, and lists everything that is wrong with it. */
export function lintLadder(read: ReadMigrations, { expressionProblem, transition, stageSet }: LintOptions): LintReport {
  const findings = [
    ...ladderProblems(read.migrations, {
      namespace: stageSet?.namespace ?? "",
      crossNamespace: "allowed",
      allowLoopback: false,
      stages: stageSet === undefined ? undefined : migrationStages(stageSet.spec.stages),
      expressionProblem,
    }),
  ];
  const of = (severity: Finding["severity"]): readonly LadderProblem[] =>
    findings
      .filter((finding) => finding.severity === severity)
      .map(({ path, message }) => ({ path: problemPath(path), message }));
  const problems = [...read.problems, ...of("deny")];
  if (problems.length > 0) return { valid: false, migrations: [], problems, warnings: of("warn") };
  const rungs = rungsOf(read.migrations.map(({ migration }) => migration));
  return {
    valid: true,
    migrations: rungs.map(linted),
    problems,
    warnings: [...of("warn"), ...oddities(read.migrations, rungs), ...inversions(rungs, stageSet?.spec)],
    ...(transition === undefined ? {} : { transition: crossings(rungs, transition, stageSet?.spec) }),
  };
}

function linted(rung: Rung): LintedMigration {
  const { name, to, from, stage } = rung.migration;
  return {
    name,
    to,
    ...(from === undefined ? {} : { from }),
    ...(stage === undefined ? {} : { stage }),
    digest: rung.digest,
    actions: stepsOf(rung, "up").map(verbOf),
    down: stepsOf(rung, "down").map(verbOf),
  };
}

/** What is allowed and seldom meant. */
function* oddities(placed: readonly PlacedMigration[], rungs: readonly Rung[]): Generator<LadderProblem> {
  const seen = new Map<string, string>();
  for (const [index, rung] of rungs.entries()) {
    const path = problemPath(placed[index]?.place.path ?? "");
    const { name, from, stage = "" } = rung.migration;
    const warning = (message: string): LadderProblem => ({ path, message: `migration ${quote(name)} ${message}` });
    const constraint = from === undefined ? undefined : parseConstraint(from);
    if (constraint?.kind === "constraint" && !meansBelow(constraint.constraint, rung.to))
      yield warning(`never runs: ${quote(from ?? "")} means no version below ${rung.migration.to}`);
    const key = `${renderVersion({ ...rung.to, build: "" })} ${stage}`;
    const other = seen.get(key);
    if (other !== undefined)
      yield warning(`leads to ${rung.migration.to} before the same stage as ${quote(other)}: they run in this order`);
    seen.set(key, other ?? name);
    const steps = [...stepsOf(rung, "up"), ...stepsOf(rung, "down")];
    if (stepsOf(rung, "up").length === 0) yield warning("has no actions: it only covers the step to its version");
    if (stepsOf(rung, "down").length === 0) yield warning("has no down steps: it cannot be undone");
    if (steps.some(({ http }) => http !== undefined))
      yield warning("sends requests: in an artifact that needs a controller with --allowed-action-hosts");
  }
}

function* inversions(rungs: readonly Rung[], spec: StageSetSpec | undefined): Generator<LadderProblem> {
  if (spec === undefined) return;
  const inverted = invertedOrder(ascending(rungs), spec.stages);
  if (inverted === undefined) return;
  const [higher, lower] = [inverted.higher.migration, inverted.lower.migration];
  yield {
    path: "",
    message: `migration ${quote(higher.name)} to ${higher.to} runs before ${quote(lower.name)} to ${lower.to}, because its stage comes earlier`,
  };
}

function crossings(
  rungs: readonly Rung[],
  { from, to }: { readonly from: Version; readonly to: Version },
  spec: StageSetSpec | undefined,
): LintedTransition {
  const input = { deployed: from, wanted: to, rungs, recorded: nothingRecorded };
  const { apply, unwind } = crossedBoundaries(input);
  const texts = { from: renderVersion(from), to: renderVersion(to) };
  const upward = compareVersions(from, to) <= 0;
  const range = upward ? `(${texts.from}, ${texts.to}]` : `(${texts.to}, ${texts.from}]`;
  const crossing = (rung: Rung): LintedCrossing => {
    const { name, to: boundary, from: constraint = "" } = rung.migration;
    const base = { name, to: boundary };
    const verbs = stepsOf(rung, upward ? "up" : "down").map(verbOf);
    if (apply.includes(rung)) return { ...base, outcome: "fires", actions: verbs };
    if (unwind.includes(rung))
      return { ...base, outcome: verbs.length === 0 ? "irreversible" : "unwinds", actions: verbs };
    const within = upward && compareVersions(rung.to, from) > 0 && compareVersions(rung.to, to) <= 0;
    const reason = within
      ? `from ${JSON.stringify(constraint)} does not match current ${texts.from}`
      : `to ${boundary} is not in the crossed range ${range}`;
    return { ...base, outcome: "excluded", actions: [], reason };
  };
  const plan = spec && planTransition({ ...input, rules: spec.version ?? {}, stages: spec.stages });
  return {
    ...texts,
    migrations: ascending(rungs).map(crossing),
    ...(plan?.kind === "refused" ? { refused: { reason: plan.reason, message: plan.message } } : {}),
  };
}

function ascending(rungs: readonly Rung[]): readonly Rung[] {
  return rungs.toSorted((a, b) => compareVersions(a.to, b.to));
}

/** A version as a flag has it. */
export function transitionOf(from: string, to: string): LintOptions["transition"] {
  const [parsedFrom, parsedTo] = [parseVersion(from), parseVersion(to)];
  return parsedFrom === undefined || parsedTo === undefined ? undefined : { from: parsedFrom, to: parsedTo };
}
