import { asArray, asNumber, asObject, asText, at } from "../../lib/json.ts";
import type { KubeObject } from "../../lib/kube-object.ts";
import { readyOf, type AwaitedObject, type Cause, type Why, type WhyState } from "./cause.ts";
import { awaitedObjects, stagesOf, waitingSince, type StageView } from "./stage-cause.ts";
import { explainWhy, type WhyInput } from "./why.ts";

/** A StageSet in a list. */
export interface StageSetRow {
  readonly namespace: string;
  readonly name: string;
  readonly state: WhyState;
  readonly suspended: boolean;
  readonly deleting: boolean;
  readonly ready: { readonly status: string; readonly reason: string; readonly since?: string };
  readonly version?: string;
  readonly pendingVersion?: string;
  /** Phases of the declared stages, in order. */
  readonly phases: readonly { readonly stage: string; readonly phase: string; readonly gate?: string }[];
  /** What it waits for first. */
  readonly cause?: Cause;
}

/** One stage as a page shows it. */
export interface StagePage {
  readonly name: string;
  readonly phase: string;
  readonly revision?: string;
  readonly entering?: string;
  readonly entries?: number;
  readonly message?: string;
  readonly waitingSince?: string;
  readonly gate?: { readonly phase: string; readonly since?: string; readonly until?: string };
  readonly objects: readonly AwaitedObject[];
}

/** A StageSet with all that its page shows. Nothing of it comes from a Secret or a manifest. */
export interface StageSetPage extends StageSetRow {
  readonly message: string;
  readonly generation?: number;
  readonly observedGeneration?: number;
  readonly dependsOn: readonly string[];
  readonly stages: readonly StagePage[];
  readonly revisions: readonly { readonly source: string; readonly applied?: string; readonly attempted?: string }[];
  readonly history: readonly { readonly version?: string; readonly appliedAt?: string }[];
  readonly why: Why;
}

/** A FleetRollout as far as its status tells it. */
export interface FleetPage {
  readonly name: string;
  readonly phase: string;
  readonly targetVersion?: string;
  readonly currentWave?: string;
  readonly ready?: { readonly status: string; readonly reason: string; readonly message: string };
  readonly rejectedVersions: readonly string[];
  readonly waves: readonly {
    readonly name: string;
    readonly total?: number;
    readonly atTarget?: number;
    readonly ready?: number;
    readonly settled: boolean;
    readonly soakUntil?: string;
    readonly health?: string;
    readonly passedVersion?: string;
  }[];
}

export function stageSetRow(input: WhyInput): StageSetRow {
  return rowOf(input.stageSet, explainWhy(input));
}

export function stageSetPage(input: WhyInput): StageSetPage {
  const { stageSet } = input;
  const why = explainWhy(input);
  const applied = asObject(at(stageSet, "status", "lastAppliedRevisions")) ?? {};
  const attempted = asObject(at(stageSet, "status", "lastAttemptedRevisions")) ?? {};
  return {
    ...rowOf(stageSet, why),
    message: readyOf(at(stageSet, "status"))?.message ?? "",
    ...known({
      generation: stageSet.metadata.generation,
      observedGeneration: asNumber(at(stageSet, "status", "observedGeneration")),
    }),
    dependsOn: asArray(at(stageSet, "spec", "dependsOn")).flatMap((each) => {
      const name = asText(at(each, "name"));
      return name === undefined
        ? []
        : [`${asText(at(each, "namespace")) ?? stageSet.metadata.namespace ?? ""}/${name}`];
    }),
    stages: stagesOf(stageSet).map(stagePage),
    revisions: [...new Set([...Object.keys(applied), ...Object.keys(attempted)])].toSorted().map((source) => ({
      source,
      ...known({ applied: asText(applied[source]), attempted: asText(attempted[source]) }),
    })),
    history: asArray(at(stageSet, "status", "snapshotHistory"))
      .slice(0, 10)
      .map((each) => known({ version: asText(at(each, "version")), appliedAt: asText(at(each, "appliedAt")) })),
    why,
  };
}

function rowOf(stageSet: KubeObject, why: Why): StageSetRow {
  const ready = readyOf(at(stageSet, "status"));
  return {
    namespace: why.namespace,
    name: why.name,
    state: why.state,
    suspended: at(stageSet, "spec", "suspend") === true,
    deleting: stageSet.metadata.deletionTimestamp !== undefined,
    ready: {
      status: ready?.status ?? "Unknown",
      reason: ready?.reason ?? "",
      ...known({ since: ready?.since }),
    },
    ...known({
      version: asText(at(stageSet, "status", "version")),
      pendingVersion: asText(at(stageSet, "status", "pendingVersion")),
      cause: why.cause,
    }),
    phases: stagesOf(stageSet).map(({ name, phase, entry }) => ({
      stage: name,
      phase,
      ...known({ gate: gatePhase(entry) }),
    })),
  };
}

function stagePage(stage: StageView): StagePage {
  const { name, phase, entry } = stage;
  const [applied, entered] = [asText(at(entry, "appliedRevision")), asText(at(entry, "enteredRevision"))];
  const gate = gatePhase(entry);
  return {
    name,
    phase,
    ...known({
      revision: applied,
      entering: entered === applied ? undefined : entered,
      entries: asNumber(at(entry, "entriesCount")),
      message: asText(at(entry, "message")),
      waitingSince: waitingSince(entry),
      gate:
        gate === undefined
          ? undefined
          : {
              phase: gate,
              ...known({
                since: asText(at(entry, "promotionState", "since")),
                until: gate === "Soaking" ? asText(at(entry, "promotionState", "soakUntil")) : undefined,
              }),
            },
    }),
    objects: awaitedObjects(stage),
  };
}

function gatePhase(entry: unknown): string | undefined {
  return asText(at(entry, "promotionState", "phase"));
}

export function fleetPage(fleet: KubeObject): FleetPage {
  const status = at(fleet, "status");
  const ready = readyOf(status);
  const states = new Map(asArray(at(status, "waves")).map((wave) => [at(wave, "name"), wave]));
  return {
    name: fleet.metadata.name,
    phase: asText(at(status, "phase")) ?? "Pending",
    ...known({
      targetVersion: asText(at(fleet, "spec", "targetVersion")),
      currentWave: asText(at(status, "currentWave")),
      ready: ready === undefined ? undefined : { status: ready.status, reason: ready.reason, message: ready.message },
    }),
    rejectedVersions: asArray(at(status, "rejectedVersions")).flatMap((each) => asText(each) ?? []),
    waves: asArray(at(fleet, "spec", "waves")).flatMap((each) => {
      const name = asText(at(each, "name"));
      if (name === undefined) return [];
      const wave = states.get(name);
      return {
        name,
        settled: at(wave, "settled") === true,
        ...known({
          total: asNumber(at(wave, "total")),
          atTarget: asNumber(at(wave, "atTarget")),
          ready: asNumber(at(wave, "ready")),
          soakUntil: asText(at(wave, "soakUntil")),
          health: asText(at(wave, "health")),
          passedVersion: asText(at(wave, "passedVersion")),
        }),
      };
    }),
  };
}

/** The members that are known. */
function known<T extends object>(members: T): { readonly [Member in keyof T]?: Exclude<T[Member], undefined> } {
  // Only members that are undefined are left out.
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as {
    readonly [Member in keyof T]?: Exclude<T[Member], undefined>;
  };
}
