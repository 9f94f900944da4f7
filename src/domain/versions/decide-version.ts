import { approvedVersionAnnotation, baselineVersionAnnotation } from "../../api/keys.ts";
import type { Stage, VersionSpec } from "../../api/stage-set.ts";
import { compareVersions, parseVersion, renderVersion, type Version } from "../formats/version.ts";
import { quote } from "../validation/finding.ts";
import { readLedger, type Recorded, type Rung } from "./migration-ledger.ts";
import { planTransition, type TransitionPlan, type VersionRefusal } from "./plan-transition.ts";

/**
 * What a pass does about its version (spec 30 §6).
 *
 * - `adoption`: none is deployed yet, so the stages run without migrations, and the version is taken over at the end
 * - `needsLadder`: nothing can be said before the migrations are read
 * - `held`: somebody has to approve
 * - `run`: the stages run, with the migrations of the plan; empty where nothing is crossed
 */
export type VersionDecision =
  | VersionRefusal
  | { readonly kind: "adoption"; readonly wanted: Version }
  | { readonly kind: "needsLadder" }
  | { readonly kind: "held"; readonly message: string; readonly plan: TransitionPlan; readonly wanted: Version }
  | { readonly kind: "run"; readonly plan: TransitionPlan; readonly deployed: Version; readonly wanted: Version };

export interface VersionInput {
  readonly rules: Pick<VersionSpec, "allowDowngrade" | "requireMigrationCoverage" | "approvalMode">;
  /** What the source of the version says, or where a directed rollback leads. */
  readonly wanted: { readonly text: string; readonly origin: string };
  /** A rollback that somebody asked for counts as approval. */
  readonly directed: boolean;
  /** `status.version`. */
  readonly deployed: string | undefined;
  readonly annotations: Readonly<Record<string, string>>;
  readonly recorded: Recorded;
  /** `ledgerVersion` of each stage that has one. */
  readonly stageVersions: readonly string[];
  readonly stages: readonly Pick<Stage, "name" | "migrationAnchor">[];
  /** Undefined: not read, because nobody asked for it yet. */
  readonly rungs: readonly Rung[] | undefined;
}

const emptyPlan: TransitionPlan = { kind: "planned", unwind: [], apply: [], leftovers: [], inverted: undefined };

export function decideVersion(input: VersionInput): VersionDecision {
  const wanted = parseVersion(input.wanted.text);
  if (wanted === undefined) return invalid(input.wanted);
  const known = deployedVersion(input, wanted);
  if (known.kind !== "deployed") return known;
  const { deployed } = known;
  const crossing = compareVersions(wanted, deployed) !== 0;
  const begun = hasEntries(input.recorded);
  if ((crossing || begun) && input.rungs === undefined) return { kind: "needsLadder" };
  const { rungs = [], rules, recorded, stages } = input;
  const plan = crossing || begun ? planTransition({ deployed, wanted, rules, rungs, recorded, stages }) : emptyPlan;
  if (plan.kind === "refused") return plan;
  if (isHeld(input, { plan, deployed, wanted })) {
    const version = renderVersion(wanted);
    const count = plan.unwind.length + plan.apply.length;
    const message = `version ${version} waits for approval, with ${count} migration${count === 1 ? "" : "s"} to run: set the annotation ${approvedVersionAnnotation} to ${quote(version)}`;
    return { kind: "held", message, plan, wanted };
  }
  return { kind: "run", plan, deployed, wanted };
}

function hasEntries({ migrations, actions }: Recorded): boolean {
  return migrations.length > 0 || actions.length > 0;
}

type Deployed = { readonly kind: "deployed"; readonly deployed: Version };

/**
 * C, or what an annotation says instead while there is none (spec 30 §9). A transition from there has begun once there are
 * entries: taking the version over would drop what is left to run.
 */
function deployedVersion(
  { deployed: stored = "", annotations, recorded }: VersionInput,
  wanted: Version,
): Deployed | Extract<VersionDecision, { readonly kind: "adoption" | "refused" }> {
  if (stored.trim() !== "") {
    const deployed = parseVersion(stored);
    return deployed === undefined
      ? invalid({ text: stored, origin: "the deployed version, status.version," })
      : { kind: "deployed", deployed };
  }
  const baseline = annotations[baselineVersionAnnotation] ?? "";
  const begun = hasEntries(recorded);
  if (baseline.trim() === "") return begun ? withoutBaseline : { kind: "adoption", wanted };
  const deployed = parseVersion(baseline);
  if (deployed === undefined) return invalid({ text: baseline, origin: `the annotation ${baselineVersionAnnotation}` });
  return !begun && compareVersions(deployed, wanted) === 0
    ? { kind: "adoption", wanted }
    : { kind: "deployed", deployed };
}

const withoutBaseline: VersionRefusal = {
  kind: "refused",
  reason: "InvalidVersion",
  message: `migrations have begun and no version is deployed yet: set the annotation ${baselineVersionAnnotation} to the version they lead away from, until one is`,
};

/** Spec 30 §6.1. */
function isHeld(
  input: VersionInput,
  { plan, deployed, wanted }: { readonly plan: TransitionPlan; readonly deployed: Version; readonly wanted: Version },
): boolean {
  const { approvalMode = "Never" } = input.rules;
  if (input.directed || approvalMode === "Never" || renderVersion(wanted) === renderVersion(deployed)) return false;
  if (approvalMode === "OnMigrations" && plan.unwind.length + plan.apply.length === 0) return false;
  const approved = parseVersion(input.annotations[approvedVersionAnnotation] ?? "");
  if (approved !== undefined && renderVersion(approved) === renderVersion(wanted)) return false;
  return !hasBegun(input, { deployed, wanted });
}

/**
 * Whether the way to this very version has begun: then nothing but another version stops it. Each stage says which one
 * it was entered for. Entries do not, so they count only where no stage was entered for a third version: an approval
 * never covers another one.
 */
function hasBegun(
  { stageVersions, recorded, rungs = [] }: VersionInput,
  { deployed, wanted }: { readonly deployed: Version; readonly wanted: Version },
): boolean {
  const entered = new Set(stageVersions.map((text) => canonical(text)));
  if (entered.has(renderVersion(wanted))) return true;
  entered.delete(renderVersion(deployed));
  if (entered.size > 0) return false;
  const [low, high] = compareVersions(deployed, wanted) < 0 ? [deployed, wanted] : [wanted, deployed];
  const records = readLedger(rungs, recorded);
  return rungs.some((rung) => {
    const { up = "none", down = "none" } = records.get(rung) ?? {};
    const between = compareVersions(rung.to, low) > 0 && compareVersions(rung.to, high) <= 0;
    return between && (low === deployed ? up : down) !== "none";
  });
}

function canonical(text: string): string {
  const version = parseVersion(text);
  return version === undefined ? text : renderVersion(version);
}

function invalid({ text, origin }: { readonly text: string; readonly origin: string }): VersionRefusal {
  const problem = text.trim() === "" ? "is empty" : `is ${quote(text)}`;
  return { kind: "refused", reason: "InvalidVersion", message: `${origin} ${problem}, want a version such as "1.2.0"` };
}
