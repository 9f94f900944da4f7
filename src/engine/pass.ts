import type { Look } from "../apply/apply-wave.ts";
import type { Cause, Fact, Results, Snapshot } from "../domain/pass/state.ts";
import type { Access } from "../identity/access.ts";
import type { AskedServices } from "../kms/share-opener.ts";
import type { Logger, Span } from "../lib/telemetry.ts";
import type { Awaited } from "./awaited.ts";
import type { StageSetKey } from "./journal.ts";
import type { Explained } from "./pod-causes.ts";
import type { PassReport } from "./report.ts";
import type { Session } from "./session.ts";

/** Requests of one pass in flight (spec 20 §13). */
export const requestsPerPass = 8;

/** The spec changed, or a source moved on, under the pass: start again at step 1. */
export class StartOver extends Error {
  override name = "StartOver";
}

/** One pass in the making. `results` survive a write conflict, never a new snapshot. */
export interface Pass {
  readonly key: StageSetKey;
  readonly session: Session;
  readonly snapshot: Snapshot;
  readonly causes: ReadonlySet<Cause>;
  readonly facts: Map<string, Fact>;
  results: Results;
  readonly report: PassReport;
  /** Adds who the pass is about to each record. */
  readonly logger: Logger;
  readonly span: Span;
  /** Remote targets as they were read in this pass, by identity. */
  readonly connections: Map<string, Promise<Access>>;
  /** What was looked at to judge readiness, by stage. */
  readonly looked: Map<string, Looked>;
  /** Services that were asked to open what is encrypted. */
  readonly kmsCalls: AskedServices;
  /** Hashes of objects with images that this pass has a verdict about. */
  readonly judged: Set<string>;
  /** What the preflight found that can be written, by stage and object id. */
  readonly looksAhead: Map<string, Map<string, LookAhead>>;
}

/** What the preflight found of one object. */
export interface LookAhead {
  readonly look: Look;
  /** Of the manifest that was dry-run. */
  readonly hash: string;
  /** Monotonic ms. */
  readonly lookedAt: number;
}

/** What a pass looked at for one stage, and when. */
export interface Looked {
  readonly access: Access;
  readonly awaited: readonly Awaited[];
  /** Workloads that are not ready and whose pods can be asked. */
  explained: readonly Explained[];
  /** Monotonic ms. */
  readonly lookedAt: number;
}
