import type { SourceRef } from "../api/stage-set.ts";
import type { OwnerLabels } from "../build/draft.ts";
import type { RenderedObject } from "../domain/rendered.ts";
import type { RunKey } from "./job-manifest.ts";
import type { Access } from "../identity/access.ts";
import type { Random } from "../lib/random.ts";
import type { Clock } from "../lib/clock.ts";
import type { GuardedFetch } from "../outbound/guard.ts";
import type { KubeObject } from "../lib/kube-object.ts";

/** What an expression says of an object; `error`: not evaluable, which counts as not true yet. */
export type Evaluation =
  | { readonly kind: "value"; readonly value: boolean }
  | { readonly kind: "error" | "overBudget"; readonly message: string };

/** What a job or apply action builds: an artifact as it is now, without substitution and patches. */
export interface ActionBuild {
  readonly sourceRef: SourceRef;
  /** Default: `./`. */
  readonly path: string | undefined;
  /** Put on every object; those that are undefined are taken off. */
  readonly labels: OwnerLabels;
}

export interface ActionArtifact {
  readonly objects: readonly RenderedObject[];
  readonly digest: string;
}

/** What a patch makes of an object, as the API server says it would. */
export interface PatchedObject {
  readonly group: string;
  readonly kind: string;
  readonly namespace: string;
  readonly before: unknown;
  readonly after: unknown;
}

/** Everything an action works with. */
export interface ActionContext {
  /** The StageSet. */
  readonly owner: { readonly namespace: string; readonly name: string; readonly uid: string };
  /** What tells the Jobs of this run from those of others. */
  readonly run: Pick<RunKey, "list" | "action" | "ledgerKey" | "tokens" | "after">;
  /** @throws {ActionError} */
  readonly build: (build: ActionBuild, attempt: Attempt) => Promise<ActionArtifact>;
  /** Whether any image has to be judged now: without policies nobody needs to read what is patched. */
  readonly judgesImages: () => boolean;
  /** Whether a patch may bring its target the images that are new to it. @throws {ActionError} */
  readonly judgePatch: (patched: PatchedObject, signal: AbortSignal) => Promise<void>;
  readonly random: Random;
  /** Of the StageSet. */
  readonly namespace: string;
  /** As the action's identity, on the target cluster; live tokens, however long it takes. */
  readonly access: (signal: AbortSignal) => Promise<Access>;
  /** The same identity in the controller's own cluster: where the Secrets of a request are. */
  readonly homeAccess: (signal: AbortSignal) => Promise<Access>;
  /** The target is another cluster than the controller's own. */
  readonly isRemote: boolean;
  readonly fetch: GuardedFetch;
  /** False once another process may work on the StageSet: then nothing is sent any more (spec 60 §4). */
  readonly mayWrite: () => boolean;
  /** `--allowed-action-hosts`; undefined: any host that is not denied. */
  readonly isAllowedHost: ((host: string) => boolean) | undefined;
  readonly evaluate: (expression: string, object: KubeObject, signal: AbortSignal) => Promise<Evaluation>;
  readonly clock: Clock;
  /** Aborts when the action is to end without an outcome. */
  readonly signal: AbortSignal;
}

/** One attempt of an action. */
export interface Attempt {
  readonly context: ActionContext;
  readonly access: Access;
  /** Aborts with the context's signal, or when the action's time is out. */
  readonly signal: AbortSignal;
  /** The action's `timeout` is set and bounds the attempt; if not, the verb has a bound of its own. */
  readonly bounded: boolean;
  /** What a delete action found first: kept for the attempts that follow, which are to delete no other object. */
  readonly deleting: { uid: string | undefined };
  /** What the action waits for now, for the message should its time run out. */
  readonly waitsFor: (cause: string) => void;
}

export type { CreatedJob } from "../domain/actions/action-run.ts";
