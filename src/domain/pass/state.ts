import type { ReadyReason } from "../../api/reasons.ts";
import type { StageSet, StageSetSpec, StageSetStatus } from "../../api/stage-set.ts";
import type { ActionRun } from "../actions/action-run.ts";
import type { StoredLedger } from "../actions/stage-ledger.ts";
import type { BreakGlass } from "../images/break-glass.ts";
import type { PinnedImage } from "../images/pins.ts";
import type { Failure } from "../failure.ts";
import { identityKey, type Identity } from "../identity.ts";
import type { MetricAnswer } from "../metrics/metric-answer.ts";
import type { ArtifactIdentity, Pin } from "../pins.ts";
import type { GateMetrics } from "../promotion/analysis.ts";
import type { PodReadings } from "../promotion/pod-checks.ts";
import type { PodCause } from "../readiness/pod-cause.ts";
import type { RenderedObject } from "../rendered.ts";
import type { Rung } from "../versions/migration-ledger.ts";
import type { VersionReading } from "../versions/version-of-objects.ts";
import type { WindowState } from "../windows/update-windows.ts";

export { identityKey, type Identity };

/** What a stage recorded in its StageInventory shards. */
export interface RecordedStage {
  readonly stage: string;
  readonly position: number;
  readonly entries: readonly RecordedEntry[];
  readonly shards: number;
  /** The ServiceAccount that applied the stage; absent: see spec 50 §1.1 rule 3. */
  readonly serviceAccount: string | undefined;
  /** The cluster they are on, as {@link targetName} has it; undefined: the current one (spec 20 §8.1). */
  readonly target: string | undefined;
}
export interface RecordedEntry {
  readonly id: string;
  readonly version: string;
}

/** What the API server acknowledged; nothing else may allow an effect. */
export interface Stored {
  readonly generation: number;
  readonly hasFinalizer: boolean;
  readonly status: StageSetStatus;
  readonly inventory: ReadonlyMap<string, RecordedStage>;
  /** Undefined: there is no StageLedger of this name. */
  readonly ledger: StoredLedger | undefined;
}

/** The spec one pass works on. */
export interface Snapshot {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly generation: number;
  /** Epoch ms of the deletionTimestamp. */
  readonly deletedAt: number | undefined;
  readonly annotations: Readonly<Record<string, string>>;
  /** What can be read of the spec: to be run only while {@link Snapshot.invalid} is undefined. */
  readonly spec: StageSetSpec | undefined;
  /** Why `spec` cannot be run: schema and rule violations in one text. */
  readonly invalid: string | undefined;
  readonly stored: StageSet["status"];
}

/** Settings of the process that decisions depend on. */
export interface EngineOptions {
  readonly defaultIntervalMs: number;
  readonly crossNamespace: "allowed" | "refused";
  readonly requireServiceAccount: boolean;
  readonly defaultServiceAccount: string | undefined;
  readonly maxTeardownWaitMs: number;
  /** Whether `skip-image-verification` counts. */
  readonly breakGlass: BreakGlass;
  /** Ends Ready messages that need one; undefined = no link. Takes the reason. */
  readonly runbookLink: (reason: ReadyReason) => string | undefined;
}

/** A fact to read. Its key names the identity that reads it, so nothing read as one is ever served to another. */
export type FactKey =
  | { readonly kind: "dependencies" }
  | { readonly kind: "pins" }
  /** Whether the update windows are open. */
  | { readonly kind: "windows" }
  /** What the source of an error budget said last; undefined: the rollout-wide one. */
  | { readonly kind: "budget"; readonly stage: string | undefined }
  | { readonly kind: "expressions" }
  /** `turn`: on a remote target, the stage whose turn reads anew what leads there (spec 50 §1.6). */
  | { readonly kind: "connection"; readonly identity: Identity; readonly turn: string | undefined }
  | {
      readonly kind: "render";
      readonly stage: string;
      readonly identity: ArtifactIdentity;
      readonly pin: Pin | undefined;
      /** `stage`: read again when the stage's turn has come (spec 20 step 19). */
      readonly at: "preflight" | "stage";
    }
  /** The migrations of `spec.migrationsSourceRef`. */
  | { readonly kind: "ladder" }
  /** What stands in a file of a stage's artifact, as fetched. */
  | {
      readonly kind: "versionFile";
      readonly stage: string;
      readonly identity: ArtifactIdentity;
      readonly pin: Pin | undefined;
      readonly path: string;
    }
  /** Whether the images of a stage are verified; its turn then goes on with a render that has them pinned. */
  | {
      readonly kind: "images";
      readonly stage: string;
      readonly identity: ArtifactIdentity;
      readonly as: Identity;
      /** The reason that they are not verified for; undefined: they are. */
      readonly skip: string | undefined;
      /** On record for this revision: judged again, and not looked up. */
      readonly pinned: readonly PinnedImage[];
      /** The stage is not applied at this identity yet. */
      readonly entering: boolean;
    }
  | {
      readonly kind: "preflight";
      readonly stage: string;
      readonly as: Identity;
      readonly renderHash: string;
      /** Stages of the release whose turns come before, and may change what the answer is. */
      readonly after: readonly string[];
    }
  | { readonly kind: "readiness"; readonly stage: string; readonly identity: ArtifactIdentity }
  /** The same for what the last full pass waited for, without a render. */
  | { readonly kind: "health"; readonly stage: string; readonly identity: ArtifactIdentity }
  /** What the restart and event checks of a gate count; events that were last seen before `since` do not (RFC 3339). */
  | { readonly kind: "pods"; readonly stage: string; readonly since: string | undefined }
  /** What the metric sources of a gate say: those of its analysis, of its fast track, or of both. */
  | { readonly kind: "gateMetrics"; readonly stage: string; readonly analysis: boolean; readonly fastTrack: boolean }
  | { readonly kind: "recovery"; readonly stages: readonly string[] }
  /** Whether the StageSet's own namespace is being deleted. */
  | { readonly kind: "namespace" }
  /** The StageLedger as it is stored now: {@link Stored.ledger} is at least as new once this is read. */
  | { readonly kind: "ledger" }
  /** The object that shows that the effect of a Lifetime action is there, read as the stage on its cluster. */
  | {
      readonly kind: "witness";
      readonly stage: string;
      readonly action: string;
      readonly as: Identity;
      readonly anchor: { readonly apiVersion: string; readonly kind: string; readonly name: string };
    };

export function factName(key: FactKey): string {
  switch (key.kind) {
    case "connection":
      return `connection ${identityKey(key.identity)} ${key.turn ?? ""}`;
    case "render":
      return `render ${key.at} ${key.stage} ${key.identity.revision} ${key.identity.digest ?? ""}`;
    case "budget":
      return key.stage === undefined ? "budget" : `budget ${key.stage}`;
    case "readiness":
    case "images":
    case "health":
      return `${key.kind} ${key.stage} ${key.identity.revision} ${key.identity.digest ?? ""}`;
    case "gateMetrics":
      return `gateMetrics ${key.stage} ${key.analysis} ${key.fastTrack}`;
    case "pods":
      return `pods ${key.stage} ${key.since ?? ""}`;
    case "versionFile":
      return `versionFile ${key.stage} ${key.identity.revision} ${key.identity.digest ?? ""} ${key.path}`;
    case "preflight":
      return `preflight ${key.stage} ${identityKey(key.as)} ${key.renderHash}`;
    case "recovery":
      return "recovery";
    case "witness": {
      const { apiVersion, kind, name } = key.anchor;
      return `witness ${key.stage} ${key.action} ${identityKey(key.as)} ${apiVersion} ${kind} ${name}`;
    }
    default:
      return key.kind;
  }
}

/** One stage's objects at one artifact, or why there are none. */
export type RenderFact =
  | {
      readonly kind: "rendered";
      readonly objects: readonly RenderedObject[];
      /** Over all objects in order: equal hashes, equal renders. */
      readonly hash: string;
      readonly substitutionDigest: string;
      /** Some kind is not served yet; an earlier stage may define it, and then namespaces may differ. */
      readonly provisional: boolean;
      /** Some object has images. */
      readonly hasImages?: boolean;
    }
  /** A `substituteFrom` object that an earlier stage may still create is missing (spec 20 step 15). */
  | { readonly kind: "postponed"; readonly failure: Failure }
  /** No source has the content of an identity that is not the pinned one (spec 40 §1). */
  | { readonly kind: "unobtainable"; readonly why: string }
  | { readonly kind: "failed"; readonly failure: Failure };

/** One object a stage waits for. */
export interface Waiting {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly status: string;
  readonly message: string;
  /** What its pods say, as far as it is known: it explains and decides nothing (spec 20 §9.3). */
  readonly cause?: PodCause | undefined;
}

/** Since when a stage waits for the same. */
export interface Standstill {
  /** Everything that is waited for, with what it says of itself; causes do not count, they only explain it. */
  readonly waiting: string;
  /** Monotonic ms. */
  readonly since: number;
}

/** Everything a stage waits for, judged together (spec 20 §9.1). */
export type ReadinessFact =
  | { readonly kind: "ready" }
  | { readonly kind: "failed"; readonly cause: string; readonly authorization: boolean }
  | {
      readonly kind: "waiting";
      readonly objects: readonly Waiting[];
      /** An expression is neither current nor in progress: at the end of the clock the stage fails. */
      readonly stuck: boolean;
    };

export type Fact =
  | { readonly kind: "dependencies"; readonly unmet: Failure | undefined }
  | { readonly kind: "pins"; readonly pins: readonly Pin[] }
  | { readonly kind: "windows"; readonly state: WindowState }
  /** `reading` is undefined while the source is being asked; `readAt`, monotonic ms, tells one answer from the next. */
  | {
      readonly kind: "budget";
      readonly reading: { readonly answer: MetricAnswer; readonly readAt: number } | undefined;
    }
  | { readonly kind: "expressions"; readonly invalid: string | undefined }
  | { readonly kind: "connection" }
  | { readonly kind: "render"; readonly render: RenderFact }
  | { readonly kind: "versionFile"; readonly reading: VersionReading | { readonly kind: "unobtainable" } }
  /** `renderHash`: of the render whose images this is about, pinned by now. */
  | { readonly kind: "images"; readonly renderHash: string; readonly pins: readonly PinnedImage[] }
  /** `refusal`: what no turn of the release could apply. */
  | { readonly kind: "preflight"; readonly refusal: Failure | undefined }
  | { readonly kind: "readiness"; readonly readiness: ReadinessFact }
  /** Undefined: no full pass of this process says what to look at. */
  | { readonly kind: "health"; readonly readiness: ReadinessFact | undefined }
  /** Undefined: they cannot be read right now, which is not for want of rights. */
  | { readonly kind: "pods"; readonly readings: PodReadings | undefined }
  | { readonly kind: "gateMetrics"; readonly metrics: GateMetrics }
  | {
      readonly kind: "recovery";
      /** What carries our labels in the target, by stage. */
      readonly found: ReadonlyMap<string, readonly RecordedEntry[]>;
      /** Kinds that could not be listed. */
      readonly unlisted: readonly string[];
    }
  | { readonly kind: "namespace"; readonly terminating: boolean }
  /** `refused`: why there is none to be had now. */
  | ({ readonly kind: "ladder" } & ({ readonly ladder: SourcedLadder } | { readonly refused: Failure }))
  | { readonly kind: "ledger" }
  | { readonly kind: "witness"; readonly found: WitnessFound }
  | {
      readonly kind: "failed";
      readonly failure: Failure;
      /** What it means for a teardown, which can be given up for two of them; default `other`. */
      readonly refusal?: DeleteError["kind"];
    };

/** Migrations of an artifact. */
export interface SourcedLadder {
  readonly rungs: readonly Rung[];
  /** Where they are from, for Events, between commas. */
  readonly origin: string;
}

/** What became of the object that a completion rests on; `unreadable` tells nothing about it. */
export type WitnessFound =
  | { readonly kind: "there"; readonly uid: string }
  | { readonly kind: "absent" }
  | { readonly kind: "unreadable"; readonly why: string };

/** What the effects of this pass did to one stage. */
export interface StageResult {
  readonly identity: ArtifactIdentity;
  readonly renderHash: string;
  /** Waves whose every object was accepted, counted from the first. */
  readonly wavesDone: number;
  /** Objects created or changed. */
  readonly changed: readonly string[];
  /** Objects of a wave that others build on, which are not Current yet. */
  readonly unsettled: readonly Waiting[];
  /** Objects the controller recreates, which must be gone first. */
  readonly recreating: readonly PendingDelete[];
  readonly failure: Failure | undefined;
}

/** What one delete batch came to, per id. */
export interface DeleteResult {
  readonly stage: string;
  readonly gone: readonly string[];
  readonly pending: readonly PendingDelete[];
  readonly errors: readonly DeleteError[];
}
export interface PendingDelete {
  readonly id: string;
  readonly finalizers: readonly string[];
}
export interface DeleteError {
  readonly id: string;
  readonly kind: "authorization" | "credential" | "other";
  readonly message: string;
}

/** What this pass has done so far; kept over a write conflict, dropped at a wake. */
export interface Results {
  readonly stages: ReadonlyMap<string, StageResult>;
  /** The last batch per stage. */
  readonly deletes: ReadonlyMap<string, DeleteResult>;
  /** A record could not be written for another cause than a conflict. */
  readonly recordFailure: Failure | undefined;
}

/**
 * Hints that outlive a pass in this process. Losing them costs time, never safety: losing `run` means new pins, hence a
 * new target.
 */
export interface Memory {
  readonly run: RunMemory | undefined;
  /** Consecutive failures at the target named by `failedTarget`. */
  readonly failures: number;
  readonly failedTarget: string | undefined;
  /** Until when events that change nothing leave the backoff alone, monotonic ms; undefined outside a backoff. */
  readonly backoffUntil: number | undefined;
  /** When a stage's verify clock started, monotonic ms. */
  readonly verifyStarted: ReadonlyMap<string, number>;
  /** When what a stage waits for was last written or found to be as written, monotonic ms. */
  readonly waitingListed: ReadonlyMap<string, number>;
  /** Since when a stage waits for the same. */
  readonly standstills: ReadonlyMap<string, Standstill>;
  /** When a deployed stage was first seen not ready, monotonic ms. */
  readonly notReadySince: ReadonlyMap<string, number>;
  /** Render hash of each stage as last applied. */
  readonly renderHashes: ReadonlyMap<string, string>;
  /** When the first object of a wave that must be Current was applied, monotonic ms, by stage. */
  readonly waveStarted: ReadonlyMap<string, number>;
  /** When a stage's deletes started, monotonic ms. */
  readonly deletesStarted: ReadonlyMap<string, number>;
  readonly handledRequest: string | undefined;
  /** `readAt` of the answer that was last counted, by stage; "": of the rollout-wide budget. */
  readonly budgetsCounted: ReadonlyMap<string, number>;
  /** When a pass last dry-ran every object, monotonic ms. */
  readonly auditedAt: number | undefined;
  /** Set while a promotion gate is closed and only ticks are due. */
  readonly tick: TickMemory | undefined;
  /** The action under way, or one that ended and is not accounted for yet. */
  readonly action: ActionRun | undefined;
  /** A stage that failed and whose onFailure actions are under way. */
  readonly failing: FailingMemory | undefined;
  /** The stage whose Revision ledger was emptied for a token that is not on record as handled yet. */
  readonly forced: { readonly stage: string; readonly token: string } | undefined;
  /** The token of requestedAt for which the failure counters were zeroed, until it is on record as handled. */
  readonly unhalted: string | undefined;
  /** The failure that this pass ends with is on record in a failure counter. */
  readonly failureCounted: boolean;
}

/** An Event beside those a Ready change brings. */
export interface PassEvent {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly note: string;
  /** Said once per value of this key. */
  readonly once: string | undefined;
  /** Told of the StageLedger instead of the StageSet. */
  readonly about?: "ledger";
}

/** What a stage failed with, until its onFailure actions have run. */
export interface FailingMemory {
  readonly stage: string;
  readonly identity: ArtifactIdentity;
  readonly as: Identity;
  readonly why: Failure;
  readonly generation: number;
  /** Names of actions that were started for this failure. */
  readonly tried: readonly string[];
  /** To be told with the failure. */
  readonly notes: readonly PassEvent[];
}

/** What the last full pass leaves to the ticks after it. */
export interface TickMemory {
  readonly generation: number;
  readonly pins: readonly Pin[];
  /** When the next full pass is due, monotonic ms. */
  readonly fullAt: number;
}

/** Pins of a run that makes progress. */
export interface RunMemory {
  readonly generation: number;
  readonly pins: readonly Pin[];
  /** Position of the stage whose turn it is; those before it had theirs. */
  readonly turn: number;
  /** Its turn has begun: what it is rendered from was read in it. */
  readonly begun: boolean;
  /** A source told of a change since the pins of sources were last read. */
  readonly news: boolean;
}

export const emptyMemory: Memory = {
  run: undefined,
  failures: 0,
  failedTarget: undefined,
  backoffUntil: undefined,
  verifyStarted: new Map(),
  waitingListed: new Map(),
  standstills: new Map(),
  notReadySince: new Map(),
  renderHashes: new Map(),
  waveStarted: new Map(),
  deletesStarted: new Map(),
  handledRequest: undefined,
  budgetsCounted: new Map(),
  auditedAt: undefined,
  tick: undefined,
  action: undefined,
  forced: undefined,
  failing: undefined,
  unhalted: undefined,
  failureCounted: false,
};

/**
 * Why the pass runs: `time` covers every timer, `readiness` a wait that may be over, `drift` an object that was touched,
 * `metric` an answer of a metric source, `action` the end of an action, `ledger` a StageLedger that somebody changed,
 * `policy` a change of an ImageVerificationPolicy.
 */
export type Cause =
  | "spec"
  | "annotation"
  | "source"
  | "dependency"
  | "inventory"
  | "readiness"
  | "drift"
  | "metric"
  | "action"
  | "ledger"
  | "policy"
  | "time"
  | "start";

export interface PassState {
  readonly snapshot: Snapshot;
  readonly stored: Stored;
  readonly facts: ReadonlyMap<string, Fact>;
  readonly results: Results;
  readonly memory: Memory;
  readonly causes: ReadonlySet<Cause>;
  readonly options: EngineOptions;
  /** Epoch ms. */
  readonly now: number;
  /** Monotonic ms. */
  readonly elapsed: number;
}
