import type { ReadyReason } from "../../api/reasons.ts";
import type { StageLedgerStatus } from "../../api/stage-ledger.ts";
import type { StageSetStatus } from "../../api/stage-set.ts";
import type { ActionCall, CreatedJob } from "../actions/action-run.ts";
import type { StoredLedger } from "../actions/stage-ledger.ts";
import type { Failure } from "../failure.ts";
import type { PinnedImage } from "../images/pins.ts";
import type { ArtifactIdentity, Pin } from "../pins.ts";
import type { RenderedObject } from "../rendered.ts";
import type { ReadyState } from "../status.ts";
import type { FactKey, Identity, Memory, PassEvent, RecordedEntry } from "./state.ts";

/**
 * What the driver does next. `need`: read facts. `record`: have a record acknowledged. `do`: one bounded effect, refused
 * unless every required record is acknowledged. `park`: give the worker back until a wake. `end`: the pass has an outcome.
 */
export type Step =
  | { readonly kind: "need"; readonly facts: readonly FactKey[] }
  | {
      readonly kind: "record";
      readonly write: Write;
      readonly remember?: Partial<Memory>;
      /**
       * A status write that follows, and carries everything this one does, may be sent in its stead: when it follows `at
       * once`, or also when all that comes between is to read facts and to grow the inventory (`once prepared`).
       */
      readonly joinsNext?: "at once" | "once prepared";
      /** Told once the record is acknowledged. */
      readonly events?: readonly PassEvent[];
      /** The record is the one of a pre or post action that ran. */
      readonly completes?: { readonly call: ActionCall; readonly jobs: readonly CreatedJob[] };
    }
  | {
      readonly kind: "do";
      readonly effect: Effect;
      readonly requires: readonly RecordKey[];
      /** Before the effect begins. */
      readonly remember?: Partial<Memory>;
      /** Told when it begins. */
      readonly events?: readonly PassEvent[];
    }
  | {
      readonly kind: "park";
      readonly wakes: readonly Wake[];
      readonly remember: Partial<Memory>;
      /** What the pass before followed and guarded still is. */
      readonly watches?: "kept";
    }
  | { readonly kind: "end"; readonly outcome: Outcome };

/** A record in Kubernetes. Only the journal writes these. */
export type Write =
  | { readonly kind: "status"; readonly status: StageSetStatus }
  | (InventoryRecord & {
      readonly kind: "inventory";
      /**
       * Records of later stages to write at the same time. One that fails is left out: its stage's turn asks for it
       * again, and says why it fails.
       */
      readonly ahead?: readonly InventoryRecord[];
    })
  /** Every shard of a stage that left the spec and holds nothing any more. */
  | { readonly kind: "inventoryRemoval"; readonly stage: string }
  /** The StageLedger, empty and without owner: it outlives the StageSet (spec 30 §4.4). */
  | { readonly kind: "ledgerCreation" }
  /** Refused as a conflict when something newer than `before` is stored. */
  | { readonly kind: "ledger"; readonly before: StoredLedger; readonly status: StageLedgerStatus }
  | { readonly kind: "finalizer"; readonly change: "add" }
  | { readonly kind: "finalizer"; readonly change: "remove"; readonly forced: ForcedDrop | undefined };

/** What one stage records of its objects. */
export interface InventoryRecord {
  readonly stage: string;
  readonly position: number;
  readonly entries: readonly RecordedEntry[];
  /** Undefined: applied as the controller. */
  readonly serviceAccount: string | undefined;
}

/** The finalizer is dropped although objects may remain (spec 20 §12.7). */
export interface ForcedDrop {
  readonly reason: "timed_out" | "permanent" | "unauthorized";
  /** Since the deletion was asked for, ms. */
  readonly elapsedMs: number;
  readonly lastError: string;
  readonly remaining: readonly string[];
}

/** What must be acknowledged before an effect. */
export type RecordKey =
  | { readonly kind: "finalizer" }
  /** E1: every id the effect may write is in the stage's inventory. */
  | { readonly kind: "inventory"; readonly stage: string; readonly ids: readonly string[] }
  /** The stage is on record as having begun this identity. */
  | { readonly kind: "entered"; readonly stage: string; readonly identity: ArtifactIdentity }
  /** The StageLedger is there, and the action is not in it. */
  | { readonly kind: "ledger"; readonly stage: string; readonly action: string }
  /** What the tags of a stage's images stand for at this revision (spec 50 §4.3). */
  | {
      readonly kind: "verifiedImages";
      readonly stage: string;
      readonly revision: string;
      readonly pins: readonly PinnedImage[];
    }
  /** By which value of the annotation the images of a stage are not verified at this identity. */
  | {
      readonly kind: "skippedImages";
      readonly stage: string;
      readonly identity: ArtifactIdentity;
      readonly token: string;
    }
  /** E3: every stage before this one is on record as Ready at what it is driven to. */
  | {
      readonly kind: "earlierStagesReady";
      readonly stages: readonly { readonly stage: string; readonly identity: ArtifactIdentity }[];
    };

export type Effect =
  | {
      readonly kind: "apply";
      readonly stage: string;
      readonly identity: ArtifactIdentity;
      readonly as: Identity;
      readonly objects: readonly RenderedObject[];
      readonly renderHash: string;
      /** Index of the wave to apply. */
      readonly wave: number;
      /**
       * `changed`: dry runs decide what to write. `steady`: a watch or one read proves an unchanged object. `audit`: the
       * same with dry runs, so that nothing has to be taken on trust for long.
       */
      readonly mode: "changed" | "steady" | "audit";
    }
  | {
      readonly kind: "delete";
      readonly stage: string;
      /** Tried in order: a refusal by the first is tried once more as the next (spec 50 §1.6). */
      readonly as: readonly Identity[];
      readonly entries: readonly RecordedEntry[];
      readonly purpose: "prune" | "teardown";
    }
  /** Starts an action, which then runs beside the passes: its end wakes the StageSet. */
  | { readonly kind: "action"; readonly stage: string; readonly call: ActionCall };

/** What runs the key again. Any trigger of spec 20 §1 does so too. */
export type Wake =
  | { readonly kind: "at"; /** Monotonic ms. */ readonly elapsed: number }
  /** Something the stage waits for may have changed its verdict. */
  | { readonly kind: "readiness"; readonly stage: string; readonly identity: ArtifactIdentity; readonly as: Identity };

export interface Outcome {
  /** Undefined: nothing new is said, because the object is going or a backoff goes on. */
  readonly ready: ReadyState | undefined;
  /** Delay until the next look, ms before jitter; undefined for Suspended and for gone objects. */
  readonly next: { readonly afterMs: number; readonly jitter: number } | undefined;
  readonly wakes: readonly Wake[];
  readonly remember: Partial<Memory>;
  readonly failure: Failure | undefined;
  readonly events: readonly PassEvent[];
  /** Stages applied and verified in this pass. */
  readonly verified: readonly string[];
  /** Why nothing new enters, if so; Ready may be True all the same. */
  readonly held: ReadyReason | undefined;
}

export type { PassEvent } from "./state.ts";
export type { ReadyReason, Pin };
