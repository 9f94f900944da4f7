import type { Action } from "../../api/stage-set.ts";
import type { Identity } from "../identity.ts";
import { isLifetime, type Witness } from "./stage-ledger.ts";

/** The lists of a stage, and those of a migration that runs before it (spec 30 §1). */
export type StageActionList = "pre" | "post" | "onFailure" | "up" | "down";

/** The step of a migration that an action is, with what its completion changes on record (spec 30 §8). */
export interface MigrationCall {
  /** `name@digest`. */
  readonly key: string;
  /** To be recorded in `executedMigrationActions`. */
  readonly entry: string;
  /** Entries of the other direction, which the first one of this direction drops. */
  readonly drops: readonly string[];
}

/** One action to run, with everything its completion is recorded under. */
export interface ActionCall {
  readonly stage: string;
  readonly list: StageActionList;
  readonly action: Action;
  readonly as: Identity;
  /** What the stage is pinned to. */
  readonly revision: string;
  /** What the completion is recorded under: the revision, the canonical version, or `lifetime`; of a migration, its boundary. */
  readonly ledgerKey: string;
  /** Set for the lists `up` and `down`, and for no other. */
  readonly migration?: MigrationCall;
  /** Tokens of the reconcile-stage annotation, if it names the stage, and of reset-scope; empty: none. */
  readonly tokens: readonly string[];
  /** What is on record last before it, see {@link lastCompletion}: each record of a completion has another one follow. */
  readonly after: string;
  /** Of the spec that declares it. */
  readonly generation: number;
  /**
   * Images are not verified of patches, and of what it applies from the artifact with this digest: the glass is broken for
   * the stage's revision (spec 50 §4.6), of which other artifacts are no part.
   */
  readonly skipsImages?: string;
  /** Of the StageSet: a namesake created later has another one. */
  readonly uid: string;
}

/**
 * How an action ended. `permanent`: nothing but a grant, or a kind that is installed, can help; `source`: its source, in
 * another namespace, of which nothing but the cause is said (spec 30 §2.3). The cause is a sentence without Secret values
 * that names what failed.
 */
export type ActionOutcome =
  | {
      readonly kind: "completed";
      /** Jobs to delete once the completion is on record. */ readonly jobs: readonly CreatedJob[];
      /** Of the artifact that a job or apply action used. */
      readonly artifactDigest?: string | undefined;
      /** What the action's completionAnchor was found to be. */
      readonly witness?: Witness | undefined;
    }
  | { readonly kind: "failed"; readonly cause: string; readonly class: ActionFailureClass };

/** `image`: of what it applies is not verified; `unknownImage`: that could not be told. */
export type ActionFailureClass = "permanent" | "ordinary" | "source" | "image" | "unknownImage";

/** A Job that an action created. */
export interface CreatedJob {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** The one action of a StageSet that runs in this process, or has ended and is not accounted for yet. */
export interface ActionRun {
  readonly call: ActionCall;
  /** Undefined while it runs. */
  readonly outcome: ActionOutcome | undefined;
}

/** Whether it is done and its completion is for the StageLedger, which is there when the StageSet is gone. */
export function outlivesStageSet({ call, outcome }: ActionRun): boolean {
  return outcome?.kind === "completed" && isLifetime(call.action);
}

/** Whether a run is of this call: of an action declared otherwise, by another spec, it is not. */
export function isRunOf({ call }: ActionRun, wanted: ActionCall): boolean {
  return (
    call.stage === wanted.stage &&
    call.list === wanted.list &&
    call.action.name === wanted.action.name &&
    call.migration?.entry === wanted.migration?.entry &&
    call.revision === wanted.revision &&
    call.ledgerKey === wanted.ledgerKey &&
    call.generation === wanted.generation &&
    call.uid === wanted.uid
  );
}
