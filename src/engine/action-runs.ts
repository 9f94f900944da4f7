import { runAction } from "../actions/run-action.ts";
import type { ActionContext } from "../actions/context.ts";
import { deleteJobs } from "../actions/delete-jobs.ts";
import type { ActionCall, ActionOutcome, CreatedJob } from "../domain/actions/action-run.ts";
import type { Access } from "../identity/access.ts";
import { Shutdown } from "../lib/abort.ts";
import type { Clock } from "../lib/clock.ts";
import type { Random } from "../lib/random.ts";
import type { Logger } from "../lib/telemetry.ts";
import type { GuardedFetch } from "../outbound/guard.ts";
import type { Cel } from "./facts/cel.ts";
import type { StageSetKey } from "./journal.ts";

/**
 * Actions run beside the passes, one of a StageSet at a time: one may take minutes, and no pass keeps its place for that
 * (spec 30 §2.2).
 */
export interface ActionRuns extends Disposable {
  /**
   * Runs the action; `ended` is told what came of it, and then the key is woken. Neither happens once it is abandoned, and
   * nothing runs once all are disposed of.
   */
  start(key: StageSetKey, work: ActionWork): void;
  /** Deletes Jobs whose completion is on record, as soon as it can be done; what cannot removes itself in a day. */
  cleanUp(done: { readonly jobs: readonly CreatedJob[]; readonly access: ActionWork["access"] }): void;
  /** Ends what runs for the StageSet, at its next request or wait. */
  abandon(key: StageSetKey): void;
}

export interface ActionWork {
  readonly call: ActionCall;
  /** As the action's identity on the target cluster, opened anew by each attempt. */
  readonly access: (signal: AbortSignal) => Promise<Access>;
  readonly homeAccess: (signal: AbortSignal) => Promise<Access>;
  readonly isRemote: boolean;
  readonly build: ActionContext["build"];
  readonly ended: (outcome: ActionOutcome) => void;
}

export interface ActionRunsOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly cel: Cel;
  readonly random: Random;
  readonly fetch: GuardedFetch;
  /** Whether this process holds the lease; clients of clusters refuse their writes by themselves. */
  readonly mayWrite: () => boolean;
  /** `--allowed-action-hosts`; undefined: any host that is not denied. */
  readonly isAllowedHost: ((host: string) => boolean) | undefined;
  readonly wake: (key: StageSetKey) => void;
}

export function createActionRuns(options: ActionRunsOptions): ActionRuns {
  const { clock, cel } = options;
  const running = new Map<string, AbortController>();
  const stopping = new AbortController();

  const run = async (
    key: StageSetKey,
    { call, access, homeAccess, isRemote, build }: ActionWork,
    signal: AbortSignal,
  ): Promise<ActionOutcome> => {
    const { action, stage, list } = call;
    const about = options.logger.with({ ...key, stage, list, action: action.name });
    const startedAt = clock.monotonic();
    let artifactDigest: string | undefined;
    about.info("running action");
    try {
      const outcome = await runAction(action, {
        namespace: key.namespace,
        owner: { ...key, uid: call.uid },
        run: {
          list: `${list}:${call.migration?.key ?? stage}`,
          action: action.name,
          ledgerKey: call.ledgerKey,
          tokens: call.tokens,
        },
        build: async (wanted, attempt) => {
          const built = await build(wanted, attempt);
          artifactDigest = built.digest;
          return built;
        },
        random: options.random,
        access,
        homeAccess,
        isRemote,
        fetch: options.fetch,
        mayWrite: options.mayWrite,
        isAllowedHost: options.isAllowedHost,
        evaluate: (expression, object, aborted) =>
          cel.evaluate(expression, object, { queue: key.namespace, signal: aborted }),
        clock,
        signal,
      });
      const seconds = (clock.monotonic() - startedAt) / 1_000;
      if (outcome.kind === "completed") about.info("action completed", { seconds });
      else about.warn("action failed", { seconds, error: outcome.cause });
      return outcome.kind === "completed" ? { ...outcome, artifactDigest } : outcome;
    } catch (error) {
      if (!signal.aborted) about.error("an action failed for an unexpected reason", { error });
      const cause = "failed for an unexpected reason, which the controller's log tells";
      return { kind: "failed", cause, class: "ordinary" };
    }
  };
  const abandon = (name: string, reason: Error): void => {
    running.get(name)?.abort(reason);
    running.delete(name);
  };
  return {
    start(key, work) {
      // A pass that comes to its end while the controller stops.
      if (stopping.signal.aborted) return;
      const name = nameOf(key);
      abandon(name, new Error("another action takes its place"));
      const abort = new AbortController();
      running.set(name, abort);
      // It never rejects.
      void run(key, work, abort.signal).then((outcome) => {
        if (abort.signal.aborted) return;
        running.delete(name);
        work.ended(outcome);
        options.wake(key);
      });
    },
    cleanUp({ jobs, access }) {
      if (jobs.length > 0) void deleteJobs({ jobs, access }, { clock, signal: stopping.signal });
    },
    abandon: (key) => abandon(nameOf(key), new Error("the StageSet is going")),
    [Symbol.dispose]() {
      stopping.abort(new Shutdown("the controller stops"));
      for (const name of [...running.keys()]) abandon(name, new Shutdown("the controller stops"));
    },
  };
}

function nameOf({ namespace, name }: StageSetKey): string {
  return `${namespace}/${name}`;
}
