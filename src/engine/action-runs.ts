import { runAction } from "../actions/run-action.ts";
import type { ActionContext } from "../actions/context.ts";
import { deleteJobs } from "../actions/delete-jobs.ts";
import type { ActionCall, ActionOutcome, CreatedJob } from "../domain/actions/action-run.ts";
import type { Access } from "../identity/access.ts";
import { deadline, Shutdown } from "../lib/abort.ts";
import { abortable } from "../lib/abortable.ts";
import type { Clock } from "../lib/clock.ts";
import type { Random } from "../lib/random.ts";
import type { Logger, Span } from "../lib/telemetry.ts";
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
  /**
   * Starts nothing more and ends what runs at once, but for http exchanges, whose effect may be there already: they have
   * until they are done, at most 20 s (spec 30 §4.6). Resolves when the last has ended or is given up; `ended` of each is told.
   */
  drain(): Promise<void>;
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
  readonly judgesImages: ActionContext["judgesImages"];
  readonly judgePatch: ActionContext["judgePatch"];
  readonly ended: (outcome: ActionOutcome) => void;
  /** Shows the run; ended with it. */
  readonly span?: Span;
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
  /** How long a run took. */
  readonly measured?: (seconds: number) => void;
}

/** How long http exchanges have when the process stops (spec 30 §4.6). */
const drainMs = 20_000;

interface Running {
  readonly key: StageSetKey;
  readonly abort: AbortController;
  /** A request was sent, and its answer may be on its way. */
  exchanging: boolean;
  done: Promise<void>;
}

export function createActionRuns(options: ActionRunsOptions): ActionRuns {
  const { clock, cel } = options;
  const running = new Map<string, Running>();
  const stopping = new AbortController();
  let draining = false;
  const stopped = (): Shutdown => new Shutdown("the controller stops");

  const run = async (
    key: StageSetKey,
    { call, access, homeAccess, isRemote, build, judgesImages, judgePatch }: ActionWork,
    { abort: { signal }, ...of }: Pick<Running, "abort"> & { readonly exchange: GuardedFetch },
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
          after: call.after,
        },
        build: async (wanted, attempt) => {
          const built = await build(wanted, attempt);
          artifactDigest = built.digest;
          return built;
        },
        judgesImages,
        judgePatch,
        random: options.random,
        access,
        homeAccess,
        isRemote,
        fetch: of.exchange,
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
    } finally {
      options.measured?.((clock.monotonic() - startedAt) / 1_000);
    }
  };
  /** No exchange begins once the process stops. */
  const exchangeOf =
    (run: Running): GuardedFetch =>
    async (url, o) => {
      const stop = (): void => {
        if (draining) run.abort.abort(stopped());
      };
      stop();
      run.abort.signal.throwIfAborted();
      run.exchanging = true;
      try {
        return await options.fetch(url, o);
      } catch (error) {
        run.exchanging = false;
        // It would only wait for another attempt.
        stop();
        throw error;
      }
    };
  const abandon = (name: string, reason: Error): void => {
    running.get(name)?.abort.abort(reason);
    running.delete(name);
  };
  return {
    start(key, work) {
      // A pass that comes to its end while the controller stops.
      if (stopping.signal.aborted || draining) return;
      const name = nameOf(key);
      abandon(name, new Error("another action takes its place"));
      const abort = new AbortController();
      const started: Running = { key, abort, exchanging: false, done: Promise.resolve() };
      running.set(name, started);
      // It never rejects.
      started.done = run(key, work, { abort, exchange: exchangeOf(started) }).then((outcome) => {
        if (outcome.kind === "failed" && !abort.signal.aborted) work.span?.fail(outcome.cause);
        work.span?.end();
        if (abort.signal.aborted) return;
        running.delete(name);
        work.ended(outcome);
        options.wake(key);
      });
    },
    async drain() {
      draining = true;
      const left = [...running].filter(([, { exchanging }]) => exchanging && options.mayWrite());
      const names = new Set(left.map(([name]) => name));
      for (const name of [...running.keys()]) if (!names.has(name)) abandon(name, stopped());
      using bound = deadline(clock, { timeoutMs: drainMs, what: "the last exchanges" });
      const all = Promise.all(left.map(([, { done }]) => done));
      await abortable(all, bound.signal).catch(() => undefined);
      for (const name of [...running.keys()]) abandon(name, stopped());
    },
    cleanUp({ jobs, access }) {
      if (jobs.length > 0) void deleteJobs({ jobs, access }, { clock, signal: stopping.signal });
    },
    abandon: (key) => abandon(nameOf(key), new Error("the StageSet is going")),
    [Symbol.dispose]() {
      stopping.abort(stopped());
      for (const name of [...running.keys()]) abandon(name, stopped());
    },
  };
}

function nameOf({ namespace, name }: StageSetKey): string {
  return `${namespace}/${name}`;
}
