import type { Action, StageSetSpec, StageSetStatus } from "../api/stage-set.ts";
import type { ArtifactStore } from "../source/artifact-store.ts";
import type { Clock } from "../lib/clock.ts";
import type { Random } from "../lib/random.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { ShareOpener } from "../kms/share-opener.ts";
import type { ComputePool } from "../compute/pool.ts";
import type { AccessProvider } from "../identity/access.ts";
import type { TargetProvider } from "../identity/remote/targets.ts";
import type { DependencyView } from "../domain/dependencies.ts";
import type { EngineOptions } from "../domain/pass/state.ts";
import type { ForcedDrop } from "../domain/pass/step.ts";
import type { AheadRenders } from "./ahead.ts";
import type { ActionRuns } from "./action-runs.ts";
import type { Cel } from "./facts/cel.ts";
import type { RenderCache } from "./facts/render-cache.ts";
import type { LadderCache } from "./facts/ladder-cache.ts";
import type { ImageGate } from "./image-gate.ts";
import type { Journal, StageSetKey } from "./journal.ts";
import type { LadderAhead } from "./ladder-ahead.ts";
import type { MetricReadings } from "./metrics/metric-readings.ts";
import type { Observer } from "./observer.ts";
import type { PodCauses } from "./pod-causes.ts";
import type { Session } from "./session.ts";

/** An Event about a StageSet. Emission never fails or delays a pass. */
export interface Announcement {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly note: string;
  /** What the StageSet is pinned to; several revisions are joined by commas. */
  readonly revision?: string | undefined;
}

/** What the outside learns of passes; each call returns at once. */
export interface Reports {
  event(key: StageSetKey, uid: string, event: Announcement): void;
  /** An Event about the StageLedger of that name. */
  ledgerEvent(key: StageSetKey, uid: string, event: Announcement): void;
  /** A StageSet that is new found completed actions. */
  ledgerAdopted(key: StageSetKey): void;
  /** The witness of a completion cannot be read. */
  anchorUnreadable(key: StageSetKey): void;
  stageApplied(key: StageSetKey, stage: string): void;
  driftCorrected(key: StageSetKey, stage: string, objects: number): void;
  /** A roll-out begins to wait for an update window. */
  updateDeferred(key: StageSetKey): void;
  /** A pre or post action ran and is on record. */
  actionRan(key: StageSetKey, scope: NonNullable<Action["scope"]>): void;
  teardownForced(key: StageSetKey, drop: ForcedDrop): void;
  /** The rollout-wide error budget was read. */
  budgetRead(key: StageSetKey, remaining: number): void;
  /** A metric source gave no usable number. */
  metricSourceFailed(key: StageSetKey): void;
  /** A status was written; `spec` is what it is about. */
  recorded(key: StageSetKey, status: StageSetStatus, spec: StageSetSpec | undefined): void;
  /** Duration of one phase of a stage, seconds. */
  phase(
    phase: "fetch" | "decrypt" | "build" | "verify_images" | "apply" | "wait" | "actions" | "prune",
    seconds: number,
  ): void;
}

/** Everything a pass works with. Built once in `main/`. */
export interface Engine {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly options: EngineOptions;
  readonly access: AccessProvider;
  /** Clusters that `spec.kubeConfig` leads to. */
  readonly targets: TargetProvider;
  readonly journal: Journal;
  readonly artifacts: ArtifactStore;
  readonly compute: ComputePool;
  readonly cel: Cel;
  /** Path of kustomize as a WebAssembly module; asked for when a build needs it. */
  readonly kustomize: () => Promise<string>;
  /** Services with keys of encrypted files; `perObject`: asked as the StageSet's ServiceAccount. */
  readonly kms: { readonly open: ShareOpener; readonly perObject: boolean };
  readonly renders: RenderCache;
  readonly observer: Observer;
  readonly metrics: MetricReadings;
  readonly images: ImageGate;
  readonly actions: ActionRuns;
  /** What a ladder of `spec.migrationsSourceRef` must be like. */
  readonly ladders: {
    readonly requireVerified: boolean;
    readonly requirePinned: boolean;
    readonly crossNamespace: "allowed" | "refused";
    readonly allowLoopback: boolean;
    /** `--allowed-action-hosts`; undefined: it is empty. */
    readonly isAllowedHost: ((host: string) => boolean) | undefined;
    readonly cache: LadderCache;
    /** One at a time, for those that no pass asks for. */
    readonly ahead: LadderAhead;
  };
  readonly podCauses: PodCauses;
  readonly aheads: AheadRenders;
  /** Passes wait for a place. */
  readonly isBusy: () => boolean;
  readonly reports: Reports;
  /** StageSets of any namespace, for `dependsOn`: undefined when there is none or it cannot be read. */
  readonly dependency: (key: StageSetKey, o: { readonly signal: AbortSignal }) => Promise<DependencyView | undefined>;
  /** StageSets of the namespace that act as this ServiceAccount. */
  readonly sharers: (namespace: string, serviceAccountName: string) => number;
  /** Another StageSet of the same target that records this id (spec 20 §8.3). */
  readonly recordedElsewhere: (key: StageSetKey, id: string) => boolean;
  /**
   * False for a while after the lease was taken over from a holder that did not give it up: a create it had sent may
   * still arrive, so what is absent is not gone yet.
   */
  readonly mayForget: () => boolean;
  readonly session: (key: StageSetKey, uid: string) => Session;
}
